package fat

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"nodesmith.dev/nodesmith/internal/disk/size"
	"nodesmith.dev/nodesmith/internal/testenv"
)

var epoch = time.Date(2025, 6, 7, 8, 9, 11, 0, time.UTC)

func sample() *Volume {
	big := bytes.Repeat([]byte("0123456789abcde\n"), 300_000) // 4.8 MB, many clusters
	return &Volume{
		Size: 64 * size.MiB, Start: 4096, Serial: 0x1234ABCD, Label: "ESP", Time: epoch,
		Files: []File{
			{"EFI/BOOT/BOOTX64.EFI", big},
			{"EFI/BOOT/grubx64.efi", big[:513]},
			{"EFI/debian/grub.cfg", []byte("configfile\n")},
			{"empty.txt", nil},
		},
	}
}

func write(t testing.TB, v *Volume) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "esp.img")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.Truncate(int64(v.Size)); err != nil {
		t.Fatal(err)
	}
	if err := v.Write(f, 0); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestOtherToolsReadTheVolume(t *testing.T) {
	testenv.Need(t, "fsck.vfat", "mtype", "mdir", "blkid")
	for _, length := range []size.Bytes{MinSize, 64 * size.MiB, smallVolume, 600 * size.MiB} {
		v := sample()
		v.Size = length
		path := write(t, v)
		if out, err := exec.Command("fsck.vfat", "-n", "-v", path).CombinedOutput(); err != nil {
			t.Errorf("%v: fsck.vfat: %v\n%s", length, err, out)
		} else if !strings.Contains(string(out), "32 bits per entry") && !strings.Contains(string(out), "FAT32") {
			t.Logf("fsck.vfat says\n%s", out)
		}
		for _, f := range v.Files {
			out, err := exec.Command("mtype", "-i", path, "::/"+f.Path).Output()
			if err != nil || !bytes.Equal(out, f.Data) {
				t.Errorf("%v: mtype %s: %v, %d bytes, want %d", length, f.Path, err, len(out), len(f.Data))
			}
		}
	}
	path := write(t, sample())
	for _, judge := range []struct{ args, want string }{
		{"mdir -a -i " + path + " ::/EFI/BOOT", "2025-06-07   8:09"},
		{"mdir -b -i " + path + " ::/EFI/debian", "::/EFI/debian/grub.cfg"},
		{"mdir -i " + path + " ::/", "Volume Serial Number is 1234-ABCD"},
		{"blkid -p " + path, `VERSION="FAT32"`},
	} {
		args := strings.Fields(judge.args)
		out, err := exec.Command(args[0], args[1:]...).CombinedOutput()
		if err != nil || !strings.Contains(string(out), judge.want) {
			t.Errorf("%s: %v, want %q in\n%s", judge.args, err, judge.want, out)
		}
	}
}

func TestSameVolumeSameBytes(t *testing.T) {
	one, two := sample(), sample()
	two.Files[0], two.Files[3] = two.Files[3], two.Files[0]
	a, err := os.ReadFile(write(t, one))
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(write(t, two))
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(a, b) {
		t.Error("the order of files changes the bytes")
	}
}

func TestVolumesThatCannotBeAreErrors(t *testing.T) {
	for name, spoil := range map[string]func(*Volume){
		"too small":           func(v *Volume) { v.Size = MinSize - 1 },
		"too large":           func(v *Volume) { v.Size = MaxSize + 1 },
		"full":                func(v *Volume) { v.Files[0].Data = make([]byte, 70<<20) },
		"no label":            func(v *Volume) { v.Label = "" },
		"long label":          func(v *Volume) { v.Label = "ABCDEFGHIJKL" },
		"absolute path":       func(v *Volume) { v.Files[0].Path = "/x" },
		"path escapes":        func(v *Volume) { v.Files[0].Path = "../x" },
		"long name":           func(v *Volume) { v.Files[0].Path = "ninechars.efi" },
		"long extension":      func(v *Volume) { v.Files[0].Path = "a.conf" },
		"two dots":            func(v *Volume) { v.Files[0].Path = "a.b.c" },
		"mixed case":          func(v *Volume) { v.Files[0].Path = "Grub.cfg" },
		"same name twice":     func(v *Volume) { v.Files[0].Path = "EMPTY.TXT" },
		"file as directory":   func(v *Volume) { v.Files[3].Path = "EFI/BOOT/BOOTX64.EFI/x" },
		"directory as file":   func(v *Volume) { v.Files[3].Path = "EFI/BOOT" },
		"directory two cases": func(v *Volume) { v.Files[3].Path = "efi/x" },
	} {
		t.Run(name, func(t *testing.T) {
			v := sample()
			spoil(v)
			f, err := os.Create(filepath.Join(t.TempDir(), "x"))
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			if err := v.Write(f, 0); err == nil {
				t.Error("no error")
			}
		})
	}
}

func TestTimesOutsideFATBecomeItsLimits(t *testing.T) {
	for year, want := range map[int]uint16{1970: 0<<9 | 1<<5 | 1, 2200: 127<<9 | 12<<5 | 31} {
		if got, _ := dosTime(time.Date(year, 5, 5, 0, 0, 0, 0, time.UTC)); got != want {
			t.Errorf("%d: %#x, want %#x", year, got, want)
		}
	}
}
