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

// equipped has what settings need: a time daemon, zones and a kernel.
var equipped = map[string]string{
	"etc/chrony/chrony.conf":                 "# servers\npool 2.debian.pool.ntp.org iburst\n  server a\nsourcedir /etc/chrony/sources.d\nrtcsync",
	"etc/timezone":                           "Etc/UTC\n",
	"etc/localtime -> ":                      "/usr/share/zoneinfo/Etc/UTC",
	"usr/share/zoneinfo/Etc/UTC":             "TZif2",
	"usr/share/zoneinfo/Europe/Berlin":       "TZif2",
	"usr/share/zoneinfo/Europe/Busingen -> ": "Zurich",
	"usr/lib/modules/6.1/modules.dep":        "kernel/drivers/block/nbd.ko:\nkernel/drivers/md/dm-thin-pool.ko.xz: kernel/drivers/md/dm-bufio.ko.xz\n",
	"usr/lib/modules/6.1/modules.builtin":    "kernel/fs/ext4/ext4.ko\n",
}

func equip(t *testing.T) string {
	t.Helper()
	entries := maps.Clone(minimal)
	maps.Copy(entries, equipped)
	return plant(t, entries)
}

func settings(t *testing.T) node.Config {
	t.Helper()
	c, err := node.TimeServers("chrony", []string{"ntp1.example.org", "2001:db8::123"})
	if err != nil {
		t.Fatal(err)
	}
	return c.With(node.Config{KernelModules: []string{"nbd", "dm_thin_pool", "dm-thin-pool", "ext4"}, TimeZone: "Europe/Berlin"})
}

func TestSettingsAreWritten(t *testing.T) {
	testenv.NeedRoot(t)
	target := equip(t)
	c := settings(t)
	for range 2 { // the second time changes nothing
		if err := apply(t, target, "", c); err != nil {
			t.Fatal(err)
		}
		for name, want := range map[string]string{
			"etc/chrony/chrony.conf":                 "# servers\nsourcedir /etc/chrony/sources.d\nrtcsync",
			"etc/chrony/sources.d/nodesmith.sources": "server ntp1.example.org iburst\nserver 2001:db8::123 iburst\n",
			"etc/timezone":                           "Europe/Berlin\n",
			"etc/modules-load.d/user.conf":           "nbd\ndm_thin_pool\ndm-thin-pool\next4\n",
		} {
			if got, err := os.ReadFile(filepath.Join(target, name)); err != nil || string(got) != want {
				t.Errorf("%s: %q, %v; want %q", name, got, err, want)
			}
		}
		if to, err := os.Readlink(filepath.Join(target, "etc/localtime")); err != nil || to != "/usr/share/zoneinfo/Europe/Berlin" {
			t.Errorf("/etc/localtime -> %q, %v", to, err)
		}
	}
	info, err := os.Stat(filepath.Join(target, "etc/chrony/chrony.conf"))
	if err != nil || !info.ModTime().Equal(epoch) || info.Mode().Perm() != 0o640 {
		t.Errorf("chrony.conf: %v, %v, %v", info.ModTime(), info.Mode(), err)
	}
}

func TestNoTimezoneFileIsMade(t *testing.T) {
	testenv.NeedRoot(t)
	target := equip(t)
	if err := os.Remove(filepath.Join(target, "etc/timezone")); err != nil {
		t.Fatal(err)
	}
	if err := apply(t, target, "", settings(t)); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Lstat(filepath.Join(target, "etc/timezone")); err == nil {
		t.Error("/etc/timezone is there: the distribution has given it up")
	}
}

func TestSettingsThatTheImageCannotKeep(t *testing.T) {
	testenv.NeedRoot(t)
	for name, test := range map[string]struct {
		config node.Config
		want   string
	}{
		"module":       {node.Config{KernelModules: []string{"zfs"}}, "kernel module zfs: the kernel 6.1 has no such module"},
		"zone":         {node.Config{TimeZone: "Europe/Belrin"}, "time zone Europe/Belrin: the image's tzdata has no such zone"},
		"directory":    {node.Config{TimeZone: "Europe"}, "time zone Europe: "},
		"dangling":     {node.Config{TimeZone: "Europe/Busingen"}, "time zone Europe/Busingen: "},
		"lines to cut": {node.Config{Cuts: []node.Cut{{Path: "/etc/ntp.conf", Lines: "x"}}}, "lines to cut: "},
		"a line to change": {node.Config{Cuts: []node.Cut{{Path: "/etc/timezone", Lines: "^x", Instead: "y"}}},
			`/etc/timezone: no line matches ^x, which was to be "y"`},
	} {
		err := apply(t, equip(t), "", test.config)
		if err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %v, want %s", name, err, test.want)
		}
	}
	err := apply(t, plant(t, minimal), "", node.Config{KernelModules: []string{"nbd"}})
	if err == nil || !strings.Contains(err.Error(), "no kernel") {
		t.Errorf("image without a kernel: %v", err)
	}
}
