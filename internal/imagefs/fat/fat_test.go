package fat

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"nodesmith.dev/nodesmith/internal/imagefs/volume"
	"nodesmith.dev/nodesmith/internal/testenv"
)

// makeFAT makes a volume with mkfs.fat and fills it with mtools.
func makeFAT(t testing.TB, bits int, size int64) *os.File {
	t.Helper()
	testenv.Need(t, "mkfs.fat", "mcopy", "mmd")
	dir := t.TempDir()
	name := filepath.Join(dir, "fs")
	file, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { file.Close() })
	if err := file.Truncate(size); err != nil {
		t.Fatal(err)
	}
	run := func(program string, args ...string) {
		t.Helper()
		if out, err := exec.CommandContext(t.Context(), program, args...).CombinedOutput(); err != nil {
			t.Fatalf("%s %v: %v\n%s", program, args, err, out)
		}
	}
	run("mkfs.fat", "-F", fmt.Sprint(bits), "-i", "2e1417b3", "-n", "ESP", name)
	large := filepath.Join(dir, "grubx64.efi")
	if err := os.WriteFile(large, bytes.Repeat([]byte("signed"), 50_000), 0o600); err != nil {
		t.Fatal(err)
	}
	run("mmd", "-i", name, "::/EFI", "::/EFI/BOOT")
	run("mcopy", "-i", name, large, "::/EFI/BOOT/BOOTX64.EFI")
	run("mcopy", "-i", name, large, "::/EFI/a name that is much longer than 8.3 allows, with ümläuts.cfg")
	small := filepath.Join(dir, "small")
	if err := os.WriteFile(small, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	for i := range 60 {
		run("mcopy", "-i", name, small, fmt.Sprintf("::/EFI/entry-number-%d.conf", i))
	}
	return file
}

func find(t testing.TB, n volume.Node, names ...string) volume.Node {
	t.Helper()
	for _, name := range names {
		entries, err := n.Entries()
		if err != nil {
			t.Fatal(err)
		}
		var next volume.Node
		for _, e := range entries {
			if e.Name == name {
				if next, err = e.Open(); err != nil {
					t.Fatal(err)
				}
			}
		}
		if next == nil {
			t.Fatalf("there is no %s among %d entries", name, len(entries))
		}
		n = next
	}
	return n
}

func TestFilesAreReadAsMtoolsWroteThem(t *testing.T) {
	for bits, size := range map[int]int64{12: 4 << 20, 16: 32 << 20, 32: 64 << 20} {
		t.Run(fmt.Sprint("FAT", bits), func(t *testing.T) {
			file := makeFAT(t, bits, size)
			if !Is(file) {
				t.Error("not recognised")
			}
			f, err := Open(file, size)
			if err != nil {
				t.Fatal(err)
			}
			if f.bits != bits || f.UUID() != "2E14-17B3" || f.Label() != "ESP" {
				t.Errorf("FAT%d, %s, %q", f.bits, f.UUID(), f.Label())
			}
			root, err := f.Root()
			if err != nil {
				t.Fatal(err)
			}
			for _, name := range []string{"BOOT/BOOTX64.EFI", "a name that is much longer than 8.3 allows, with ümläuts.cfg", "entry-number-59.conf"} {
				n := find(t, root, append([]string{"EFI"}, strings.Split(name, "/")...)...)
				r, err := n.Content()
				if err != nil {
					t.Fatal(err)
				}
				got, err := io.ReadAll(io.NewSectionReader(r, 0, n.Stat().Size))
				want := bytes.Repeat([]byte("signed"), 50_000)
				if strings.HasPrefix(name, "entry") {
					want = []byte("x")
				}
				if err != nil || !bytes.Equal(got, want) {
					t.Errorf("%s has %d bytes, %v", name, len(got), err)
				}
			}
			if entries, err := find(t, root, "EFI").Entries(); err != nil || len(entries) != 62 {
				t.Errorf("%d entries, %v", len(entries), err)
			}
		})
	}
}

func FuzzDamagedVolume(f *testing.F) {
	file := makeFAT(f, 12, 2<<20)
	base, err := os.ReadFile(file.Name())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(uint32(11), []byte{0, 1})
	f.Add(uint32(512), []byte{0, 0, 0})
	f.Fuzz(func(_ *testing.T, at uint32, with []byte) {
		b := bytes.Clone(base)
		copy(b[int(at)%len(b):], with)
		v, err := Open(bytes.NewReader(b), int64(len(b)))
		if err != nil {
			return
		}
		root, err := v.Root()
		if err != nil {
			return
		}
		budget := 50
		visit(root, 0, &budget)
	})
}

func visit(n volume.Node, depth int, budget *int) {
	if *budget--; *budget < 0 || depth > 4 {
		return
	}
	if r, err := n.Content(); err == nil {
		_, _ = io.Copy(io.Discard, io.NewSectionReader(r, 0, n.Stat().Size))
	}
	entries, err := n.Entries()
	if err != nil {
		return
	}
	for _, e := range entries {
		if child, err := e.Open(); err == nil {
			visit(child, depth+1, budget)
		}
	}
}
