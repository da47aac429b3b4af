package store_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"nodesmith.dev/nodesmith/internal/format"
	"nodesmith.dev/nodesmith/internal/format/formattest"
	"nodesmith.dev/nodesmith/internal/store"
)

// writerVariable makes this test program a process that puts images into the store
// that it names, until it is killed or has put three.
const writerVariable = "NODESMITH_TEST_STORE_WRITER"

func TestMain(m *testing.M) {
	if dir := os.Getenv(writerVariable); dir != "" {
		if err := write(dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

func write(dir string) error {
	s, err := store.Open(dir)
	if err != nil {
		return err
	}
	for n := range 3 {
		if err := writeOne(s, n); err != nil {
			return err
		}
		fmt.Println("stored", n)
	}
	return nil
}

func writeOne(s *store.Store, n int) (err error) {
	ctx := context.Background()
	session, err := s.Begin(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, session.Close()) }()
	d := formattest.NewDisk(8 * mib)
	d.Random(rand.New(rand.NewPCG(uint64(os.Getpid()), uint64(n))), 0, 2*mib)
	w, err := session.Writer(ctx, d.Size(), nil)
	if err != nil {
		return err
	}
	defer w.Close()
	if _, err := (format.Converter{}).Convert(ctx, d, []format.Target{{Path: "store", Sink: w}}); err != nil {
		return err
	}
	_, err = session.Commit(ctx, store.Build{
		Name: "node", Tag: fmt.Sprintf("p%d-%d", os.Getpid(), n), Lock: []byte("lock\n"), Spec: []byte("spec\n"), Stored: time.Now(),
		Disks: []store.NewDisk{{About: store.About{
			Image: "node", Infrastructure: "qemu", Architecture: "amd64", Distro: "debian", DistroVersion: "12", Kubernetes: "v1.34.0",
			Lock: digest.FromString("lock\n").String(), Firmware: []string{"bios"}, Built: epoch, Formats: []store.Format{{Name: "qcow2"}},
		}, Table: w.Table(), Contents: []byte("{}")}},
	})
	return err
}

// startWriter starts a process and returns it when it has stored its first image.
func startWriter(t *testing.T, dir string) *exec.Cmd {
	t.Helper()
	c := exec.CommandContext(t.Context(), os.Args[0])
	c.Env, c.Stderr = append(os.Environ(), writerVariable+"="+dir), os.Stderr
	out, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := bufio.NewReader(out).ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	return c
}

// checkAll fails if an image of the store is not whole, or a file that has a blob's
// name is not that blob. It returns how many images there are.
func checkAll(t *testing.T, s *store.Store) int {
	t.Helper()
	images, err := s.Images()
	if err != nil {
		t.Fatal(err)
	}
	for _, i := range images {
		disk, err := s.Disk(t.Context(), i, "qemu")
		if err != nil || !disk.Whole() {
			t.Errorf("%s: %v", i.Reference(), err)
		}
	}
	err = filepath.WalkDir(filepath.Join(s.Dir(), "blobs"), func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		data, err := os.ReadFile(path)
		if digest.FromBytes(data).Encoded() != e.Name() {
			t.Errorf("%s has other content than its name says", path)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
	return len(images)
}

func TestSeveralProcessesWriteAtOnce(t *testing.T) {
	s := newStore(t)
	var writers []*exec.Cmd
	for range 3 {
		writers = append(writers, startWriter(t, s.Dir()))
	}
	for _, w := range writers {
		if err := w.Wait(); err != nil {
			t.Error(err)
		}
	}
	if n := checkAll(t, s); n != 9 {
		t.Errorf("%d images of 9", n)
	}
}

func TestAKilledWriterLeavesNothingHalfWrittenUnderAName(t *testing.T) {
	s := newStore(t)
	for n := range 3 {
		killed, other := startWriter(t, s.Dir()), startWriter(t, s.Dir())
		time.Sleep(time.Duration(n) * 5 * time.Millisecond)
		if err := killed.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		_ = killed.Wait() // it was killed
		if err := other.Wait(); err != nil {
			t.Error("the other one:", err)
		}
		checkAll(t, s)
	}
	collect(t, s)
	if left, err := os.ReadDir(filepath.Join(s.Dir(), "arrival")); err != nil || len(left) != 0 {
		t.Errorf("left are %v, %v", left, err)
	}
	if n := checkAll(t, s); n < 9 {
		t.Errorf("%d images are left of the 9 that were finished", n)
	}
}
