package gpt

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"nodesmith.dev/nodesmith/internal/disk/size"
	"nodesmith.dev/nodesmith/internal/testenv"
)

const diskSize = 4 * size.MiB

// image is a disk in memory.
type image []byte

func (m image) WriteAt(p []byte, off int64) (int, error) { return copy(m[off:], p), nil }

func sample() *Table {
	return &Table{
		DiskGUID: MustGUID("11111111-2222-8333-8444-555555555555"),
		BootCode: bytes.Repeat([]byte{0x90}, BootCodeSize),
		Partitions: []Partition{
			{Type: BIOSBoot, ID: MustGUID("aaaaaaaa-2222-8333-8444-555555555555"), Start: 2048, Length: 2048, Name: "bios-boot"},
			{Type: LinuxRootX8664, ID: MustGUID("bbbbbbbb-2222-8333-8444-555555555555"), Start: 4096, Length: 2048, Attributes: 1 << 59, Name: "root ü"},
		},
	}
}

func written(t testing.TB, table *Table) image {
	t.Helper()
	disk := make(image, diskSize)
	if err := table.Write(disk, diskSize.Sectors()); err != nil {
		t.Fatal(err)
	}
	return disk
}

func TestReadReturnsWhatWriteWrote(t *testing.T) {
	want := sample()
	got, err := Read(bytes.NewReader(written(t, want)), diskSize)
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
}

func TestOtherToolsAcceptTheTable(t *testing.T) {
	testenv.Need(t, "sgdisk", "sfdisk")
	path := filepath.Join(t.TempDir(), "disk.raw")
	if err := os.WriteFile(path, written(t, sample()), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, judge := range []struct{ args, want string }{
		{"sgdisk -v " + path, "No problems found"},
		{"sgdisk -p " + path, "11111111-2222-8333-8444-555555555555"},
		{"sgdisk -i 2 " + path, "Partition name: 'root ü'"},
		{"sfdisk --verify " + path, "No errors detected"},
	} {
		args := strings.Fields(judge.args)
		out, err := exec.Command(args[0], args[1:]...).CombinedOutput()
		if err != nil || !strings.Contains(string(out), judge.want) {
			t.Errorf("%s: %v, want %q in\n%s", judge.args, err, judge.want, out)
		}
	}
}

func TestWriteRefusesWhatReadWouldRefuse(t *testing.T) {
	for name, spoil := range map[string]func(*Table){
		"no disk GUID":        func(t *Table) { t.DiskGUID = GUID{} },
		"no partition GUID":   func(t *Table) { t.Partitions[0].ID = GUID{} },
		"same GUID twice":     func(t *Table) { t.Partitions[1].ID = t.Partitions[0].ID },
		"overlap":             func(t *Table) { t.Partitions[1].Start-- },
		"starts in the table": func(t *Table) { t.Partitions[0].Start = FirstUsable - 1 },
		"ends in the backup":  func(t *Table) { t.Partitions[1].Length = diskSize.Sectors() - 4096 - Backup + 1 },
		"length overflows":    func(t *Table) { t.Partitions[1].Length = math.MaxUint64 },
		"empty":               func(t *Table) { t.Partitions[1].Length = 0 },
		"name too long":       func(t *Table) { t.Partitions[0].Name = strings.Repeat("x", 37) },
		"boot code too long":  func(t *Table) { t.BootCode = make([]byte, BootCodeSize+1) },
		"too many partitions": func(t *Table) { t.Partitions = make([]Partition, MaxPartitions+1) },
	} {
		t.Run(name, func(t *testing.T) {
			table, disk := sample(), make(image, diskSize)
			spoil(table)
			if err := table.Write(disk, diskSize.Sectors()); err == nil {
				t.Error("no error")
			}
			if !bytes.Equal(disk, make(image, diskSize)) {
				t.Error("the disk was written to")
			}
		})
	}
}

// reseal gives a spoiled table valid checksums, as an attacker would.
func reseal(disk image) {
	le := binary.LittleEndian
	for _, at := range []size.Bytes{size.SectorSize, size.Bytes(len(disk)) - size.SectorSize} {
		h := disk[at : at+size.SectorSize]
		start, length := le.Uint64(h[72:])*512, uint64(le.Uint32(h[80:])*le.Uint32(h[84:]))
		if start < uint64(len(disk)) && length <= uint64(len(disk))-start {
			le.PutUint32(h[88:], crc32.ChecksumIEEE(disk[start:start+length]))
		}
		le.PutUint32(h[16:], 0)
		le.PutUint32(h[16:], crc32.ChecksumIEEE(h[:headerSize]))
	}
}

func TestHostileTablesAreErrors(t *testing.T) {
	le := binary.LittleEndian
	last := int(diskSize - size.SectorSize)
	for name, spoil := range map[string]func(image){
		"no MBR signature":       func(d image) { d[510] = 0 },
		"MBR not protective":     func(d image) { d[mbrEntryStart+4] = 0x83 },
		"no signature":           func(d image) { d[512] = 'X' },
		"header too short":       func(d image) { le.PutUint32(d[512+12:], 20) },
		"header too long":        func(d image) { le.PutUint32(d[512+12:], 513) },
		"wrong own address":      func(d image) { d[512+24] = 2 },
		"entries of 1 byte":      func(d image) { le.PutUint32(d[512+84:], 1) },
		"entries of 2 GiB":       func(d image) { le.PutUint32(d[512+84:], 1<<31) },
		"entries not 2^n":        func(d image) { le.PutUint32(d[512+84:], 192) },
		"a billion entries":      func(d image) { le.PutUint32(d[512+80:], 1<<30) },
		"entries past the end":   func(d image) { le.PutUint64(d[512+72:], math.MaxUint64) },
		"entries in a partition": func(d image) { le.PutUint64(d[512+72:], 2048) },
		"usable past the end":    func(d image) { le.PutUint64(d[512+48:], math.MaxUint64) },
		"ends before it starts":  func(d image) { le.PutUint64(d[1024+40:], 2047) },
		"ends past the disk":     func(d image) { le.PutUint64(d[1024+40:], math.MaxUint64) },
		"overlap":                func(d image) { le.PutUint64(d[1024+40:], 4096) },
		"gap":                    func(d image) { clear(d[1024 : 1024+16]) },
		"backup elsewhere":       func(d image) { d[512+32]-- },
		"backup differs":         func(d image) { d[last+56]++ },
		"backup gone":            func(d image) { clear(d[last:]) },
	} {
		t.Run(name, func(t *testing.T) {
			disk := written(t, sample())
			spoil(disk)
			reseal(disk)
			if table, err := Read(bytes.NewReader(disk), diskSize); err == nil {
				t.Errorf("no error, but %+v", table)
			}
		})
	}
}

func TestChecksumsAreChecked(t *testing.T) {
	for _, at := range []int{512 + 60, 1024 + 60, int(diskSize) - 512 + 60, int(diskSize) - 33*512 + 60} {
		disk := written(t, sample())
		disk[at] ^= 1
		if _, err := Read(bytes.NewReader(disk), diskSize); err == nil || !strings.Contains(err.Error(), "checksum") {
			t.Errorf("byte %d flipped: %v", at, err)
		}
	}
}

func TestGUIDText(t *testing.T) {
	const text = "c12a7328-f81f-11d2-ba4b-00a0c93ec93b"
	if g, err := ParseGUID(strings.ToUpper(text)); err != nil || g.String() != text {
		t.Errorf("%v, %v", g, err)
	}
	for _, bad := range []string{"", "c12a7328", text + "0", strings.Replace(text, "-", "0", 1), "g" + text[1:]} {
		if _, err := ParseGUID(bad); err == nil {
			t.Errorf("ParseGUID(%q): no error", bad)
		}
	}
}

// FuzzRead puts arbitrary bytes over the start and the end of a good disk: Read
// must not panic, and what it accepts, Write must be able to write again.
func FuzzRead(f *testing.F) {
	const length = 128 * size.KiB // small, for many tries a second
	small := sample()
	small.Partitions[0].Start, small.Partitions[0].Length = FirstUsable, 10
	small.Partitions[1].Start, small.Partitions[1].Length = FirstUsable+10, 100
	good := make(image, length)
	if err := small.Write(good, length.Sectors()); err != nil {
		f.Fatal(err)
	}
	f.Add([]byte(good[:1280]), []byte(good[length-512:]), true)
	f.Add([]byte{}, []byte{}, false)
	f.Fuzz(func(t *testing.T, head, tail []byte, sealed bool) {
		disk := bytes.Clone(good)
		copy(disk, head)
		copy(disk[max(0, len(disk)-len(tail)):], tail)
		if sealed {
			reseal(disk)
		}
		table, err := Read(bytes.NewReader(disk), length)
		if err != nil {
			return
		}
		again := make(image, length)
		if err := table.Write(again, length.Sectors()); err != nil {
			t.Skip(err) // a table with wider bounds than ours
		}
		second, err := Read(bytes.NewReader(again), length)
		if err != nil || !slices.Equal(table.Partitions, second.Partitions) {
			t.Errorf("read again: %v\n%+v\n%+v", err, table, second)
		}
	})
}
