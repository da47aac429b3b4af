package apply

import (
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"nodesmith.dev/nodesmith/internal/node"
	"nodesmith.dev/nodesmith/internal/testenv"
)

// with returns the minimal tree with some entries more.
func with(entries map[string]string) map[string]string {
	all := maps.Clone(minimal)
	maps.Copy(all, entries)
	return all
}

func TestRunStaysInTheTreeWhateverLinksSay(t *testing.T) {
	testenv.NeedRoot(t)
	outside := t.TempDir()
	victim := filepath.Join(outside, "victim")
	if err := os.WriteFile(victim, []byte("untouched"), 0o600); err != nil {
		t.Fatal(err)
	}
	up := strings.Repeat("../", 30) + strings.TrimPrefix(outside, "/")
	target := plant(t, with(map[string]string{
		"srv/absolute -> ": outside,
		"srv/up -> ":       up,
		"srv/file -> ":     victim,
		"home/eve -> ":     outside,
	}))
	err := apply(t, target, "", node.Config{
		Removals: []string{"/srv/up/vic*", "/srv/absolute/*"},
		Files: []node.File{
			{Path: "/srv/absolute/victim", Content: "a"},
			{Path: "/srv/up/other", Content: "b"},
			{Path: "/srv/file", Content: "c"},
		},
		Users: []node.User{{Name: "eve", SSHAuthorizedKeys: []string{adaKey}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(victim); err != nil || string(got) != "untouched" {
		t.Errorf("the file outside: %q, %v", got, err)
	}
	entries, err := os.ReadDir(outside)
	if err != nil || len(entries) != 1 {
		t.Errorf("outside there is %v, %v", entries, err)
	}
	for name, want := range map[string]string{
		filepath.Join(outside, "victim"): "a", filepath.Join(outside, "other"): "b", "srv/file": "c",
	} {
		if got, err := os.ReadFile(filepath.Join(target, name)); err != nil || string(got) != want {
			t.Errorf("inside, %s: %q, %v", name, got, err)
		}
	}
}

func TestRunRefuses(t *testing.T) {
	testenv.NeedRoot(t)
	tests := map[string]struct {
		tree   map[string]string
		files  map[string]string
		config node.Config
		want   string
	}{
		"source that links out of the files": {
			files:  map[string]string{"shadow -> ": "/etc/shadow"},
			config: node.Config{Files: []node.File{{Path: "/etc/a", Source: "shadow"}}},
			want:   "escapes",
		},
		"source that is a directory": {
			files:  map[string]string{"d/a": ""},
			config: node.Config{Files: []node.File{{Path: "/etc/a", Source: "d"}}},
			want:   "not a regular file",
		},
		"source that is not there": {
			config: node.Config{Files: []node.File{{Path: "/etc/a", Source: "d"}}},
			want:   "/etc/a: source",
		},
		"links in a circle": {
			tree:   map[string]string{"srv/a -> ": "b", "srv/b -> ": "/srv/a"},
			config: node.Config{Files: []node.File{{Path: "/srv/a/x"}}},
			want:   "symbolic links",
		},
		"file in the place of a directory": {
			config: node.Config{Files: []node.File{{Path: "/usr/bin"}}},
			want:   "it is a directory",
		},
		"directory below a file": {
			config: node.Config{Directories: []node.Directory{{Path: "/etc/skel/.profile/x"}}},
			want:   "not a directory",
		},
		"owner that is not there": {
			config: node.Config{Files: []node.File{{Path: "/etc/a", Owner: node.Owner{User: "eve"}}}},
			want:   "there is no user eve",
		},
		"group that is not there": {
			config: node.Config{Users: []node.User{{Name: "ada", Groups: []string{"wheel"}}}},
			want:   "user ada: there is no group wheel",
		},
		"shell that is not there": {
			config: node.Config{Users: []node.User{{Name: "ada", Shell: "/bin/zsh"}}},
			want:   "its shell /bin/zsh is not in the image",
		},
		"shell of an account that has another": {
			config: node.Config{Users: []node.User{{Name: "root", Shell: "/bin/zsh"}}},
			want:   "has the shell /bin/bash",
		},
		"user with the name of a group": {
			config: node.Config{Users: []node.User{{Name: "adm"}}},
			want:   "a group of that name exists",
		},
		"number of another user": {
			config: node.Config{Users: []node.User{{Name: "ada", ID: 1000}, {Name: "bob", ID: 1000}}},
			want:   "user bob: the number 1000 is that of ada",
		},
		"number of another group": {
			config: node.Config{Groups: []node.Group{{Name: "staff", ID: 1000}}, Users: []node.User{{Name: "ada", ID: 1000}}},
			want:   "user ada: the number 1000 is that of staff",
		},
		"another number for an account that is there": {
			config: node.Config{Users: []node.User{{Name: "root", ID: 1000}}},
			want:   "the account exists and has the number 0, not 1000",
		},
		"another number for a group that is there": {
			config: node.Config{Groups: []node.Group{{Name: "adm", ID: 1000}}},
			want:   "group adm: the group exists and has the number 4, not 1000",
		},
		"keys for an account without a home": {
			config: node.Config{Users: []node.User{{Name: "nobody", SSHAuthorizedKeys: []string{adaKey}}}},
			want:   "has no home",
		},
		"unit that is not there": {
			config: node.Config{Units: node.Units{Enable: []string{"x.service"}}},
			want:   "enable x.service: no such unit",
		},
		"unit to disable that is not there": {
			config: node.Config{Units: node.Units{Disable: []string{"x.service"}}},
			want:   "disable x.service: no such unit",
		},
		"unit that can't be enabled": {
			config: node.Config{Units: node.Units{Enable: []string{"static.service"}}},
			want:   "no [Install] section",
		},
		"unit that is masked": {
			tree:   map[string]string{"etc/systemd/system/a.service -> ": "/dev/null"},
			config: node.Config{Units: node.Units{Enable: []string{"a.service"}}},
			want:   "masked",
		},
		"unit whose links are paths": {
			tree:   map[string]string{"usr/lib/systemd/system/p.service": "[Install]\nWantedBy=../../../x\n"},
			config: node.Config{Units: node.Units{Enable: []string{"p.service"}}},
			want:   "can't make links",
		},
		"mask of the administrator's own unit": {
			tree:   map[string]string{"etc/systemd/system/own.service": "[Service]\n"},
			config: node.Config{Units: node.Units{Mask: []string{"own.service"}}},
			want:   "a unit of its own",
		},
		"broken passwd": {
			tree: map[string]string{"etc/passwd": "root:x:0\n"},
			want: "/etc/passwd:1 has 3 fields",
		},
		"machine-id":         {tree: map[string]string{"etc/machine-id": "0123\n"}, want: "machine-id holds an id"},
		"password":           {tree: map[string]string{"etc/shadow": "root:$y$x:1::::::\n"}, want: "the account root has a password"},
		"empty password":     {tree: map[string]string{"etc/shadow": "root::1::::::\n"}, want: "the account root has a password"},
		"password in passwd": {tree: map[string]string{"etc/passwd": "root::0:0::/root:/bin/bash\n"}, want: "has a password in /etc/passwd"},
		"build user": {
			tree: map[string]string{"etc/passwd": minimal["etc/passwd"] + "builder:x:1000:1000::/home/builder:/bin/bash\n"},
			want: "the account builder (uid 1000) is a person's and nobody asked for it",
		},
		"host key behind a link": {
			tree:   map[string]string{"srv/ssh -> ": "/etc/ssh"},
			config: node.Config{Files: []node.File{{Path: "/srv/ssh/ssh_host_rsa_key", Content: "x"}}},
			want:   "/etc/ssh/ssh_host_rsa_key has to be made by each node",
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			target := plant(t, with(tt.tree))
			err := apply(t, target, plant(t, tt.files), tt.config)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v does not say %q", err, tt.want)
			}
		})
	}
}

func TestResolveGoesTheWayTheNodeWould(t *testing.T) {
	target := plant(t, map[string]string{
		"usr/bin/sh":    "",
		"bin -> ":       "usr/bin",
		"a/abs -> ":     "/usr",
		"a/up -> ":      "../../../usr/bin",
		"a/dangle -> ":  "/not/here",
		"a/self -> ":    ".",
		"a/root -> ":    "/",
		"a/slashes -> ": "//usr//./bin/",
	})
	tr, err := openTree(target, epoch)
	if err != nil {
		t.Fatal(err)
	}
	defer tr.close()
	tests := []struct {
		path   string
		follow bool
		want   string
	}{
		{"/", true, "."},
		{"/bin", false, "bin"},
		{"/bin", true, "usr/bin"},
		{"/bin/sh", false, "usr/bin/sh"},
		{"/a/abs/bin/sh", true, "usr/bin/sh"},
		{"/a/up/sh", true, "usr/bin/sh"},
		{"/a/dangle", true, "not/here"},
		{"/a/dangle/x", false, "not/here/x"},
		{"/a/self/self/abs", true, "usr"},
		{"/a/root/bin", true, "usr/bin"},
		{"/a/root", true, "."},
		{"/a/slashes/sh", true, "usr/bin/sh"},
		{"/../../bin", false, "bin"},
		{"/new/../bin/sh", false, "usr/bin/sh"},
	}
	for _, tt := range tests {
		if got, err := tr.resolve(tt.path, tt.follow); err != nil || got != tt.want {
			t.Errorf("resolve(%s, %v) = %s, %v; want %s", tt.path, tt.follow, got, err, tt.want)
		}
	}
}

// FuzzParseAccounts holds that tables read and written are the same text.
func FuzzParseAccounts(f *testing.F) {
	f.Add(minimal["etc/group"])
	f.Add("a:b:c:\n\nx")
	f.Fuzz(func(t *testing.T, text string) {
		tab := table{path: "/etc/group", fields: 4}
		if tab.parse(text) != nil {
			return
		}
		again := table{path: "/etc/group", fields: 4}
		if err := again.parse(tab.String()); err != nil {
			t.Fatal(err)
		}
		if again.String() != tab.String() {
			t.Fatalf("%q became %q", tab.String(), again.String())
		}
	})
}
