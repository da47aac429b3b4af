package vmdk_test

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"os"
	"strings"
	"testing"

	"nodesmith.dev/nodesmith/internal/format"
	"nodesmith.dev/nodesmith/internal/format/formattest"
	"nodesmith.dev/nodesmith/internal/format/vmdk"
)

var suite = formattest.Suite{Format: vmdk.Format, Judge: formattest.QEMUCompares("vmdk"), EmptySize: 128 << 10}

func TestVMDKConforms(t *testing.T) { formattest.Run(t, suite) }

var le = binary.LittleEndian

// stream is a small streamOptimized VMDK with two grain tables in use.
func stream(t testing.TB) []byte {
	t.Helper()
	d := formattest.NewDisk(100<<20 + 512)
	r := rand.New(rand.NewPCG(1, 1))
	d.Random(r, 0, 100<<10)
	d.Random(r, 70<<20, 1000)
	d.Random(r, 100<<20, 512)
	image, err := os.ReadFile(suite.Convert(t, d, 2))
	if err != nil {
		t.Fatal(err)
	}
	return image
}

// TestTheStreamFollowsTheSpecification reads the file from its begin to its end,
// as an importer does that gets it through a pipe.
func TestTheStreamFollowsTheSpecification(t *testing.T) {
	image := stream(t)
	if len(image)%512 != 0 {
		t.Errorf("%d bytes are no whole sectors", len(image))
	}
	if flags := le.Uint32(image[8:]); le.Uint32(image[4:]) != 3 || flags != 0x30001 {
		t.Errorf("version %d, flags %#x", le.Uint32(image[4:]), flags)
	}
	if gd := le.Uint64(image[56:]); gd != 1<<64-1 {
		t.Errorf("the header's directory is at %#x, want GD_AT_END", gd)
	}
	overhead := le.Uint64(image[64:])
	if grain := le.Uint64(image[20:]); grain != 128 || overhead%grain != 0 {
		t.Errorf("grain size %d, overhead %d", grain, overhead)
	}
	var kinds []uint32
	grains, tables := map[uint32]uint64{}, []uint32{}
	var directory, nextLBA uint64
	at := int(overhead) * 512
	for at < len(image) {
		value, size := le.Uint64(image[at:]), int(le.Uint32(image[at+8:]))
		if size > 0 { // a grain marker
			if value < nextLBA || value%128 != 0 {
				t.Fatalf("grain for sector %d after %d", value, nextLBA)
			}
			grains[uint32(at/512)], nextLBA = value, value+128
			end := at + 12 + size
			at = (end + 511) / 512 * 512
			if !bytes.Equal(image[end:at], make([]byte, at-end)) {
				t.Error("what follows a grain is not zero")
			}
			continue
		}
		kind := le.Uint32(image[at+12:])
		kinds = append(kinds, kind)
		if !bytes.Equal(image[at+16:at+512], make([]byte, 496)) {
			t.Errorf("marker %d is not filled up with zeros", kind)
		}
		switch kind {
		case 1:
			tables = append(tables, uint32(at/512+1))
		case 2:
			directory = uint64(at/512 + 1)
		}
		at += 512 + int(value)*512
	}
	if want := []uint32{1, 1, 1, 2, 3, 0}; !equal(kinds, want) {
		t.Errorf("markers %v, want %v: tables, directory, footer, end of stream", kinds, want)
	}
	footer := image[len(image)-1024:]
	if !bytes.Equal(footer[:56], image[:56]) || !bytes.Equal(footer[64:512], image[64:512]) || le.Uint64(footer[56:]) != directory {
		t.Error("the footer is not the header with the directory's place")
	}
	var used int
	for i := range 4 { // 100 MiB have 4 tables of 32 MiB, one of them empty
		table := le.Uint32(image[int(directory)*512+i*4:])
		if i == 1 && table != 0 || i != 1 && (used >= len(tables) || table != tables[used]) {
			t.Errorf("directory entry %d is %d", i, table)
		}
		if table == 0 {
			continue
		}
		used++
		for j := range 512 {
			entry := le.Uint32(image[int(table)*512+j*4:])
			if lba, ok := grains[entry]; entry != 0 && (!ok || lba != uint64(i*512+j)*128) {
				t.Errorf("entry %d of table %d names sector %d", j, i, entry)
			}
			delete(grains, entry)
		}
	}
	if len(grains) != 0 {
		t.Errorf("grains that no table names: %v", grains)
	}
}

func equal(a, b []uint32) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if a[i] != b[i] {
			return false
		}
	}
	return true
}

func TestTheDescriptorSaysWhatTheOptionsSay(t *testing.T) {
	s := suite
	s.New = vmdk.Options{FileName: "node-disk1.vmdk", AdapterType: "buslogic", HardwareVersion: 15, ToolsVersion: 12352}.New
	contents := map[string]bool{}
	for _, text := range []string{"a", "b", "a"} {
		d := formattest.NewDisk(3 << 30)
		d.Put(0, []byte(text))
		path := s.Convert(t, d, 1)
		image, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		opened, err := vmdk.Open(bytes.NewReader(image), int64(len(image)))
		if err != nil {
			t.Fatal(err)
		}
		descriptor, err := opened.Descriptor()
		if err != nil {
			t.Fatal(err)
		}
		contents[descriptor] = true
		for _, line := range []string{
			"version=1\n", "parentCID=ffffffff\n", "createType=\"streamOptimized\"\n",
			"RDONLY 6291456 SPARSE \"node-disk1.vmdk\"\n", "ddb.adapterType = \"buslogic\"\n",
			"ddb.virtualHWVersion = \"15\"\n", "ddb.toolsVersion = \"12352\"\n", "ddb.geometry.cylinders = \"391\"\n",
		} {
			if !strings.Contains(descriptor, line) {
				t.Errorf("descriptor lacks %q:\n%s", line, descriptor)
			}
		}
	}
	if len(contents) != 2 {
		t.Errorf("two contents gave %d descriptors: the content ID has to follow the content alone", len(contents))
	}
	for name, bad := range map[string]vmdk.Options{"adapter": {AdapterType: "nvme"}, "name": {FileName: "a\"b"}} {
		if _, err := bad.New(format.NewOutput(nil, 0), 512); err == nil {
			t.Errorf("%s was taken", name)
		}
	}
}

func TestReadsWhatQEMUWrote(t *testing.T) { formattest.ReadsStored(t, vmdk.Format, "testdata/*.vmdk") }

// sparse is an uncompressed image of a disk of so many sectors whose tables all
// are one, which names one grain everywhere.
func sparse(sectors uint64) []byte {
	tables := (sectors + 512*128 - 1) / (512 * 128)
	image := make([]byte, 512*(1+4+128)+tables*4)
	copy(image, "KDMV")
	le.PutUint32(image[4:], 1)
	le.PutUint64(image[12:], sectors)
	le.PutUint64(image[20:], 128)
	le.PutUint32(image[44:], 512)
	le.PutUint64(image[56:], 1+4+128)
	for i := range 512 {
		le.PutUint32(image[512+i*4:], 5)
	}
	for i := range tables {
		le.PutUint32(image[512*(1+4+128)+i*4:], 1)
	}
	return image
}

func TestHostileImagesAreRefused(t *testing.T) {
	good := stream(t)
	directory := int(le.Uint64(good[len(good)-1024+56:])) * 512
	table := int(le.Uint32(good[directory:])) * 512
	grain := int(le.Uint32(good[table:])) * 512
	change := func(at int, value uint64, size int) []byte {
		image := bytes.Clone(good)
		if at < 0 {
			at += len(image)
		}
		var buf [8]byte
		le.PutUint64(buf[:], value)
		copy(image[at:], buf[:size])
		return image
	}
	const footer = -1024
	for name, image := range map[string][]byte{
		"one grain everywhere in 64 TiB":    sparse(64 << 40 / 512),
		"capacity of 2^63 sectors":          change(footer+12, 1<<63, 8),
		"capacity of 2^64-1 sectors":        change(footer+12, 1<<64-1, 8),
		"capacity above its directory":      change(footer+12, 1<<36, 8),
		"grain size 0":                      change(footer+20, 0, 8),
		"grain size 3":                      change(footer+20, 3, 8),
		"grain size 2^62":                   change(footer+20, 1<<62, 8),
		"tables of no entries":              change(footer+44, 0, 4),
		"tables of 2^32-1 entries":          change(footer+44, 1<<32-1, 4),
		"directory behind the end":          change(footer+56, 1<<40, 8),
		"directory at 2^55-1":               change(footer+56, 1<<55-1, 8),
		"directory at 2^63":                 change(footer+56, 1<<63, 8),
		"no directory":                      change(footer+56, 0, 8),
		"the footer says: see the footer":   change(footer+56, 1<<64-1, 8),
		"another compression":               change(footer+77, 9, 2),
		"version 7":                         change(footer+4, 7, 4),
		"line ends were changed":            change(footer+75, 0x0a0a, 2),
		"a table behind the end":            change(directory, 1<<31, 4),
		"a table is the header":             change(directory, 1, 4),
		"two entries name one grain":        change(table+4, uint64(grain/512), 4),
		"a grain behind the end":            change(table, 1<<31, 4),
		"a grain with 2^32-1 bytes of data": change(grain+8, 1<<32-1, 4),
		"a grain with no data":              change(grain+8, 0, 4),
		"a grain that does not decompress":  change(grain+12, 0, 8),
		"a grain that ends before its end":  change(grain+8, 100, 4),
		"no footer":                         good[:len(good)-1024],
		"cut in the middle":                 good[:len(good)/2/512*512],
		"only the magic":                    []byte("KDMV"),
		"nothing":                           {},
	} {
		t.Run(name, func(t *testing.T) {
			formattest.Refuses(t, vmdk.Format, image, format.ErrCorrupt, vmdk.ErrUnsupported)
		})
	}
}

func FuzzOpen(f *testing.F) {
	seeds := [][]byte{stream(f), sparse(1 << 20)}
	for _, image := range formattest.Stored(f, "testdata/*.vmdk") {
		seeds = append(seeds, image)
	}
	formattest.Fuzz(f, vmdk.Format, seeds...)
}
