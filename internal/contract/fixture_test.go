package contract

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	bolt "go.etcd.io/bbolt"

	"nodesmith.dev/nodesmith/internal/imagefs"
	"nodesmith.dev/nodesmith/internal/testenv"
)

// imageVariable names the finished image that faults are made of. test/ sets
// it to the one that it built.
const imageVariable = "NODESMITH_TEST_IMAGE"

// fixture is a copy of a good image that faults are made in and taken back.
type fixture struct {
	t     testing.TB
	file  *os.File
	size  int64
	root  imagefs.Partition
	esp   imagefs.Partition
	dir   string
	tree  *imagefs.Tree // of the good image
	undos []func()

	accounts []string // Options.Accounts
	files    []string // Options.Files
	steps    int
}

// goodImage opens the image that the environment names, else skips the test.
func goodImage(t testing.TB) *os.File {
	t.Helper()
	name := os.Getenv(imageVariable)
	if name == "" {
		t.Skipf("SKIPPED: %s names no image; make test sets it to the one that it builds", imageVariable)
	}
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

// newFixture copies the good image, holes as holes.
func newFixture(t testing.TB) *fixture {
	t.Helper()
	good := goodImage(t)
	testenv.Need(t, "cp", "debugfs", "e2undo", "sgdisk", "mdel", "mcopy")
	f := &fixture{t: t, dir: t.TempDir()}
	name := filepath.Join(f.dir, "copy.raw")
	run(t, "cp", "--sparse=always", "--reflink=auto", good.Name(), name)
	file, err := os.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { file.Close() })
	info, err := file.Stat()
	if err != nil {
		t.Fatal(err)
	}
	f.file, f.size = file, info.Size()
	image, err := imagefs.Open(good, f.size)
	if err != nil || image.Tree == nil {
		t.Fatal(err, image.RootErr)
	}
	f.root, f.tree = *image.Root, image.Tree
	for _, p := range image.Table.Partitions {
		if p.Type == imagefs.ESP {
			f.esp = p
		}
	}
	return f
}

func run(t testing.TB, name string, args ...string) {
	t.Helper()
	if out, err := exec.CommandContext(t.Context(), name, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s %v: %v\n%s", name, args, err, out)
	}
}

// with uses another test's name for failures.
func (f *fixture) with(t testing.TB) *fixture {
	f.t = t
	return f
}

// repair takes back every change since the last repair.
func (f *fixture) repair() {
	for i := len(f.undos) - 1; i >= 0; i-- {
		f.undos[i]()
	}
	f.undos = nil
}

// keep remembers a piece of the disk for repair.
func (f *fixture) keep(at, length int64) {
	f.t.Helper()
	old := make([]byte, length)
	if _, err := f.file.ReadAt(old, at); err != nil {
		f.t.Fatal(err)
	}
	f.undos = append(f.undos, func() {
		if _, err := f.file.WriteAt(old, at); err != nil {
			f.t.Fatal(err)
		}
	})
}

// patch overwrites bytes of the disk.
func (f *fixture) patch(at int64, with []byte) {
	f.t.Helper()
	f.keep(at, int64(len(with)))
	if _, err := f.file.WriteAt(with, at); err != nil {
		f.t.Fatal(err)
	}
}

// debugfs runs commands on the root file system, and undoes them with e2undo
// and, because e2undo leaves counters in it, the superblock's own bytes.
func (f *fixture) debugfs(commands ...string) {
	f.t.Helper()
	f.steps++
	undo := filepath.Join(f.dir, fmt.Sprintf("undo-%d", f.steps))
	script := undo + ".commands"
	if err := os.WriteFile(script, []byte(strings.Join(commands, "\n")+"\n"), 0o600); err != nil {
		f.t.Fatal(err)
	}
	f.keep(f.root.Start, 4096)
	device := fmt.Sprintf("%s?offset=%d", f.file.Name(), f.root.Start)
	out, err := exec.CommandContext(f.t.Context(), "debugfs", "-w", "-z", undo, "-f", script, device).CombinedOutput()
	for line := range strings.Lines(string(out)) {
		if err == nil && strings.Contains(line, ": ") && !strings.HasPrefix(line, "debugfs") && !strings.HasPrefix(line, "Allocated inode") {
			err = fmt.Errorf("%s", line)
		}
	}
	if err != nil {
		f.t.Fatalf("debugfs: %v\n%s", err, out)
	}
	f.undos = append(f.undos, func() {
		run(f.t, "e2undo", "-o", fmt.Sprint(f.root.Start), undo, f.file.Name())
		os.Remove(undo)
	})
}

// write makes or replaces a file of root with that mode.
func (f *fixture) write(name, content string, mode os.FileMode) {
	f.t.Helper()
	f.steps++
	local := filepath.Join(f.dir, fmt.Sprintf("file-%d", f.steps))
	if err := os.WriteFile(local, []byte(content), 0o600); err != nil {
		f.t.Fatal(err)
	}
	var commands []string
	if f.tree.Exists(name) {
		resolved, err := f.tree.Resolve(name)
		if err != nil {
			f.t.Fatal(err)
		}
		name = resolved
		commands = append(commands, "rm "+name)
	} else {
		for dir := filepath.Dir(name); !f.tree.Exists(dir); dir = filepath.Dir(dir) {
			commands = append([]string{"mkdir " + dir}, commands...)
		}
	}
	f.debugfs(append(commands, "write "+local+" "+name,
		fmt.Sprintf("sif %s mode 0%o", name, 0o100000|uint32(mode)), "sif "+name+" uid 0", "sif "+name+" gid 0")...)
	os.Remove(local)
}

// read returns a file of the good image.
func (f *fixture) read(name string) []byte {
	f.t.Helper()
	content, err := f.tree.Content(name)
	if err != nil {
		f.t.Fatal(err)
	}
	b := make([]byte, content.Size())
	if _, err := io.ReadFull(content, b); err != nil {
		f.t.Fatal(err)
	}
	return b
}

// replace changes text in a file; what is to be changed has to be there.
func (f *fixture) replace(name, old, with string) {
	f.t.Helper()
	before := f.read(name)
	after := bytes.ReplaceAll(before, []byte(old), []byte(with))
	if bytes.Equal(before, after) {
		f.t.Fatalf("%s has no %q", name, old)
	}
	info, err := f.tree.Stat(name)
	if err != nil {
		f.t.Fatal(err)
	}
	f.write(name, string(after), info.Mode().Perm())
}

// rootUUID returns the UUID that the image's kernel is told to mount: each
// lock gives its disks their own.
func (f *fixture) rootUUID() string {
	f.t.Helper()
	found := regexp.MustCompile(`root=UUID=([0-9a-f-]{36})`).FindSubmatch(f.read(menu))
	if found == nil {
		f.t.Fatalf("%s names no root=UUID", menu)
	}
	return string(found[1])
}

// add appends to a file.
func (f *fixture) add(name, text string) {
	f.t.Helper()
	info, err := f.tree.Stat(name)
	if err != nil {
		f.t.Fatal(err)
	}
	f.write(name, string(f.read(name))+text, info.Mode().Perm())
}

// remove removes files or links.
func (f *fixture) remove(names ...string) {
	f.t.Helper()
	var commands []string
	for _, n := range names {
		commands = append(commands, "rm "+n)
	}
	f.debugfs(commands...)
}

// sgdisk changes the partition table.
func (f *fixture) sgdisk(args ...string) {
	f.t.Helper()
	const edge = 1 << 20
	f.keep(0, edge)
	f.keep(f.size-edge, edge)
	run(f.t, "sgdisk", append(args, f.file.Name())...)
}

// espFile is a program on the EFI system partition, for mtools.
func (f *fixture) mtools(program string, args ...string) {
	f.t.Helper()
	f.keep(f.esp.Start, f.esp.Size)
	run(f.t, program, append([]string{"-i", fmt.Sprintf("%s@@%d", f.file.Name(), f.esp.Start)}, args...)...)
}

// changeESP replaces a file on the EFI system partition.
func (f *fixture) changeESP(name string, change func([]byte)) {
	f.t.Helper()
	content := f.read("/boot/efi" + name)
	change(content)
	local := filepath.Join(f.dir, "esp-file")
	if err := os.WriteFile(local, content, 0o600); err != nil {
		f.t.Fatal(err)
	}
	f.mtools("mcopy", "-o", local, "::"+name)
}

// changeStore edits containerd's metadata with bbolt itself.
func (f *fixture) changeStore(change func(namespace *bolt.Bucket) error) {
	f.t.Helper()
	local := filepath.Join(f.dir, "meta.db")
	if err := os.WriteFile(local, f.read(metaDB), 0o600); err != nil {
		f.t.Fatal(err)
	}
	db, err := bolt.Open(local, 0o600, nil)
	if err != nil {
		f.t.Fatal(err)
	}
	err = db.Update(func(tx *bolt.Tx) error { return change(tx.Bucket([]byte("v1")).Bucket([]byte(criNamespace))) })
	if closed := db.Close(); err != nil || closed != nil {
		f.t.Fatal(err, closed)
	}
	content, err := os.ReadFile(local)
	if err != nil {
		f.t.Fatal(err)
	}
	f.write(metaDB, string(content), 0o644)
}

// verify checks the copy as it is now.
func (f *fixture) verify() *Report {
	f.t.Helper()
	report, err := Verify(context.Background(), f.file, f.size, Options{Infrastructure: "qemu", Accounts: f.accounts, Files: f.files})
	if err != nil {
		f.t.Fatal(err)
	}
	return report
}

// broken lists the checks that do not hold.
func broken(r *Report) []string {
	var out []string
	for _, result := range r.Results {
		if result.Status == Failed || result.Status == Warned {
			out = append(out, result.ID)
		}
	}
	return out
}
