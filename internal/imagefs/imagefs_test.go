package imagefs

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"

	"nodesmith.dev/nodesmith/internal/testenv"
)

const (
	mib       = 1 << 20
	varUUID   = "11111111-2222-3333-4444-555555555555"
	storeUUID = "22222222-3333-4444-5555-666666666666"
	rootUUID  = "66666666-7777-8888-9999-aaaaaaaaaaaa"
)

func run(t testing.TB, name string, args ...string) {
	t.Helper()
	if out, err := exec.CommandContext(t.Context(), name, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s %v: %v\n%s", name, args, err, out)
	}
}

// files makes a folder.
func files(t testing.TB, content map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range content {
		full := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(full), 0o755); err != nil {
			t.Fatal(err)
		}
		var err error
		if target, ok := strings.CutPrefix(text, "-> "); ok {
			err = os.Symlink(target, full)
		} else {
			err = os.WriteFile(full, []byte(text), 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// disk makes a disk with a root file system, /var on one of its own and a
// third one in two places, the second of them in /var. Numbers are as Debian's cloud images have them: 1, 14, 15.
func disk(t testing.TB) *os.File {
	t.Helper()
	testenv.Need(t, "mke2fs", "sgdisk", "mkfs.fat", "mcopy")
	name := filepath.Join(t.TempDir(), "disk.raw")
	file, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { file.Close() })
	if err := file.Truncate(128 * mib); err != nil {
		t.Fatal(err)
	}
	root := files(t, map[string]string{
		"usr/lib/os-release": "ID=debian\n",
		"etc/os-release":     "-> ../usr/lib/os-release",
		"etc/fstab": "UUID=" + rootUUID + " / ext4 defaults 0 1\nUUID=" + storeUUID + " /var/lib/containerd/ ext4 defaults 0 2\n" +
			"UUID=" + varUUID + " /var ext4 defaults 0 2\nLABEL=ESP /boot/efi vfat umask=0077 0 2\n" +
			"PARTLABEL=store /srv/my\\040data auto noatime 0 2\nUUID=" + varUUID + " /mnt ext4 noauto 0 2\n",
		"var/hidden":         "under the mount",
		"srv/my data/hidden": "x",
		"mnt/kept":           "x",
		"boot/efi/hidden":    "x",
		"etc/alternatives/a": "-> /usr/bin/real",
		"usr/bin/real":       "program",
		"bin":                "-> usr/bin",
		"etc/escape":         "-> ../../../../usr/bin/real",
		"etc/loop":           "-> loop",
		"run":                "-> /var/run",
		"etc/mtab":           "-> ../proc/self/mounts",
	})
	variable := files(t, map[string]string{"lib/dpkg/status": "Package: x\n", "lib/containerd/hidden": "x", "run/pid": "1", "up": "-> ../etc/os-release"})
	store := files(t, map[string]string{"blob": "layer"})
	run(t, "sgdisk", "--clear", "--new=14:2048:+1M", "--typecode=14:ef02", "--new=15:0:+40M", "--typecode=15:ef00", "--new=1:0:+32M", "--new=2:0:+32M", "--new=3:0:+16M", "--change-name=3:store", name)
	run(t, "mkfs.fat", "-F", "32", "-n", "ESP", "--offset", "4096", name, "40960")
	esp := files(t, map[string]string{"EFI/BOOT/BOOTX64.EFI": "MZ"})
	run(t, "mcopy", "-s", "-i", name+"@@2M", filepath.Join(esp, "EFI"), "::/")
	run(t, "mke2fs", "-q", "-F", "-t", "ext4", "-U", rootUUID, "-d", root, "-E", fmt.Sprintf("offset=%d", 42*mib), name, "32M")
	run(t, "mke2fs", "-q", "-F", "-t", "ext4", "-U", varUUID, "-d", variable, "-E", fmt.Sprintf("offset=%d", 74*mib), name, "32M")
	run(t, "mke2fs", "-q", "-F", "-t", "ext4", "-U", storeUUID, "-d", store, "-E", fmt.Sprintf("offset=%d", 106*mib), name, "16M")
	return file
}

func TestFileSystemsAreMountedAsFstabSays(t *testing.T) {
	image, err := Open(disk(t), 128*mib)
	if err != nil {
		t.Fatal(err)
	}
	if image.Tree == nil || image.Table.Damage != nil || image.Root.Number != 1 || image.ESP == nil {
		t.Fatalf("root %+v, %v; table %+v; ESP %v", image.Root, image.RootErr, image.Table, image.ESPErr)
	}
	for name, want := range map[string]string{
		"/etc/os-release":                "ID=debian\n",
		"/var/lib/dpkg/status":           "Package: x\n",
		"/bin/real":                      "program",
		"/etc/alternatives/a":            "program",
		"/etc/escape":                    "program",
		"/run/pid":                       "1",
		"/var/up":                        "ID=debian\n",
		"/var/../bin/./real":             "program",
		"/boot/efi/EFI/BOOT/BOOTX64.EF":  "",
		"/boot/efi/efi/boot/bootx64.efi": "MZ",
		"/var/hidden":                    "",
		"/boot/efi/hidden":               "",
		"/var/lib/containerd/blob":       "layer",
		"/var/lib/containerd/hidden":     "",
		"/srv/my data/blob":              "layer",
		"/etc/loop":                      "",
		"/etc/mtab":                      "",
		"/usr/bin/real/x":                "",
	} {
		got, err := image.Tree.ReadFile(name)
		if string(got) != want || (err == nil) != (want != "") {
			t.Errorf("%s is %q, %v; want %q", name, got, err, want)
		}
	}
	if _, err := image.Tree.Stat("/nothing"); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
	if p, err := image.Tree.Resolve("/run/pid"); err != nil || p != "/var/run/pid" {
		t.Error(p, err)
	}
	if !image.Tree.Exists("/mnt/kept") {
		t.Error("what fstab does not mount at boot is mounted")
	}
	var mounted []string
	for _, m := range image.Mounted {
		mounted = append(mounted, fmt.Sprint(m.Partition.Number, " ", m.Point))
	}
	if got := strings.Join(mounted, ", "); got != "15 /boot/efi, 3 /srv/my data, 2 /var, 3 /var/lib/containerd/" || len(image.FstabErrs) > 0 {
		t.Errorf("mounted %s; %v", got, image.FstabErrs)
	}
	if b, err := image.ESP.ReadFile("/EFI/BOOT/BOOTX64.EFI"); err != nil || string(b) != "MZ" {
		t.Error(string(b), err)
	}
}

func TestTheTreeIsAFileSystemAsGoWantsIt(t *testing.T) {
	image, err := Open(disk(t), 128*mib)
	if err != nil {
		t.Fatal(err)
	}
	// What leads nowhere is no file that fstest could open.
	usr, err := fs.Sub(image.Tree, "usr")
	if err != nil {
		t.Fatal(err)
	}
	if err := fstest.TestFS(usr, "lib/os-release", "bin/real"); err != nil {
		t.Error(err)
	}
}

func TestTablesOfEveryKindAreRead(t *testing.T) {
	testenv.Need(t, "sfdisk", "sgdisk")
	for name, c := range map[string]struct {
		script string
		want   string
	}{
		"GPT": {"label: gpt\n1: size=1MiB, type=21686148-6449-6E6F-744E-656564454649\n5: size=4MiB, type=0657FD6D-A4AB-43C4-84E5-0933C84B4F4F, name=swap\n", "1 bios-boot 1 5 swap 4"},
		"MBR": {"label: dos\n1: size=4MiB, type=83, bootable\n2: size=2MiB, type=82\n3: size=16MiB, type=5\n5: size=2MiB, type=8e\n6: size=3MiB, type=83\n", "1 other 4 2 swap 2 5 lvm 2 6 other 3"},
	} {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "disk")
			if err := os.WriteFile(file, make([]byte, 64*mib), 0o600); err != nil {
				t.Fatal(err)
			}
			cmd := exec.CommandContext(t.Context(), "sfdisk", "-q", file)
			cmd.Stdin = strings.NewReader(c.script)
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			content, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			check := func(what string, damaged bool) {
				t.Helper()
				table, err := readTable(bytes.NewReader(content), int64(len(content)))
				if err != nil {
					t.Fatalf("%s: %v", what, err)
				}
				var got []string
				for _, p := range table.Partitions {
					got = append(got, fmt.Sprint(p.Number, " ", p.Type, " ", p.Size/mib))
				}
				if strings.Join(got, " ") != c.want || (table.Damage != nil) != damaged {
					t.Errorf("%s: %q, damage %v; want %q", what, got, table.Damage, c.want)
				}
			}
			check("whole", false)
			if name == "GPT" {
				content[512+100] ^= 1 // outside the header: no damage
				check("a byte behind the header changed", false)
				content[512+40] ^= 1
				check("primary header damaged", true)
				content[512+40] ^= 1
				content[len(content)-512+40] ^= 1
				check("backup header damaged", true)
				content[512+40] ^= 1
				if _, err := readTable(bytes.NewReader(content), int64(len(content))); err == nil {
					t.Error("both headers damaged, and no error")
				}
			}
		})
	}
}

func FuzzPartitionTable(f *testing.F) {
	base := make([]byte, mib)
	base[510], base[511] = 0x55, 0xAA
	base[mbrEntries+4] = 0x05
	f.Add(base[:1024])
	gpt := bytes.Clone(base)
	gpt[mbrEntries+4] = 0xEE
	copy(gpt[512:], "EFI PART")
	f.Add(gpt[:1024])
	f.Fuzz(func(_ *testing.T, start []byte) {
		b := bytes.Clone(base)
		copy(b, start)
		image, err := Open(bytes.NewReader(b), int64(len(b)))
		if err == nil && image.Table == nil {
			panic("an image without a table")
		}
	})
}
