package pipeline

import (
	"slices"
	"strings"
	"testing"

	"nodesmith.dev/nodesmith/api/v1alpha1"
	"nodesmith.dev/nodesmith/internal/disk"
	"nodesmith.dev/nodesmith/internal/disk/size"
	"nodesmith.dev/nodesmith/internal/node"
)

func TestFileSystemsOfTheSpecGetPartitionsAndLines(t *testing.T) {
	inputs := inputsOf(t, "  disk:\n    size: content\n    firmware: [uefi]\n    fileSystems:\n"+
		"    - {mountPoint: /var/lib/etcd, size: 4Gi, mountOptions: [noatime]}\n    - {mountPoint: /var, size: content, headroom: 1Gi}\n", nil)
	var got []string
	for _, p := range inputs.disk.Partitions {
		name := string(p.Role)
		if p.FileSystem != nil {
			name += " " + p.FileSystem.Label + " + " + p.FileSystem.Headroom.String()
		}
		got = append(got, name+" "+p.Size.String())
	}
	want := "esp 64 MiB, data etcd + 0 bytes 4 GiB, data var + 1 GiB 0 bytes, root root + 2 GiB 0 bytes"
	if strings.Join(got, ", ") != want || inputs.disk.Size != 0 {
		t.Errorf("partitions %q of a disk of %v\nwant %s", got, inputs.disk.Size, want)
	}
	config, _, err := inputs.config(nil)
	if err != nil {
		t.Fatal(err)
	}
	fstab := file(t, config, "/etc/fstab").Content
	etcd, variable := inputs.disk.Identifiers.FileSystems["/var/lib/etcd"].UUID, inputs.disk.Identifiers.FileSystems["/var"].UUID
	if want := "UUID=" + variable.String() + " /var ext4 defaults 0 2\nUUID=" + etcd.String() + " /var/lib/etcd ext4 noatime 0 2\n"; !strings.Contains(fstab, want) {
		t.Errorf("fstab has no\n%sin\n%s", want, fstab)
	}
	if release := file(t, config, "/etc/nodesmith-release").Content; !strings.Contains(release, "\nFIRMWARE=\"uefi\"\n") {
		t.Error(release)
	}
}

func TestADiskWithoutUEFIHasNoPlaceForItsPartition(t *testing.T) {
	for firmware, want := range map[string]bool{"[bios]": false, "[uefi]": true, "[bios, uefi]": true} {
		config, _, err := inputsOf(t, "  disk: {firmware: "+firmware+"}\n", nil).config(nil)
		if err != nil {
			t.Fatal(err)
		}
		made := slices.ContainsFunc(config.Directories, func(d node.Directory) bool { return d.Path == "/boot/efi" })
		mounted := strings.Contains(file(t, config, "/etc/fstab").Content, "/boot/efi")
		if made != want || mounted != want {
			t.Errorf("%s: /boot/efi made: %v, mounted: %v", firmware, made, mounted)
		}
	}
}

// What the spec does not say keeps the disk as it always was.
func TestTheDiskOfTheShortestSpec(t *testing.T) {
	inputs := inputsOf(t, "", nil)
	want := disk.Layout([]string{"bios", "uefi"}, nil, disk.RootFileSystem(0))
	if inputs.disk.Size != 8*size.GiB || len(inputs.disk.Partitions) != 3 || inputs.disk.Partitions[1] != want[1] {
		t.Errorf("%+v", inputs.disk)
	}
}

func TestTheDiskHasWholeUnitsOfTheFormat(t *testing.T) {
	for _, test := range []struct {
		unit, given, want size.Bytes
	}{
		{size.GiB, 8500 * size.MiB, 9 * size.GiB}, {size.GiB, 9 * size.GiB, 9 * size.GiB}, {size.SectorSize, 8500 * size.MiB, 8500 * size.MiB},
	} {
		if got := diskConfig(v1alpha1.Disk{Size: v1alpha1.SizeOrContent(test.given)}, test.unit, "seed").Size; got != test.want {
			t.Errorf("%v in units of %v: %v, want %v", test.given, test.unit, got, test.want)
		}
	}
	if got := diskConfig(v1alpha1.Disk{Size: v1alpha1.Content}, size.GiB, "seed").Size; got != 0 {
		t.Errorf("sized to its content: %v", got)
	}
}
