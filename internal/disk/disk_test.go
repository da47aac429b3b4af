package disk

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"nodesmith.dev/nodesmith/internal/disk/gpt"
	"nodesmith.dev/nodesmith/internal/disk/size"
	"nodesmith.dev/nodesmith/internal/fault"
	"nodesmith.dev/nodesmith/internal/format"
	"nodesmith.dev/nodesmith/internal/format/mapped"
	"nodesmith.dev/nodesmith/internal/format/raw"
	"nodesmith.dev/nodesmith/internal/testenv"
)

var epoch = time.Unix(1_750_000_000, 0)

const grubModules = "/usr/lib/grub/i386-pc"

// needTools ends the test unless the machine has what step-disk runs.
func needTools(t *testing.T) {
	t.Helper()
	testenv.Need(t, "grub-mkimage")
	if _, err := os.Stat(grubModules); err != nil {
		testenv.Lacks(t, grubModules)
	}
}

// tinyTree is a root file system that boots as far as GRUB: its configuration
// says something on the serial port and stops.
func tinyTree(t *testing.T) string {
	t.Helper()
	tree := t.TempDir()
	for name, content := range map[string]string{
		"boot/grub/grub.cfg": "serial --unit=0\nterminal_output serial\necho nodesmith-root=$root-prefix=$prefix\nhalt\n",
		"etc/hostname":       "node\n",
		"usr/lib/shim/shim":  "shim of the distribution",
		"usr/lib/shim/mm":    "MOK manager of the distribution",
		"usr/lib/grub/grub":  strings.Repeat("GRUB of the distribution", 100_000),
	} {
		path := filepath.Join(tree, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return tree
}

func tinyConfig(t *testing.T) *Config {
	t.Helper()
	root := RootFileSystem(0)
	root.Tree = tinyTree(t)
	return &Config{
		Output: t.TempDir(),
		Size:   128 * size.MiB, Architecture: "amd64", Identifiers: IdentifiersFrom("test"),
		Partitions: Layout([]string{"bios", "uefi"}, nil, root),
		Boot: Boot{
			GRUBModules: grubModules,
			EFI:         EFI{Vendor: "debian", Shim: "/usr/lib/shim/shim", MOKManager: "/usr/lib/shim/mm", GRUB: "usr/lib/grub/grub"},
		},
		Features: []string{
			"has_journal", "ext_attr", "resize_inode", "dir_index", "filetype", "extent", "64bit", "flex_bg",
			"sparse_super", "large_file", "huge_file", "dir_nlink", "extra_isize", "metadata_csum",
		},
	}
}

// tree is the one of the root file system.
func (c *Config) tree() *string { return &c.Partitions[len(c.Partitions)-1].FileSystem.Tree }

// assemble returns the disk as a raw file.
func assemble(t *testing.T, c *Config) (path string) {
	t.Helper()
	if err := Assemble(t.Context(), c, epoch, t.Output()); err != nil {
		t.Fatal(err)
	}
	trees := map[string]string{}
	for _, p := range c.Partitions {
		if p.FileSystem != nil {
			trees[p.FileSystem.Label] = p.FileSystem.Tree
		}
	}
	disk, err := mapped.Open(c.Output, trees)
	if err != nil {
		t.Fatal(err)
	}
	defer disk.Close()
	path = filepath.Join(t.TempDir(), "disk.raw")
	if _, err := (format.Converter{}).Convert(t.Context(), disk, []format.Target{{Path: path, New: raw.New}}); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestOtherToolsAcceptTheDisk(t *testing.T) {
	needTools(t)
	testenv.Need(t, "sgdisk", "sfdisk", "e2fsck", "fsck.vfat", "blkid", "mtype", "debugfs")
	c := tinyConfig(t)
	disk := assemble(t, c)
	root := fmt.Sprintf("%s?offset=%d", disk, 66*size.MiB)
	esp := filepath.Join(t.TempDir(), "esp.img")
	whole, err := os.ReadFile(disk)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(esp, whole[2*size.MiB:66*size.MiB], 0o644); err != nil {
		t.Fatal(err)
	}
	for _, judge := range []struct{ command, want string }{
		{"sgdisk -v " + disk, "No problems found"},
		{"sfdisk --verify " + disk, "No errors detected"},
		{"e2fsck -fn " + root, "root: "},
		{"debugfs -R stat\u00a0/etc/hostname " + root, "Type: regular"},
		{"fsck.vfat -n " + esp, "files"},
		{"blkid -p " + esp, `UUID="` + c.Identifiers.ESPVolume.String() + `"`},
		{"mtype -i " + esp + " ::/EFI/debian/grub.cfg", c.Identifiers.RootUUID().String()},
		{"mtype -i " + esp + " ::/EFI/BOOT/BOOTX64.EFI", "shim of the distribution"},
		{"mtype -i " + esp + " ::/EFI/debian/shimx64.efi", "shim of the distribution"},
		{"mtype -i " + esp + " ::/EFI/BOOT/mmx64.efi", "MOK manager"},
		{"mtype -i " + esp + " ::/EFI/BOOT/grubx64.efi", "GRUB of"},
		{"mtype -i " + esp + " ::/EFI/debian/grubx64.efi", "GRUB of"},
	} {
		args := strings.Split(judge.command, " ")
		for i := range args {
			args[i] = strings.ReplaceAll(args[i], "\u00a0", " ")
		}
		out, err := exec.Command(args[0], args[1:]...).CombinedOutput()
		if err != nil || !strings.Contains(string(out), judge.want) {
			t.Errorf("%s: %v, want %q in\n%.2000s", judge.command, err, judge.want, out)
		}
	}
}

func TestTheDiskHasItsPartitionsByRole(t *testing.T) {
	needTools(t)
	c := tinyConfig(t)
	file, err := os.Open(assemble(t, c))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	table, err := gpt.Read(file, c.Size)
	if err != nil {
		t.Fatal(err)
	}
	want := []gpt.Partition{
		{Type: gpt.BIOSBoot, ID: c.Identifiers.Partitions["bios-boot"], Start: 2048, Length: 2048, Name: "bios-boot"},
		{Type: gpt.EFISystem, ID: c.Identifiers.Partitions["esp"], Start: 4096, Length: 131072, Name: "esp"},
		{Type: gpt.LinuxRootX8664, ID: c.Identifiers.Partitions["root"], Start: 135168, Length: 124928, Name: "root"},
	}
	if !reflect.DeepEqual(table.Partitions, want) {
		t.Errorf("got  %+v\nwant %+v", table.Partitions, want)
	}
	info, err := file.Stat()
	if err != nil {
		t.Fatal(err)
	}
	if taken := size.Bytes(info.Sys().(*syscall.Stat_t).Blocks * 512); taken > 24*size.MiB {
		t.Errorf("the file takes %v: it is not sparse", taken)
	}
}

func TestSameInputSameBytes(t *testing.T) {
	needTools(t)
	testenv.Need(t, "cp")
	first := tinyConfig(t)
	one := assemble(t, first)
	second := tinyConfig(t)
	*second.tree() = filepath.Join(t.TempDir(), "tree")
	if out, err := exec.Command("cp", "-a", *first.tree(), *second.tree()).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	time.Sleep(1100 * time.Millisecond) // access and change times differ by a second
	other := assemble(t, second)
	a, err := os.ReadFile(one)
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(other)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(a, b) {
		t.Error("the disks differ")
	}
}

func TestTheDiskBootsFromABIOS(t *testing.T) {
	needTools(t)
	testenv.Need(t, "qemu-system-x86_64")
	disk := assemble(t, tinyConfig(t))
	// The deadline is the guest's end when GRUB does not reach its halt.
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	out, err := exec.CommandContext(ctx, "qemu-system-x86_64",
		"-accel", "tcg", "-m", "128", "-display", "none", "-monitor", "none", "-nic", "none",
		"-serial", "stdio", "-drive", "file="+disk+",format=raw,if=virtio,snapshot=on").CombinedOutput()
	if want := "nodesmith-root=hd0,gpt3-prefix=(hd0,gpt3)/boot/grub"; err != nil || !strings.Contains(string(out), want) {
		t.Errorf("%v, want %q in\n%s", err, want, out)
	}
}

func TestATreeThatDoesNotFitSaysWhatIsNeeded(t *testing.T) {
	c := tinyConfig(t)
	path := filepath.Join(*c.tree(), "big")
	if err := os.WriteFile(path, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(path, int64(300*size.MiB)); err != nil {
		t.Fatal(err)
	}
	err := Assemble(t.Context(), c, epoch, t.Output())
	if fault.KindOf(err) != fault.BadSpec || !strings.Contains(err.Error(), "spec.disk.size is 128 MiB") ||
		!strings.Contains(fault.RemedyOf(err), "set spec.disk.size to ") {
		t.Errorf("got %v (%s)", err, fault.RemedyOf(err))
	}
	assertNothingLeft(t, c)
}

func TestADiskOfTheNeededSizeFits(t *testing.T) {
	needTools(t)
	c := tinyConfig(t)
	for i := range 150 { // 150 MiB of data that is not zero
		content := bytes.Repeat([]byte{byte(i + 1)}, int(size.MiB))
		if err := os.WriteFile(filepath.Join(*c.tree(), fmt.Sprint("file", i)), content, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	err := Assemble(t.Context(), c, epoch, t.Output())
	var number int64
	var unit string
	if _, scanErr := fmt.Sscanf(fault.RemedyOf(err), "set spec.disk.size to %d %s or more", &number, &unit); scanErr != nil || unit != "MiB" {
		t.Fatalf("%v (%s): %v", err, fault.RemedyOf(err), scanErr)
	}
	c.Size = size.Bytes(number) * size.MiB
	assemble(t, c)
}

func TestAFailureLeavesNothingBehind(t *testing.T) {
	needTools(t)
	for name, spoil := range map[string]func(*Config){
		"no shim in the tree": func(c *Config) { c.Boot.EFI.Shim = "/usr/lib/shim/none" },
		"loader outside":      func(c *Config) { c.Boot.EFI.Shim = "../../etc/passwd" },
		"loader a directory":  func(c *Config) { c.Boot.EFI.GRUB = "/usr/lib" },
		"unknown feature":     func(c *Config) { c.Features = []string{"no_such_feature"} },
		"no GRUB modules":     func(c *Config) { c.Boot.GRUBModules = t.TempDir() },
	} {
		t.Run(name, func(t *testing.T) {
			c := tinyConfig(t)
			spoil(c)
			if err := Assemble(t.Context(), c, epoch, t.Output()); err == nil {
				t.Error("no error")
			}
			assertNothingLeft(t, c)
		})
	}
}

func assertNothingLeft(t *testing.T, c *Config) {
	t.Helper()
	left, err := os.ReadDir(c.Output)
	if err != nil || len(left) != 0 {
		t.Errorf("left behind: %v (%v)", left, err)
	}
}

func TestConfigurationsThatCannotBeAreErrors(t *testing.T) {
	for want, spoil := range map[string]func(*Config){
		"output is needed":           func(c *Config) { c.Output = "" },
		"needs a tree, a label":      func(c *Config) { *c.tree() = "" },
		`architecture "riscv64"`:     func(c *Config) { c.Architecture = "riscv64" },
		"identifiers are missing":    func(c *Config) { c.Identifiers = Identifiers{} },
		"has none for esp":           func(c *Config) { delete(c.Identifiers.Partitions, "esp") },
		"none for the file system /": func(c *Config) { delete(c.Identifiers.FileSystems, "/") },
		"have a file system":         func(c *Config) { c.Partitions[0].FileSystem = RootFileSystem(0) },
		"needs a file system":        func(c *Config) { c.Partitions[1].Role = Data },
		"root is mounted on /var":    func(c *Config) { c.Partitions[2].FileSystem.MountPoint = "/var" },
		`mount point "/var/"`:        func(c *Config) { c.Partitions[2].FileSystem.MountPoint = "/var/" },
		"not a multiple of 1 MiB":    func(c *Config) { c.Size++ },
		"no room for partition root": func(c *Config) { c.Size = 70 * size.MiB },
		"no room for partition esp":  func(c *Config) { c.Size = 3 * size.MiB },
		`role "swap" is unknown`:     func(c *Config) { c.Partitions[2].Role = "swap" },
		"there twice": func(c *Config) {
			c.Partitions[0] = Partition{Role: Root, Size: 16 * size.MiB, FileSystem: RootFileSystem(0)}
		},
		"no partition with the role":       func(c *Config) { c.Partitions = c.Partitions[:2] },
		"partition esp: size 1 MiB":        func(c *Config) { c.Partitions[1].Size = size.MiB },
		"partition bios-boot: size":        func(c *Config) { c.Partitions[0].Size++ },
		"needs boot.grubModules":           func(c *Config) { c.Boot.GRUBModules = "" },
		"needs boot.efi":                   func(c *Config) { c.Boot.EFI = EFI{} },
		"is not the name of one directory": func(c *Config) { c.Boot.EFI.Vendor = "../x" },
		"partition esp: size 0 bytes":      func(c *Config) { c.Partitions[1].Size = 0 },
		"partition esp: size -1":           func(c *Config) { c.Partitions[1].Size = -size.MiB },
	} {
		t.Run(want, func(t *testing.T) {
			c := tinyConfig(t)
			spoil(c)
			if err := c.Validate(); err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("got %v", err)
			}
		})
	}
	if err := tinyConfig(t).Validate(); err != nil {
		t.Errorf("the configuration itself: %v", err)
	}
}

func TestConfigSurvivesJSON(t *testing.T) {
	want := tinyConfig(t)
	text, err := json.Marshal(want)
	if err != nil {
		t.Fatal(err)
	}
	var got Config
	if err := json.Unmarshal(text, &got); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(&got, want) {
		t.Errorf("got  %+v\nwant %+v", &got, want)
	}
}

func TestIdentifiersDependOnTheSeedAlone(t *testing.T) {
	one, again, other := IdentifiersFrom("a", "/var"), IdentifiersFrom("a", "/var"), IdentifiersFrom("b", "/var")
	if !reflect.DeepEqual(one, again) {
		t.Error("the same seed gives other identifiers")
	}
	seen := map[gpt.GUID]bool{}
	for _, ids := range []Identifiers{one, other} {
		all := append(slices.Collect(maps.Values(ids.Partitions)), ids.Disk)
		for _, f := range ids.FileSystems {
			all = append(all, f.UUID, f.HashSeed)
		}
		if len(all) != 9 {
			t.Errorf("%d identifiers", len(all))
		}
		for _, id := range all {
			if seen[id] || id[6]>>4 != 8 || id[8]>>6 != 2 {
				t.Errorf("%s is there twice or no UUID of version 8", id)
			}
			seen[id] = true
		}
	}
	if alone := IdentifiersFrom("a"); alone.Disk != one.Disk || alone.RootUUID() != one.RootUUID() {
		t.Error("another file system changes the identifiers of the root")
	}
	// A change of the derivation changes every image.
	if got, want := one.RootUUID().String(), "8cac19c6-ba20-8e05-b94d-a1ef58ab5942"; got != want {
		t.Errorf("root file system of seed %q: %s, want %s", "a", got, want)
	}
}
