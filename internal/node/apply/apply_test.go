package apply

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"nodesmith.dev/nodesmith/internal/node"
	"nodesmith.dev/nodesmith/internal/testenv"
)

var epoch = time.Unix(1_760_000_000, 0).UTC()

// adaKey is a public key made for these tests; its private half was thrown away.
const adaKey = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAILelIEc8PCqBKlAOxBnne21qhzQ6xMp1Ri6kT6GXPs1V test"

// minimal is a Debian tree as far as this package looks at it: merged /usr,
// absolute links as packages make them, accounts, a unit, and a builder's state.
var minimal = map[string]string{
	"bin -> ":                               "usr/bin",
	"lib -> ":                               "usr/lib",
	"var/run -> ":                           "/run",
	"etc/resolv.conf":                       "nameserver 192.0.2.1\n",
	"etc/hostname":                          "builder\n",
	"etc/machine-id":                        "",
	"etc/passwd":                            "root:x:0:0:root:/root:/bin/bash\nsshd:x:100:65534::/run/sshd:/usr/sbin/nologin\nnobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n",
	"etc/group":                             "root:x:0:\nadm:x:4:syslog\nutmp:x:43:\n",
	"etc/shadow":                            "root:*:20000:0:99999:7:::\nsshd:!:20000::::::\nnobody:*:20000:0:99999:7:::\n",
	"etc/gshadow":                           "root:*::\nadm:*::syslog\nutmp:*::\n",
	"etc/passwd-":                           "root:x:0:0:root:/root:/bin/bash\n",
	"etc/skel/.profile":                     "umask 077\n",
	"etc/skel/dir/file":                     "x\n",
	"etc/ssh/ssh_host_rsa_key":              "secret\n",
	"etc/sudoers.d/README":                  "# nothing\n",
	"root/.bash_history":                    "reboot\n",
	"root/.ssh/authorized_keys":             "ssh-rsa builder\n",
	"run/lock/x":                            "",
	"tmp/.hidden/x":                         "",
	"usr/bin/bash":                          "",
	"usr/lib/systemd/system/a.service":      "[Service]\nExecStart=/bin/a\n[Install]\nWantedBy=multi-user.target \\\n  b.target\nAlias=c.service\nAlso=a.socket\n",
	"usr/lib/systemd/system/a.socket":       "[Socket]\nListenStream=1\n[Install]\nRequiredBy=sockets.target\n",
	"usr/lib/systemd/system/t@.timer":       "[Install]\nWantedBy=timers.target\n",
	"usr/lib/systemd/system/static.service": "[Service]\nExecStart=/bin/a\n",
	"var/cache/apt/pkgcache.bin":            "x",
	"var/lib/cloud/instance/id":             "i-builder\n",
	"var/lib/dbus/machine-id":               "0123456789abcdef0123456789abcdef\n",
	"var/lib/systemd/random-seed":           "seed",
	"var/log/apt/term.log":                  "log\n",
	"var/log/wtmp":                          "log\n",
}

// plant makes a tree; a name that ends in " -> " is a link.
func plant(t *testing.T, entries map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, content := range entries {
		link, isLink := strings.CutSuffix(name, " -> ")
		p := filepath.Join(dir, link)
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			t.Fatal(err)
		}
		var err error
		if isLink {
			err = os.Symlink(content, p)
		} else {
			err = os.WriteFile(p, []byte(content), 0o640)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func apply(t *testing.T, target, files string, c node.Config) error {
	t.Helper()
	return Run(t.Context(), Options{Target: target, Files: files, Time: epoch, Log: t.Output()}, c)
}

// listing describes everything in a tree but the times of directories that
// nothing was written to.
func listing(t *testing.T, dir string) string {
	t.Helper()
	var b strings.Builder
	err := filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		var st unix.Stat_t
		if err := unix.Lstat(p, &st); err != nil {
			return err
		}
		content := ""
		switch {
		case d.Type() == fs.ModeSymlink:
			content, err = os.Readlink(p)
		case d.Type().IsRegular():
			var data []byte
			data, err = os.ReadFile(p)
			content = string(data)
		}
		fmt.Fprintf(&b, "%s %o %d:%d %d %q\n", strings.TrimPrefix(p, dir), st.Mode, st.Uid, st.Gid, st.Mtim.Sec, content)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}

var full = node.Config{
	Removals:    []string{"/usr/lib/systemd/system/static.*"},
	Directories: []node.Directory{{Path: "/srv/shared", Mode: 0o2775, Owner: node.Owner{Group: "adm"}}},
	Files: []node.File{
		{Path: "/etc/hostname", Content: "localhost.local\n"},
		{Path: "/usr/local/bin/tool", Mode: 0o4755, Source: "bin/tool"},
		{Path: "/srv/shared/ada", Mode: 0o600, Owner: node.Owner{User: "ada", Group: "ada"}, Content: "x"},
		{Path: "/var/run/made/here", Content: "x"},
		{Path: "/home/ada/.vimrc", Owner: node.Owner{User: "ada", Group: "ada"}, Content: "x"},
	},
	Links: []node.Link{{Path: "/etc/resolv.conf", Target: "../run/systemd/resolve/stub-resolv.conf"}},
	Users: []node.User{
		{Name: "ada", SSHAuthorizedKeys: []string{adaKey}, Groups: []string{"adm"}, Sudo: true},
		{Name: "root", SSHAuthorizedKeys: []string{adaKey}},
	},
	Sysctls: map[string]string{"vm.b": "2", "vm.a": "1"},
	Units:   node.Units{Enable: []string{"a.service", "t@x.timer"}, Mask: []string{"m.timer"}},
}

func TestRunWritesEverythingAsConfigured(t *testing.T) {
	testenv.NeedRoot(t)
	target := plant(t, minimal)
	files := plant(t, map[string]string{"bin/tool": "#!/bin/sh\n"})
	if err := apply(t, target, files, full); err != nil {
		t.Fatal(err)
	}
	got := listing(t, target)
	const when = "1760000000"
	for _, want := range []string{
		`/etc/hostname 100644 0:0 ` + when + ` "localhost.local\n"`,
		`/etc/machine-id 100640 0:0 `,
		`/etc/passwd 100640 0:0 ` + when + ` "root:x:0:0:root:/root:/bin/bash\nsshd:x:100:65534::/run/sshd:/usr/sbin/nologin\nnobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\nada:x:1000:1000::/home/ada:/bin/bash\n"`,
		`/etc/group 100640 0:0 ` + when + ` "root:x:0:\nadm:x:4:syslog,ada\nutmp:x:43:\nada:x:1000:\n"`,
		`nobody:*:20000:0:99999:7:::\nada:*:20370:0:99999:7:::\n"`,
		`/etc/gshadow 100640 0:0 ` + when + ` "root:*::\nadm:*::syslog,ada\nutmp:*::\nada:!::\n"`,
		`/etc/resolv.conf 120777 0:0 ` + when + ` "../run/systemd/resolve/stub-resolv.conf"`,
		`/etc/sudoers.d/90-ada 100440 0:0 ` + when + ` "ada ALL=(ALL:ALL) NOPASSWD: ALL\n"`,
		`/etc/sysctl.d/99-z-user.conf 100644 0:0 ` + when + ` "vm.a = 1\nvm.b = 2\n"`,
		`/etc/systemd/system/m.timer 120777 0:0 ` + when + ` "/dev/null"`,
		`/etc/systemd/system/b.target.wants/a.service 120777 0:0 ` + when + ` "/usr/lib/systemd/system/a.service"`,
		`/etc/systemd/system/c.service 120777 0:0 ` + when + ` "/usr/lib/systemd/system/a.service"`,
		`/etc/systemd/system/multi-user.target.wants/a.service 120777`,
		`/etc/systemd/system/sockets.target.requires/a.socket 120777`,
		`/etc/systemd/system/timers.target.wants/t@x.timer 120777 0:0 ` + when + ` "/usr/lib/systemd/system/t@.timer"`,
		`/home 40755 0:0 ` + when,
		`/home/ada 40700 1000:1000 ` + when,
		`/home/ada/.profile 100640 1000:1000 ` + when + ` "umask 077\n"`,
		`/home/ada/.vimrc 100644 1000:1000 ` + when,
		`/home/ada/dir/file 100640 1000:1000 ` + when,
		`/home/ada/.ssh 40700 1000:1000 ` + when,
		`/home/ada/.ssh/authorized_keys 100600 1000:1000 ` + when,
		`/root/.ssh/authorized_keys 100600 0:0 ` + when,
		`/run/made/here 100644 0:0 ` + when,
		`/srv/shared 42775 0:4 ` + when,
		`/srv/shared/ada 100600 1000:1000 ` + when,
		`/usr/local/bin/tool 104755 0:0 ` + when,
		`/var/log/apt 40755 0:0 ` + when,
		` 40755 0:0 ` + when + ` ""`, // the root directory itself
	} {
		if !strings.Contains(got, want) {
			t.Errorf("the tree lacks %s", want)
		}
	}
	for _, gone := range []string{
		"passwd-", "ssh_host_", "bash_history", "builder", "/run/lock", ".hidden", "static.service",
		"pkgcache", "/var/lib/cloud/", "dbus/machine-id", "random-seed", "term.log", "wtmp",
	} {
		if strings.Contains(got, gone) {
			t.Errorf("the tree still has %s", gone)
		}
	}
	if t.Failed() {
		t.Log(got)
	}
}

func TestRunTwiceIsAsOnce(t *testing.T) {
	testenv.NeedRoot(t)
	target := plant(t, minimal)
	files := plant(t, map[string]string{"bin/tool": "#!/bin/sh\n"})
	if err := apply(t, target, files, full); err != nil {
		t.Fatal(err)
	}
	once := listing(t, target)
	if err := apply(t, target, files, full); err != nil {
		t.Fatal(err)
	}
	if twice := listing(t, target); twice != once {
		t.Errorf("once\n%s\ntwice\n%s", once, twice)
	}
}

func TestRunIsTheSameFromTwoCopies(t *testing.T) {
	testenv.NeedRoot(t)
	files := plant(t, map[string]string{"bin/tool": "#!/bin/sh\n"})
	var got [2]string
	for i := range got {
		target := plant(t, minimal)
		if err := apply(t, target, files, full); err != nil {
			t.Fatal(err)
		}
		// What plant made has the test's time; what Run made has the epoch.
		lines := strings.Split(listing(t, target), "\n")
		for _, l := range lines {
			if strings.Contains(l, " 1760000000 ") {
				got[i] += l + "\n"
			}
		}
	}
	if got[0] != got[1] {
		t.Errorf("first\n%s\nsecond\n%s", got[0], got[1])
	}
}

func TestBaseAppliesToATree(t *testing.T) {
	testenv.NeedRoot(t)
	entries := map[string]string{}
	for k, v := range minimal {
		entries[k] = v
	}
	base, err := node.Base(node.Params{
		Family: "debian", KubernetesVersion: "v1.34.0", ContainerdConfig: 3,
		SandboxImage: "registry.k8s.io/pause:3.10.1", Image: "debian-12",
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, u := range base.Units.Enable {
		entries["usr/lib/systemd/system/"+u] = "[Install]\nWantedBy=multi-user.target\n"
	}
	const features = "usr/lib/python3/dist-packages/cloudinit/features.py"
	entries[features] = "import re\n\nERROR_ON_USER_DATA_FAILURE = True\n\"\"\"ERROR_ON_USER_DATA_FAILURE\"\"\"\n"
	target := plant(t, entries)
	if err := apply(t, target, "", base); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"etc/kubernetes-version": "v1.34.0",
		features:                 "import re\n\nERROR_ON_USER_DATA_FAILURE = False\n\"\"\"ERROR_ON_USER_DATA_FAILURE\"\"\"\n",
		"etc/machine-id":         "",
		"etc/hostname":           "localhost.local\n",
		"var/log/wtmp":           "",
	} {
		if got, err := os.ReadFile(filepath.Join(target, name)); err != nil || string(got) != want {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
}

func TestNumbersThatAreGivenAreTakenFirst(t *testing.T) {
	testenv.NeedRoot(t)
	target := plant(t, minimal)
	config := node.Config{
		Groups: []node.Group{{Name: "staff"}, {Name: "storage", ID: 1001}, {Name: "adm"}},
		Users:  []node.User{{Name: "ada", Groups: []string{"storage", "adm"}}, {Name: "bob", ID: 1000}, {Name: "eve", ID: 60000}},
	}
	if err := apply(t, target, "", config); err != nil {
		t.Fatal(err)
	}
	got := listing(t, target)
	for _, want := range []string{
		`bob:x:1000:1000::/home/bob:/bin/bash\neve:x:60000:60000::/home/eve:/bin/bash\nada:x:1003:1003::/home/ada:/bin/bash\n"`,
		`"root:x:0:\nadm:x:4:syslog,ada\nutmp:x:43:\nstorage:x:1001:ada\nbob:x:1000:\neve:x:60000:\nstaff:x:1002:\nada:x:1003:\n"`,
		`"root:*::\nadm:*::syslog,ada\nutmp:*::\nstorage:!::ada\nbob:!::\neve:!::\nstaff:!::\nada:!::\n"`,
		"/home/bob 40700 1000:1000",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("the tree lacks %s\n%s", want, got)
		}
	}
}

func TestADisabledUnitHasNoLinksLeft(t *testing.T) {
	testenv.NeedRoot(t)
	config := node.Config{Units: node.Units{Enable: []string{"a.service", "t@x.timer", "t@y.timer"}}}
	target := plant(t, minimal)
	if err := os.MkdirAll(filepath.Join(target, "etc/systemd/system/other.target.wants"), 0o755); err != nil {
		t.Fatal(err)
	}
	// Packages link to the path without usr.
	if err := os.Symlink("/lib/systemd/system/a.service", filepath.Join(target, "etc/systemd/system/other.target.wants/a.service")); err != nil {
		t.Fatal(err)
	}
	if err := apply(t, target, "", config); err != nil {
		t.Fatal(err)
	}
	config.Units = node.Units{Disable: []string{"a.service", "t@x.timer"}}
	if err := apply(t, target, "", config); err != nil {
		t.Fatal(err)
	}
	got := listing(t, target)
	for _, gone := range []string{"wants/a.service", "system/c.service", "t@x.timer"} {
		if strings.Contains(got, gone) {
			t.Errorf("the tree still has %s", gone)
		}
	}
	for _, kept := range []string{"sockets.target.requires/a.socket", "timers.target.wants/t@y.timer", "/usr/lib/systemd/system/a.service"} {
		if !strings.Contains(got, kept) {
			t.Errorf("the tree lacks %s", kept)
		}
	}
}
