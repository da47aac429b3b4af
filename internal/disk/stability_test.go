package disk

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"hash/fnv"
	"io"
	"io/fs"
	"math/rand/v2"
	"path"
	"slices"
	"strings"
	"testing"
	"time"

	"nodesmith.dev/nodesmith/internal/disk/ext4"
	"nodesmith.dev/nodesmith/internal/disk/size"
)

// generated is content that follows from a number: no two numbers have a block
// in common.
type generated struct {
	length int64
	number uint64
}

func (g generated) Size() int64                      { return g.length }
func (g generated) Open() (ext4.ReadAtCloser, error) { return g, nil }
func (generated) Close() error                       { return nil }

// ReadAt implements io.ReaderAt.
func (g generated) ReadAt(p []byte, offset int64) (int, error) {
	clear(p)
	for at := offset + (-offset & 4095); at+8 <= offset+int64(len(p)); at += 4096 {
		binary.LittleEndian.PutUint64(p[at-offset:], g.number+uint64(at>>12))
	}
	return len(p), nil
}

// text is content that is in memory.
type text string

func (t text) Size() int64 { return int64(len(t)) }
func (t text) Open() (ext4.ReadAtCloser, error) {
	return readAtCloser{strings.NewReader(string(t))}, nil
}

type readAtCloser struct{ io.ReaderAt }

func (readAtCloser) Close() error { return nil }

// node is a tree like a node's: its files, and the packages that the user added.
type node struct {
	files map[string]ext4.Content
	added []string
}

// put adds or changes a file.
func (n *node) put(p string, length int64, version uint64) {
	h := fnv.New32a()
	h.Write([]byte(p))
	n.files[p] = generated{length, version<<32 | uint64(h.Sum32())}
}

// list adds the list of a package: what lies below some paths.
func (n *node) list(name string, below ...string) {
	var paths []string
	for p := range n.files {
		if slices.ContainsFunc(below, func(dir string) bool { return strings.HasPrefix(p, dir) }) {
			for ; p != "."; p = path.Dir(p) {
				paths = append(paths, "/"+p+"\n")
			}
		}
	}
	slices.Sort(paths)
	n.files["var/lib/dpkg/info/"+name+".list"] = text("/.\n" + strings.Join(slices.Compact(paths), ""))
}

// newNode makes some 22 000 files and 1.2 GB, as on Debian 12 with Kubernetes.
func newNode() *node {
	n := &node{files: map[string]ext4.Content{}}
	r := rand.New(rand.NewPCG(12, 34))
	small := func() int64 { return 200 + int64(r.ExpFloat64()*6000) }
	for i := range 900 {
		n.put(fmt.Sprint("usr/bin/program", i), int64(20_000+r.ExpFloat64()*150_000), 1)
	}
	for i := range 700 {
		n.put(fmt.Sprintf("usr/lib/x86_64-linux-gnu/lib%d.so.%d", i, i%7), int64(15_000+r.ExpFloat64()*250_000), 1)
	}
	for i := range 4000 {
		n.put(fmt.Sprintf("usr/lib/modules/6.1.0-13-amd64/kernel/drivers/d%d/e%d/m%d.ko", i/200, i/20, i), int64(8_000+r.ExpFloat64()*50_000), 1)
	}
	for i := range 400 {
		n.put(fmt.Sprintf("usr/share/doc/package%d/copyright", i), small(), 1)
		for _, kind := range []string{"md5sums", "postinst"} {
			n.put(fmt.Sprintf("var/lib/dpkg/info/package%d.%s", i, kind), small(), 1)
		}
		for k := range r.IntN(40) {
			n.put(fmt.Sprintf("usr/share/package%d/d%d/file%d", i, k/10, k), small(), 1)
		}
		n.list(fmt.Sprint("package", i), fmt.Sprintf("usr/share/doc/package%d/", i), fmt.Sprintf("usr/share/package%d/", i), fmt.Sprintf("usr/bin/program%d", i))
	}
	n.list("libraries", "usr/lib/x86_64-linux-gnu/lib1", "usr/lib/x86_64-linux-gnu/lib2")
	n.list("linux-image", "usr/lib/modules/6.1.0-13-amd64", "boot/vmlinuz")
	for i := range 2500 {
		n.put(fmt.Sprintf("usr/lib/python3/dist-packages/p%d/m%d.py", i/30, i), small(), 1)
	}
	for i := range 600 {
		n.put(fmt.Sprintf("etc/conf%d/file%d", i/8, i), small(), 1)
	}
	n.put("boot/vmlinuz-6.1.0-13-amd64", 8_200_000, 1)
	n.put("boot/initrd.img-6.1.0-13-amd64", 40_000_000, 1)
	n.put("var/lib/dpkg/status", 420_000, 1)
	n.put("var/lib/apt/extended_states", 20_000, 1)
	for i, length := range []int64{45, 13, 8, 40, 11, 4} {
		n.put(fmt.Sprint("usr/local/bin/runtime", i), length<<20, 1)
	}
	for i := range 20 {
		n.put(fmt.Sprint("opt/cni/bin/plugin", i), 4<<20, 1)
	}
	n.kubernetes(1)
	n.store(1)
	return n
}

// kubernetes places the programs of a patch release.
func (n *node) kubernetes(version uint64) {
	for i, name := range []string{"kubelet", "kubeadm", "kubectl"} {
		n.put("usr/bin/"+name, int64(60-i*5)<<20+int64(version)*300_000, version)
	}
}

// store places container images: those of a version, and others.
func (n *node) store(version uint64) {
	const root = "var/lib/containerd/io.containerd."
	for i, name := range []string{"apiserver", "controller-manager", "scheduler", "proxy", "etcd", "coredns", "pause", "cni"} {
		v := version
		if i > 3 {
			v = 1
		}
		n.put(fmt.Sprintf(root+"content.v1.content/blobs/sha256/%s-layer-%d", name, v), int64(15+i*3)<<20+int64(v)*100_000, v)
		n.put(fmt.Sprintf(root+"content.v1.content/blobs/sha256/%s-config-%d", name, v), 2000, v)
		n.put(fmt.Sprintf(root+"snapshotter.v1.overlayfs/snapshots/%d/fs/usr/local/bin/%s", i+1, name), int64(45+i*3)<<20+int64(v)*100_000, v)
	}
	n.put(root+"metadata.v1.bolt/meta.db", 524_288, version)
	n.put(root+"snapshotter.v1.overlayfs/metadata.db", 131_072, version)
}

// forget removes files with a part of their path.
func (n *node) forget(part string) {
	for p := range n.files {
		if strings.Contains(p, part) {
			delete(n.files, p)
		}
	}
}

// entries lists the tree with all directories.
func (n *node) entries() []ext4.Entry {
	old := time.Unix(1_700_000_000, 0)
	dirs := map[string]bool{".": true}
	entries := []ext4.Entry{{Path: ".", Mode: fs.ModeDir | 0o755, ModTime: old}}
	for p, content := range n.files {
		entries = append(entries, ext4.Entry{Path: p, Mode: 0o644, ModTime: old, Content: content})
		for d := path.Dir(p); !dirs[d]; d = path.Dir(d) {
			dirs[d] = true
			entries = append(entries, ext4.Entry{Path: d, Mode: fs.ModeDir | 0o755, ModTime: old})
		}
	}
	return entries
}

const comparedBlock = 512 << 10

// layOut makes the root file system of a disk of 8 GiB.
func layOut(t *testing.T, n *node, entries []ext4.Entry) *ext4.Image {
	t.Helper()
	c := tinyConfig(t)
	c.FileLists, c.Added = "/var/lib/dpkg/info/*.list", n.added
	contents := c.contents()
	root := &contents[len(contents)-1]
	root.system.Size, root.system.Epoch, root.entries = 8*size.GiB-68*size.MiB, epoch, entries
	classify("/", entries)
	if err := c.group(contents); err != nil {
		t.Fatal(err)
	}
	image, err := root.system.Build(t.Context(), entries)
	if err != nil {
		t.Fatal(err)
	}
	return image
}

// part is a range of an image.
type part struct {
	start, length int64
	read          io.ReaderAt
}

// parts are those of an image's metadata, as it is written.
type parts []part

// WriteAt implements io.WriterAt.
func (p *parts) WriteAt(data []byte, offset int64) (int, error) {
	*p = append(*p, part{offset, int64(len(data)), bytes.NewReader(data)})
	return len(data), nil
}

// blocks returns a checksum of each block of an image that has any content.
func blocks(t *testing.T, image *ext4.Image) map[int64]uint32 {
	t.Helper()
	var all parts
	if err := image.WriteMetadata(&all, 0); err != nil {
		t.Fatal(err)
	}
	for _, e := range image.Files() {
		file, err := e.Entry.Content.Open()
		if err != nil {
			t.Fatal(err)
		}
		length := min(e.Length, e.Entry.Content.Size()-e.Offset)
		all = append(all, part{e.Start, length, io.NewSectionReader(file, e.Offset, length)})
	}
	slices.SortFunc(all, func(a, b part) int { return cmp.Compare(a.start, b.start) })
	sums, block := map[int64]uint32{}, make([]byte, comparedBlock)
	in := int64(0) // the block that is being put together
	for _, p := range all {
		for done := int64(0); done < p.length; {
			at := (p.start + done) / comparedBlock * comparedBlock
			if at != in {
				sums[in] = crc32.Checksum(block, crc32.MakeTable(crc32.Castagnoli))
				clear(block)
				in = at
			}
			n := min(p.length-done, at+comparedBlock-p.start-done)
			if _, err := p.read.ReadAt(block[p.start+done-at:][:n], done); err != nil {
				t.Fatal(err)
			}
			done += n
		}
	}
	sums[in] = crc32.Checksum(block, crc32.MakeTable(crc32.Castagnoli))
	return sums
}

// differing counts the blocks that are not the same in both.
func differing(a, b map[int64]uint32) (count int64) {
	for at, sum := range b {
		if was, there := a[at]; !there || was != sum {
			count++
		}
	}
	for at := range a {
		if _, there := b[at]; !there {
			count++
		}
	}
	return count
}

// changed is S: the bytes of all files added, removed or changed, each rounded up
// to a block.
func changed(a, b []ext4.Entry) (sum int64) {
	rounded := func(c ext4.Content) int64 { return int64(size.Bytes(c.Size()).AlignUp(ext4.BlockSize)) }
	before := map[string]ext4.Content{}
	for _, e := range a {
		if e.Content != nil {
			before[e.Path] = e.Content
		}
	}
	for _, e := range b {
		if e.Content == nil {
			continue
		}
		if was := before[e.Path]; was != e.Content {
			sum += rounded(e.Content)
		}
		delete(before, e.Path)
	}
	for _, gone := range before {
		sum += rounded(gone)
	}
	return sum
}

// addPackage adds what a package brings: files below some directories, and dpkg's
// notes of it.
func (n *node) addPackage(number int) {
	r := rand.New(rand.NewPCG(uint64(number), 5))
	name := fmt.Sprint("added", number)
	n.put("usr/bin/"+name, int64(20_000+r.ExpFloat64()*300_000), 1)
	n.put("usr/share/doc/"+name+"/copyright", 5000, 1)
	n.put("var/lib/dpkg/info/"+name+".md5sums", 4000, 1)
	for i := range r.IntN(150) {
		n.put(fmt.Sprintf("usr/share/%s/d%d/file%d", name, i/30, i), 200+int64(r.ExpFloat64()*6000), 1)
	}
	for i := range r.IntN(3) {
		n.put(fmt.Sprintf("usr/lib/x86_64-linux-gnu/lib%s-%d.so", name, i), int64(r.ExpFloat64()*1_500_000), 1)
	}
	n.put("var/lib/dpkg/status", 421_000, 2)
	n.put("var/lib/apt/extended_states", 20_100, 2)
	n.list(name, "usr/bin/"+name, "usr/share/doc/"+name+"/", "usr/share/"+name+"/", "usr/lib/x86_64-linux-gnu/lib"+name+"-")
	n.added = append(n.added, name)
}

// The bound on what a change of the node may change of the disk, in blocks of
// 512 KiB.
func TestASmallChangeOfTheNodeIsASmallChangeOfTheDisk(t *testing.T) {
	changes := map[string]func(*node){
		"nothing":                        func(*node) {},
		"a Kubernetes patch release":     func(n *node) { n.forget("-layer-1"); n.forget("-config-1"); n.kubernetes(2); n.store(2) },
		"a file of the configuration":    func(n *node) { n.put("etc/conf3/file30", 9000, 2) },
		"a file more":                    func(n *node) { n.put("etc/conf3/another", 9000, 2) },
		"a file less":                    func(n *node) { n.forget("etc/conf3/file30") },
		"a large file of the user":       func(n *node) { n.put("srv/data", 50<<20, 1) },
		"another initramfs":              func(n *node) { n.put("boot/initrd.img-6.1.0-13-amd64", 41_000_000, 2) },
		"the list of installed packages": func(n *node) { n.put("var/lib/dpkg/status", 430_000, 2) },
	}
	for _, i := range []int{0, 1, 2, 3, 7, 9} {
		changes[fmt.Sprint("package ", i)] = func(n *node) { n.addPackage(i) }
	}
	first := newNode()
	before := first.entries()
	old := blocks(t, layOut(t, first, before))
	for name, change := range changes {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n := newNode()
			change(n)
			after := n.entries()
			got, s := differing(old, blocks(t, layOut(t, n, after))), changed(before, after)
			bound := (s*12/10+comparedBlock-1)/comparedBlock + 24
			t.Logf("S is %d KiB: %d blocks differ, at most %d may", s/1024, got, bound)
			if got > bound {
				t.Errorf("%d blocks differ, at most %d may", got, bound)
			}
		})
	}
}
