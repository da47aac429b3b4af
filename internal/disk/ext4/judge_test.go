package ext4_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"nodesmith.dev/nodesmith/internal/disk/ext4"
	"nodesmith.dev/nodesmith/internal/disk/hostdir"
	"nodesmith.dev/nodesmith/internal/disk/size"
	reader "nodesmith.dev/nodesmith/internal/imagefs/ext4"
	"nodesmith.dev/nodesmith/internal/imagefs/volume"
	"nodesmith.dev/nodesmith/internal/testenv"
)

// run runs a judge, who must be content.
func run(t testing.TB, name string, args ...string) string {
	t.Helper()
	testenv.Need(t, name)
	cmd := exec.CommandContext(t.Context(), name, args...)
	cmd.Env = append(os.Environ(), "LC_ALL=C.UTF-8")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%.4000s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

// put lays entries out and writes them into a file of just that file system.
func put(t testing.TB, f ext4.FileSystem, entries []ext4.Entry) string {
	t.Helper()
	image, err := f.Build(t.Context(), entries)
	if err != nil {
		t.Fatal(err)
	}
	name := writeImage(t, image, 0)
	if err := os.Truncate(name, int64(f.Size)); err != nil {
		t.Fatal(err)
	}
	return name
}

// expected is an entry by its path, links resolved.
func expected(entries []ext4.Entry) (byPath map[string]*ext4.Entry, links map[*ext4.Entry]int) {
	byPath, links = map[string]*ext4.Entry{}, map[*ext4.Entry]int{}
	for i := range entries {
		byPath[entries[i].Path] = &entries[i]
	}
	for p, e := range byPath {
		if e.Link != "" {
			byPath[p] = byPath[e.Link]
		}
	}
	for p, e := range byPath {
		links[e]++
		if e.Mode.IsDir() {
			links[e]++
			if parent := byPath[path.Dir(p)]; p != "." {
				links[parent]++
			}
		}
	}
	return byPath, links
}

// compareAll holds what a reader of ours finds against the entries.
func compareAll(t *testing.T, name string, entries []ext4.Entry) {
	t.Helper()
	disk, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer disk.Close()
	info, err := disk.Stat()
	if err != nil {
		t.Fatal(err)
	}
	system, err := reader.Open(disk, info.Size())
	if err != nil {
		t.Fatal(err)
	}
	root, err := system.Root()
	if err != nil {
		t.Fatal(err)
	}
	byPath, links := expected(entries)
	seen := 0
	var visit func(p string, n volume.Node)
	visit = func(p string, n volume.Node) {
		e := byPath[p]
		if e == nil {
			if p != "lost+found" {
				t.Errorf("%.100s is there, and was not put there", p)
			}
			return
		}
		seen++
		compareNode(t, p, n, e, links[e])
		if !e.Mode.IsDir() {
			return
		}
		children, err := n.Entries()
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range children {
			child, err := c.Open()
			if err != nil {
				t.Fatalf("%.100s: %v", p, err)
			}
			visit(path.Join(p, c.Name), child)
		}
	}
	visit(".", root)
	if seen != len(byPath) {
		t.Errorf("%d files are there, want %d", seen, len(byPath))
	}
}

func compareNode(t *testing.T, p string, n volume.Node, e *ext4.Entry, links int) {
	t.Helper()
	s := n.Stat()
	if e.Path == "." {
		links++ // lost+found
	}
	if s.Mode != e.Mode || s.UID != e.UID || s.GID != e.GID || int(s.Links) != links || !s.ModTime.Equal(e.ModTime) {
		t.Errorf("%.100s: %+v, want %v %d %d, %d links, %v", p, s, e.Mode, e.UID, e.GID, links, e.ModTime)
	}
	xattrs, err := n.Xattrs()
	if err != nil || len(xattrs) != len(e.Xattrs) {
		t.Errorf("%.100s: %d extended attributes, want %d (%v)", p, len(xattrs), len(e.Xattrs), err)
	}
	for name, want := range e.Xattrs {
		if got := xattrs[name]; got != want {
			t.Errorf("%.100s: %s is %.100q, want %.100q", p, name, got, want)
		}
	}
	switch {
	case e.Mode.Type() == fs.ModeSymlink:
		if got, err := n.Target(); err != nil || got != e.Target {
			t.Errorf("%.100s leads to %q, %v", p, got, err)
		}
	case e.Mode.IsRegular():
		content, err := n.Content()
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(io.NewSectionReader(content, 0, s.Size))
		want, _ := e.Content.(memory)
		if holes, is := e.Content.(sparse); is {
			want = holes.memory
		}
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("%.100s: %d bytes that are not the %d that were put there (%v)", p, len(got), len(want), err)
		}
	}
}

// stages are classes as a disk has them.
var stages = []ext4.Class{{Name: "system", Share: 50, MaxInodes: 4096}, {Name: "store", Share: 30, MaxSize: 64 * size.MiB}, {Name: "user", Share: 20}}

func judged(mib size.Bytes) ext4.FileSystem {
	f := sample()
	f.Size, f.Classes = mib*size.MiB, stages
	return f
}

// trees are shapes that writers get wrong.
var trees = map[string]func(r *random){
	"empty":                  func(*random) {},
	"of all kinds":           func(r *random) { r.grow(600) },
	"wide":                   func(r *random) { r.wide(50_000, 3); r.grow(20) },
	"wide, long names":       func(r *random) { r.wide(9_000, 240) },
	"many directories":       func(r *random) { r.dirsIn(3000) },
	"deep":                   func(r *random) { r.deep(400) },
	"in a great many pieces": func(r *random) { r.file(newSparse(3000)); r.file(newSparse(5)); r.file(newSparse(341)) },
}

// dirsIn adds n directories beside each other.
func (r *random) dirsIn(n int) {
	for i := range n {
		r.add(ext4.Entry{Path: fmt.Sprint("dir", i), Mode: fs.ModeDir})
	}
}

func TestTreesOfAllShapesAreWhatWentIn(t *testing.T) {
	for name, grow := range trees {
		t.Run(name, func(t *testing.T) {
			r := newRandom(7, len(stages))
			grow(r)
			image := put(t, judged(1024), r.entries)
			run(t, "e2fsck", "-fn", image)
			compareAll(t, image, r.entries)
		})
	}
}

// Random trees, each judged by e2fsck; NODESMITH_TREES is how many.
func TestRandomTrees(t *testing.T) {
	count := 12
	if text := os.Getenv("NODESMITH_TREES"); text != "" {
		if _, err := fmt.Sscan(text, &count); err != nil {
			t.Fatal(err)
		}
	}
	for seed := range uint64(count) {
		r := newRandom(seed+100, len(stages))
		r.grow(r.IntN(400))
		f := judged(16)
		f.Bare = true
		need, err := f.Need(r.entries)
		if err != nil {
			t.Fatal(err)
		}
		for ; ; f.Size += size.MiB { // the smallest one that holds it: everything is tight
			have, err := f.Capacity()
			if err != nil {
				t.Fatal(err)
			}
			if need.Data <= have.Data && need.Inodes <= have.Inodes {
				break
			}
		}
		f.Size += size.Bytes(seed%3) * 20 * size.MiB
		image := put(t, f, r.entries)
		run(t, "e2fsck", "-fn", image)
		if t.Failed() {
			t.Fatalf("seed %d, %v", seed+100, f.Size)
		}
	}
}

func TestTheOrderOfEntriesDoesNotMatter(t *testing.T) {
	r := newRandom(3, len(stages))
	r.grow(300)
	first, err := os.ReadFile(put(t, judged(256), r.entries))
	if err != nil {
		t.Fatal(err)
	}
	rand.New(rand.NewPCG(1, 2)).Shuffle(len(r.entries), func(i, k int) { r.entries[i], r.entries[k] = r.entries[k], r.entries[i] })
	second, err := os.ReadFile(put(t, judged(256), r.entries))
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(first, second) {
		t.Error("the file systems differ")
	}
}

// The first boot grows the file system to the disk that it finds.
func TestTheFileSystemGrows(t *testing.T) {
	r := newRandom(4, len(stages))
	r.grow(300)
	for _, times := range []int64{2, 16} {
		image := put(t, judged(300), r.entries)
		if err := os.Truncate(image, times*int64(300*size.MiB)); err != nil {
			t.Fatal(err)
		}
		run(t, "resize2fs", image)
		run(t, "e2fsck", "-fn", image)
		if out := run(t, "dumpe2fs", "-h", image); !strings.Contains(out, fmt.Sprintf("Block count:              %d\n", times*300*256)) {
			t.Errorf("%d times:\n%s", times, out)
		}
		compareAll(t, image, r.entries)
	}
}

// A lost superblock is found again from its copies, which do not know the files.
func TestTheCopiesOfTheSuperblockServe(t *testing.T) {
	testenv.Need(t, "e2fsck")
	r := newRandom(5, len(stages))
	r.grow(300)
	image := put(t, judged(300), r.entries)
	disk, err := os.OpenFile(image, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer disk.Close()
	if _, err := disk.WriteAt(make([]byte, 8192), 0); err != nil {
		t.Fatal(err)
	}
	out, err := exec.CommandContext(t.Context(), "e2fsck", "-fy", "-b", "32768", image).CombinedOutput()
	if code := err.(*exec.ExitError).ExitCode(); code != 1 { // errors corrected
		t.Fatalf("e2fsck: %v\n%s", err, out)
	}
	run(t, "e2fsck", "-fn", image)
	compareAll(t, image, r.entries)
}

// A kernel sees what went in, and goes on from it.
func TestAKernelTakesTheFileSystem(t *testing.T) {
	testenv.Need(t, "mount", "umount", "unshare")
	testenv.NeedRoot(t)
	r := newRandom(6, len(stages))
	r.grow(400)
	r.wide(3000, 100)
	image := put(t, judged(512), r.entries)
	at, unmount := mountApart(t, image)
	compareHost(t, at, r.entries)
	var wide string
	for _, e := range r.entries {
		if strings.Contains(path.Base(e.Path), "wwww") {
			wide = filepath.Join(at, path.Dir(e.Path))
		}
	}
	for i := range 5000 { // splits leaves of the hash tree, and its root
		if err := os.WriteFile(filepath.Join(wide, fmt.Sprint("new", strings.Repeat("n", 100), i)), []byte("new"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.RemoveAll(filepath.Join(at, r.dirs[1])); err != nil {
		t.Fatal(err)
	}
	unmount()
	run(t, "e2fsck", "-fn", image)
}

// mountApart mounts the file system in a mount name space that no other process has,
// and returns where it is seen and what unmounts it. A process that copies the mounts
// of this one, as a container's beginning does, would keep it in use after that, and
// its journal open.
func mountApart(t *testing.T, image string) (at string, unmount func()) {
	t.Helper()
	at = t.TempDir()
	// It ends with its standard input, also when this process is killed.
	cmd := exec.CommandContext(context.WithoutCancel(t.Context()), "unshare", "--mount", "--propagation", "slave", "sh", "-c",
		`mount -o loop "$0" "$1" && echo mounted && read -r end; umount "$1"`, image, at)
	var failure strings.Builder
	cmd.Stderr = &failure
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	unmount = sync.OnceFunc(func() {
		if err := errors.Join(stdin.Close(), cmd.Wait()); err != nil {
			t.Errorf("unmounting %s: %v: %s", image, err, &failure)
		}
	})
	if line, err := bufio.NewReader(stdout).ReadString('\n'); err != nil || line != "mounted\n" {
		_ = cmd.Wait()
		testenv.Lacks(t, "a loop device: "+failure.String())
	}
	t.Cleanup(unmount)
	return fmt.Sprintf("/proc/%d/root%s", cmd.Process.Pid, at), unmount
}

// compareHost holds what the kernel shows against the entries.
func compareHost(t *testing.T, dir string, entries []ext4.Entry) {
	t.Helper()
	list, err := hostdir.Entries(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	found, _ := expected(list)
	byPath, _ := expected(entries)
	for p, want := range byPath {
		got := found[p]
		if got == nil {
			t.Errorf("%.100s is missing", p)
			continue
		}
		device := want.Major != got.Major || want.Minor != got.Minor
		if got.Mode != want.Mode || got.UID != want.UID || got.GID != want.GID || got.Target != want.Target ||
			want.Mode&fs.ModeDevice != 0 && device || !got.ModTime.Equal(want.ModTime) {
			t.Errorf("%.100s: %+v, want %+v", p, got, want)
		}
		for name, value := range want.Xattrs {
			if got.Xattrs[name] != value {
				t.Errorf("%.100s: %s is %.100q, want %.100q", p, name, got.Xattrs[name], value)
			}
		}
		if want.Mode.IsRegular() {
			content, err := os.ReadFile(filepath.Join(dir, p))
			memory, _ := want.Content.(memory)
			if holes, is := want.Content.(sparse); is {
				memory = holes.memory
			}
			if err != nil || !bytes.Equal(content, memory) {
				t.Errorf("%.100s has other content (%v)", p, err)
			}
		}
	}
}
