package node

import (
	"bytes"
	"encoding/json"
	"reflect"
	"strings"
	"testing"

	"nodesmith.dev/nodesmith/internal/fault"
)

// testKey is a public key made for these tests; its private half was thrown away.
const testKey = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAILelIEc8PCqBKlAOxBnne21qhzQ6xMp1Ri6kT6GXPs1V test"

func TestDecodeReadsWhatEncodingWrote(t *testing.T) {
	want := Config{
		Removals:    []string{"/etc/motd"},
		Directories: []Directory{{Path: "/srv/data", Mode: 0o1777, Owner: Owner{User: "ada", Group: "100"}}},
		Files:       []File{{Path: "/etc/a", Mode: 0o600, Content: "a\n"}, {Path: "/etc/b", Source: "dir/b"}},
		Links:       []Link{{Path: "/etc/c", Target: "a"}},
		Users:       []User{{Name: "ada", SSHAuthorizedKeys: []string{testKey}, Groups: []string{"adm"}, Sudo: true}},
		Sysctls:     map[string]string{"vm.max_map_count": "262144"},
		Units:       Units{Enable: []string{"a@b.service"}, Mask: []string{"c.timer"}},

		KernelModules: []string{"nbd"}, TimeZone: "Europe/Berlin", Cuts: []Cut{{Path: "/etc/d", Lines: "^a"}},
	}
	data, err := json.Marshal(want)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Contains(data, []byte(`"mode":"1777","user":"ada"`)) {
		t.Errorf("modes are not octal text, or owners not beside them: %s", data)
	}
	got, err := Decode(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
}

func TestDecodeRefuses(t *testing.T) {
	tests := map[string]struct{ in, want string }{
		"unknown field":         {`{"fils": []}`, `unknown field "fils"`},
		"decimal mode":          {`{"files": [{"path": "/a/b", "mode": 420}]}`, "mode"},
		"mode not octal":        {`{"files": [{"path": "/a/b", "mode": "0888"}]}`, `"0888" is not octal`},
		"mode too large":        {`{"files": [{"path": "/a/b", "mode": "10000"}]}`, "up to 7777"},
		"second value":          {`{} {}`, "more than one JSON value"},
		"relative path":         {`{"files": [{"path": "etc/a"}]}`, `files[0].path: "etc/a" is not an absolute path`},
		"dots in path":          {`{"files": [{"path": "/etc/../root/a"}]}`, "not an absolute path"},
		"dots in source":        {`{"files": [{"path": "/a/b", "source": "../shadow"}]}`, "files[0].source"},
		"absolute source":       {`{"files": [{"path": "/a/b", "source": "/etc/shadow"}]}`, "files[0].source"},
		"content and source":    {`{"files": [{"path": "/a/b", "source": "b", "content": "b"}]}`, "both content and source"},
		"path twice":            {`{"files": [{"path": "/a/b"}], "links": [{"path": "/a/b", "target": "c"}]}`, "given at files[0].path already"},
		"account file":          {`{"files": [{"path": "/etc/shadow"}]}`, "written from users"},
		"host key":              {`{"files": [{"path": "/etc/ssh/ssh_host_rsa_key"}]}`, "made by each node"},
		"cloud-init state":      {`{"files": [{"path": "/var/lib/cloud/seed/nocloud/user-data"}]}`, "made by each node"},
		"machine-id":            {`{"files": [{"path": "/etc/machine-id", "content": "x"}]}`, "has to be empty"},
		"empty link":            {`{"links": [{"path": "/a/b", "target": ""}]}`, "links[0].target"},
		"removal of all":        {`{"removals": ["/*"]}`, "top directories"},
		"removal of root":       {`{"removals": ["/"]}`, "not an absolute path"},
		"broken glob":           {`{"removals": ["/etc/["]}`, "not a glob"},
		"owner":                 {`{"files": [{"path": "/a/b", "user": "a:b"}]}`, "neither a name nor a decimal id"},
		"user name":             {`{"users": [{"name": "Ada:0"}]}`, "users[0].name"},
		"user twice":            {`{"users": [{"name": "ada"}, {"name": "ada"}]}`, "given at users[0].name already"},
		"shell with colon":      {`{"users": [{"name": "ada", "shell": "/bin/sh:0"}]}`, "can't be written to /etc/passwd"},
		"key of two lines":      {`{"users": [{"name": "ada", "sshAuthorizedKeys": ["a\nb"]}]}`, "more than one line"},
		"private key":           {`{"users": [{"name": "ada", "sshAuthorizedKeys": ["-----BEGIN OPENSSH PRIVATE KEY-----"]}]}`, "is a private key"},
		"key cut short":         {`{"users": [{"name": "ada", "sshAuthorizedKeys": ["ssh-ed25519 AAAA"]}]}`, "is not a public key"},
		"key of another type":   {`{"users": [{"name": "ada", "sshAuthorizedKeys": ["ssh-rsa ` + strings.Fields(testKey)[1] + `"]}]}`, "is not a public key"},
		"sysctl name":           {`{"sysctls": {"x = 1\ny": "1"}}`, "not a kernel parameter"},
		"sysctl value":          {`{"sysctls": {"vm.x": "1\nkernel.y = 2"}}`, "not one line"},
		"unit without type":     {`{"units": {"enable": ["kubelet"]}}`, "full name of a unit"},
		"unit as path":          {`{"units": {"mask": ["../../passwd.service"]}}`, "full name of a unit"},
		"module file":           {`{"kernelModules": ["nbd.ko"]}`, "not the name of a kernel module"},
		"module twice":          {`{"kernelModules": ["nbd", "nbd"]}`, "given at kernelModules[0] already"},
		"list of modules":       {`{"files": [{"path": "/etc/modules-load.d/user.conf"}]}`, "written from kernelModules"},
		"zone above the zones":  {`{"timeZone": "../../etc/shadow"}`, "not a time zone"},
		"zone as a file":        {`{"files": [{"path": "/etc/localtime"}]}`, "written from timeZone"},
		"cut of nothing":        {`{"cuts": [{"path": "/etc/a", "lines": ""}]}`, "cuts[0].lines"},
		"two lines instead":     {`{"cuts": [{"path": "/etc/a", "lines": "a", "instead": "b\nc"}]}`, "is more than a line"},
		"broken cut":            {`{"cuts": [{"path": "/etc/a", "lines": "("}]}`, "not a regular expression"},
		"store without paths":   {`{"trust": {"certificates": [{"name": "a"}]}}`, "trust.bundle"},
		"certificate's name":    {`{"trust": {"certificates": [{"name": "../a"}]}}`, "trust.certificates[0].name"},
		"certificate's hash":    {`{"trust": {"certificates": [{"name": "a", "subjectHash": "../../x"}]}}`, "trust.certificates[0].subjectHash"},
		"key as a certificate":  {`{"trust": {"certificates": [{"name": "a", "pem": "-----BEGIN PRIVATE KEY-----\n"}]}}`, "not exactly one certificate"},
		"masked and enabled":    {`{"units": {"enable": ["a.service"], "mask": ["a.service"]}}`, "given at units.enable[0] already"},
		"all defects at once 1": {`{"links": [{"path": "a", "target": ""}], "users": [{"name": ""}]}`, "links[0].path"},
		"all defects at once 2": {`{"links": [{"path": "a", "target": ""}], "users": [{"name": ""}]}`, "users[0].name"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			_, err := Decode(strings.NewReader(tt.in))
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Fatalf("error %v does not say %q", err, tt.want)
			}
			if k := fault.KindOf(err); k != fault.BadSpec {
				t.Errorf("kind %v", k)
			}
		})
	}
}

func TestValidateRefusesContentThatJSONWouldChange(t *testing.T) {
	c := Config{Files: []File{{Path: "/etc/a", Content: "\xff"}}}
	if err := c.Validate(); err == nil || !strings.Contains(err.Error(), "files[0].content: is not UTF-8") {
		t.Errorf("error %v", err)
	}
}

func TestWithLetsTheSecondWin(t *testing.T) {
	base := Config{
		Files:   []File{{Path: "/etc/a", Content: "base"}, {Path: "/etc/b", Content: "base"}},
		Links:   []Link{{Path: "/etc/resolv.conf", Target: "x"}},
		Users:   []User{{Name: "ada"}},
		Sysctls: map[string]string{"vm.a": "1", "vm.b": "1"},
		Units:   Units{Enable: []string{"a.service", "b.service"}, Mask: []string{"c.timer"}},
	}
	over := Config{
		Files:   []File{{Path: "/etc/resolv.conf", Content: "nameserver ::1\n"}, {Path: "/etc/a", Content: "over"}},
		Users:   []User{{Name: "ada", Sudo: true}, {Name: "bob"}},
		Sysctls: map[string]string{"vm.b": "2"},
		Units:   Units{Enable: []string{"c.timer"}, Mask: []string{"b.service"}},
	}
	want := Config{
		Files: []File{
			{Path: "/etc/b", Content: "base"},
			{Path: "/etc/resolv.conf", Content: "nameserver ::1\n"}, {Path: "/etc/a", Content: "over"},
		},
		Links:   []Link{},
		Users:   over.Users,
		Sysctls: map[string]string{"vm.a": "1", "vm.b": "2"},
		Units:   Units{Enable: []string{"a.service", "c.timer"}, Mask: []string{"b.service"}},
	}
	got := base.With(over)
	if g, w := encode(t, got), encode(t, want); g != w {
		t.Errorf("got\n%s\nwant\n%s", g, w)
	}
	if err := got.Validate(); err != nil {
		t.Error(err)
	}
	if base.Sysctls["vm.b"] != "1" || base.Files[0].Content != "base" {
		t.Error("With changed its receiver")
	}
}

func encode(t *testing.T, c Config) string {
	t.Helper()
	data, err := json.MarshalIndent(c, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	return string(data) + "\n"
}

// FuzzDecode holds that what Decode takes is valid and survives a round trip.
func FuzzDecode(f *testing.F) {
	f.Add(`{"files": [{"path": "/etc/a", "mode": "0644", "content": "x"}]}`)
	f.Add(`{"users": [{"name": "ada", "sshAuthorizedKeys": ["` + testKey + `"]}]}`)
	f.Add(`{"removals": ["/var/log/*"], "sysctls": {"vm.x": "1"}, "units": {"mask": ["a.timer"]}}`)
	f.Fuzz(func(t *testing.T, in string) {
		c, err := Decode(strings.NewReader(in))
		if err != nil {
			return
		}
		first := encode(t, c)
		again, err := Decode(strings.NewReader(first))
		if err != nil {
			t.Fatalf("%s: %v", first, err)
		}
		if second := encode(t, again); second != first {
			t.Fatalf("got\n%s\nwant\n%s", second, first)
		}
	})
}
