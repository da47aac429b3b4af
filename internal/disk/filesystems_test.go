package disk

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"nodesmith.dev/nodesmith/internal/disk/gpt"
	"nodesmith.dev/nodesmith/internal/disk/size"
	"nodesmith.dev/nodesmith/internal/fault"
	"nodesmith.dev/nodesmith/internal/testenv"
)

// data returns a partition for a tree with the given files.
func data(t *testing.T, mountPoint, label string, files ...string) Partition {
	t.Helper()
	tree := t.TempDir()
	if err := os.Chmod(tree, 0o700); err != nil {
		t.Fatal(err)
	}
	for _, name := range files {
		path := filepath.Join(tree, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(strings.Repeat(name, 1000)), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return Partition{Role: Data, FileSystem: &FileSystem{MountPoint: mountPoint, Label: label, Tree: tree}}
}

// separated is tinyConfig with /var, what is mounted on it, and an empty file
// system, on a disk that is sized to its content.
func separated(t *testing.T, firmware ...string) *Config {
	t.Helper()
	c := tinyConfig(t)
	store, variable, empty := data(t, "/var/lib/containerd", "containerd", "blobs/a"), data(t, "/var", "var", "lib/dpkg/status"), data(t, "/srv", "data")
	store.FileSystem.Headroom = 40 * size.MiB
	variable.Size = 32 * size.MiB
	empty.FileSystem.MountOptions = []string{"noatime", "nofail"}
	root := c.Partitions[len(c.Partitions)-1].FileSystem
	c.Size, root.Headroom = 0, 100*size.MiB
	c.Identifiers = IdentifiersFrom("test", "/var/lib/containerd", "/var", "/srv")
	c.Partitions = Layout(firmware, []Partition{store, variable, empty}, root)
	return c
}

// free returns what a file system of the disk has free for everyone.
func free(t *testing.T, device string) size.Bytes {
	t.Helper()
	out, err := exec.Command("dumpe2fs", "-h", device).Output()
	if err != nil {
		t.Fatal(err)
	}
	numbers := map[string]size.Bytes{}
	for line := range strings.Lines(string(out)) {
		name, value, _ := strings.Cut(line, ":")
		var n size.Bytes
		if _, err := fmt.Sscan(value, &n); err == nil {
			numbers[name] = n
		}
	}
	return (numbers["Free blocks"] - numbers["Reserved block count"]) * 4 * size.KiB
}

func TestEachFileSystemGetsItsTree(t *testing.T) {
	needTools(t)
	testenv.Need(t, "sgdisk", "e2fsck", "debugfs", "dumpe2fs")
	c := separated(t, "bios", "uefi")
	path := assemble(t, c)
	disk, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer disk.Close()
	info, err := disk.Stat()
	if err != nil || info.Size() != int64(size.GiB) {
		t.Fatalf("the disk has %d bytes (%v), want a whole GiB", info.Size(), err)
	}
	table, err := gpt.Read(disk, size.GiB)
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []struct {
		name, file, mode string
		kind             gpt.GUID
		headroom         size.Bytes
	}{
		{name: "bios-boot", kind: gpt.BIOSBoot},
		{name: "esp", kind: gpt.EFISystem},
		{name: "containerd", file: "/blobs/a", mode: "0700", kind: gpt.LinuxData, headroom: 40 * size.MiB},
		{name: "var", file: "/lib/dpkg/status", mode: "0700", kind: gpt.LinuxData},
		{name: "data", file: "/", mode: "0700", kind: gpt.LinuxSrv},
		{name: "root", file: "/boot/grub/grub.cfg", mode: "0755", kind: gpt.LinuxRootX8664, headroom: 100 * size.MiB},
	} {
		p := table.Partitions[i]
		if p.Name != want.name || p.Type != want.kind {
			t.Errorf("partition %d is %q of the type %s; want %q, %s", i+1, p.Name, p.Type, want.name, want.kind)
		}
		if want.file == "" {
			continue
		}
		device := fmt.Sprintf("%s?offset=%d", path, p.Start.Bytes())
		for command, want := range map[string]string{
			"e2fsck -fn " + device:                             want.name + ": ",
			"debugfs -R stat\u00a0" + want.file + " " + device: "Type: ",
			"debugfs -R stat\u00a0/ " + device:                 "Mode:  " + want.mode,
		} {
			args := strings.Split(command, " ")
			for i := range args {
				args[i] = strings.ReplaceAll(args[i], "\u00a0", " ")
			}
			out, err := exec.Command(args[0], args[1:]...).CombinedOutput()
			if err != nil || !strings.Contains(string(out), want) {
				t.Errorf("%s: %v, want %q in\n%.2000s", command, err, want, out)
			}
		}
		if got := free(t, device); got < want.headroom {
			t.Errorf("%s has %v free, want %v", want.name, got, want.headroom)
		}
		if want.name == "containerd" && p.Length.Bytes() > 60*size.MiB {
			t.Errorf("%s has %v for 40 MiB beside its content", want.name, p.Length.Bytes())
		}
	}
	if out, err := exec.Command("sgdisk", "-v", path).CombinedOutput(); err != nil || !strings.Contains(string(out), "No problems found") {
		t.Errorf("sgdisk: %v\n%s", err, out)
	}
}

func TestADiskOfOneFirmwareHasNothingOfTheOther(t *testing.T) {
	needTools(t)
	for firmware, want := range map[string]string{"bios": "bios-boot containerd var data root", "uefi": "esp containerd var data root"} {
		c := separated(t, firmware)
		content, err := os.Open(assemble(t, c))
		if err != nil {
			t.Fatal(err)
		}
		defer content.Close()
		table, err := gpt.Read(content, size.GiB)
		if err != nil {
			t.Fatal(err)
		}
		var names []string
		for _, p := range table.Partitions {
			names = append(names, p.Name)
		}
		if got := strings.Join(names, " "); got != want {
			t.Errorf("%s: partitions %s, want %s", firmware, got, want)
		}
		if bootCode := strings.Trim(string(table.BootCode), "\x00") != ""; bootCode != (firmware == "bios") {
			t.Errorf("%s: boot code in the first sector: %v", firmware, bootCode)
		}
		fstab, err := Fstab(c.Partitions, c.Identifiers)
		if err != nil || strings.Contains(string(fstab), "/boot/efi") != (firmware == "uefi") {
			t.Errorf("%s: %v\n%s", firmware, err, fstab)
		}
	}
}

func TestFstabMountsParentsFirst(t *testing.T) {
	c := separated(t, "bios", "uefi")
	text, err := Fstab(c.Partitions, c.Identifiers)
	if err != nil {
		t.Fatal(err)
	}
	id := func(point string) string { return "UUID=" + c.Identifiers.FileSystems[point].UUID.String() }
	want := "# Written by nodesmith. cloud-init lets the root file system grow at first boot.\n" +
		id("/") + " / ext4 errors=remount-ro 0 1\n" +
		"UUID=" + c.Identifiers.ESPVolume.String() + " /boot/efi vfat umask=0077,nofail 0 2\n" +
		id("/srv") + " /srv ext4 noatime,nofail 0 2\n" +
		id("/var") + " /var ext4 defaults 0 2\n" +
		id("/var/lib/containerd") + " /var/lib/containerd ext4 defaults 0 2\n"
	if string(text) != want {
		t.Errorf("got\n%s\nwant\n%s", text, want)
	}
}

func TestFileSystemsThatAreTooSmallSayWhatIsNeeded(t *testing.T) {
	c := separated(t, "bios")
	if err := os.Truncate(filepath.Join(c.Partitions[2].FileSystem.Tree, "lib/dpkg/status"), int64(300*size.MiB)); err != nil {
		t.Fatal(err)
	}
	err := Assemble(t.Context(), c, epoch, t.Output())
	if fault.KindOf(err) != fault.BadSpec || !strings.Contains(err.Error(), "the file system /var needs") ||
		!strings.Contains(fault.RemedyOf(err), "set the size of /var in spec.disk.fileSystems to ") {
		t.Errorf("got %v (%s)", err, fault.RemedyOf(err))
	}
	assertNothingLeft(t, c)
}

// The sum may not depend on how the host's file system keeps directories: they
// would be of other sizes on other hosts.
func TestDirectoriesCountByTheirNames(t *testing.T) {
	tree := t.TempDir()
	for i := range 400 {
		if err := os.WriteFile(filepath.Join(tree, fmt.Sprintf("%s-%03d", strings.Repeat("n", 196), i)), nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	c := tinyConfig(t)
	content := &c.contents()[len(c.Partitions)-1]
	// 19 entries of 208 bytes in a block, and the root of their hash tree.
	if err := content.measure(t.Context(), &FileSystem{MountPoint: "/", Tree: tree}, nil); err != nil || content.need.Data != 23*4*size.KiB || content.need.Inodes != 401 {
		t.Errorf("%+v, %v", content.need, err)
	}
}
