package cli

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"nodesmith.dev/nodesmith/internal/fault"
	"nodesmith.dev/nodesmith/internal/format/inspect"
	"nodesmith.dev/nodesmith/internal/format/known"
	"nodesmith.dev/nodesmith/internal/report/reporttest"
)

// command runs nodesmith with args and returns what it printed and its exit code.
func command(args ...string) (out, errOut string, code int) {
	var o, e strings.Builder
	code = Main(args, &o, &e)
	return o.String(), e.String(), code
}

// rawDisk is a disk of 3 MiB with an MBR that has one ext4 partition, if only by
// its magic.
func rawDisk(t *testing.T) string {
	t.Helper()
	t.Setenv("XDG_CACHE_HOME", t.TempDir()) // for the blocks that conversions keep
	disk := make([]byte, 3<<20)
	copy(disk[446:], []byte{0x80, 0, 0, 0, 0x83, 0, 0, 0, 0, 8, 0, 0, 0, 8, 0, 0}) // 1 MiB at 1 MiB
	disk[510], disk[511] = 0x55, 0xaa
	disk[1<<20+1080], disk[1<<20+1081] = 0x53, 0xef
	disk[1<<20+1024+0x60] = 0x40 // extents
	copy(disk[1<<20+1144:], "rootfs")
	path := filepath.Join(t.TempDir(), "node.raw")
	if err := os.WriteFile(path, disk, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestConvertMakesEveryFormatAndInspectReadsIt(t *testing.T) {
	path, dir := rawDisk(t), filepath.Join(t.TempDir(), "new")
	settings := filepath.Join(t.TempDir(), "ova.yaml")
	if err := os.WriteFile(settings, []byte("product: {properties: [{key: VERSION, value: v1}]}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	out, errOut, code := command("convert", path, "--to", strings.Join(known.Names(), ","), "-o", dir, "--ova", settings)
	if code != 0 {
		t.Fatalf("exit code %d: %s", code, errOut)
	}
	files := strings.Fields(out)
	if len(files) != len(known.Names()) {
		t.Fatalf("printed %q", files)
	}
	for _, file := range files {
		out, errOut, code := command("inspect", "--json", file)
		if code != 0 {
			t.Fatalf("inspect %s: exit code %d: %s", file, code, errOut)
		}
		reporttest.Validate(t, inspect.ReportKind, []byte(out))
		var report inspect.Report
		if err := json.Unmarshal([]byte(out), &report); err != nil {
			t.Fatal(err)
		}
		if report.VirtualSize < 3<<20 || report.PartitionTable != "mbr" || len(report.Partitions) != 1 ||
			report.Partitions[0].FileSystem != "ext4" || report.Partitions[0].Label != "rootfs" || len(report.SHA256) != 64 {
			t.Errorf("%s: %+v", file, report)
		}
		if report.Format == "ova" && (report.Product == nil || len(report.Product.Properties) != 1 || report.VirtualMachine != "node") {
			t.Errorf("OVA: %+v", report.Product)
		}
		if out, _, code := command("inspect", "--no-digest", file); code != 0 || !strings.Contains(out, "rootfs") || strings.Contains(out, "sha256") {
			t.Errorf("inspect %s printed:\n%s", file, out)
		}
	}
}

func TestConvertNamesFilesWithoutTheWholeSuffixOfTheirSource(t *testing.T) {
	dir := t.TempDir()
	archive := strings.TrimSpace(output(t, "convert", rawDisk(t), "--to", "gce", "-o", dir)) // node.tar.gz
	if got := output(t, "convert", archive, "--to", "qcow2", "-o", dir); got != filepath.Join(dir, "node.qcow2")+"\n" {
		t.Errorf("%s became %s", archive, got)
	}
}

func TestConvertRefusesWhatMakesNoSense(t *testing.T) {
	path := rawDisk(t)
	broken := filepath.Join(t.TempDir(), "broken.qcow2")
	if err := os.WriteFile(broken, append([]byte("QFI\xfb\x00\x00\x00\x03"), make([]byte, 200)...), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		kind fault.Kind
		args []string
	}{
		"no format":              {fault.Usage, []string{path}},
		"an unknown format":      {fault.Usage, []string{path, "--to", "vdi"}},
		"an unknown compression": {fault.Usage, []string{path, "--to", "qcow2", "--qcow2-compression", "lzma"}},
		"an unknown kind of VHD": {fault.Usage, []string{path, "--to", "vhd", "--vhd", "sparse"}},
		"its own input":          {fault.Usage, []string{path, "--to", "raw", "-o", filepath.Dir(path)}},
		"a key alone":            {fault.Usage, []string{path, "--to", "ova", "--ova-sign-key", path}},
		"no such file":           {fault.Usage, []string{path + "x", "--to", "raw"}},
		"a damaged image":        {fault.Unverifiable, []string{broken, "--to", "raw", "-o", t.TempDir()}},
	} {
		t.Run(name, func(t *testing.T) {
			if _, errOut, code := command(append([]string{"convert"}, test.args...)...); code != test.kind.ExitCode() {
				t.Errorf("exit code %d, want %d: %s", code, test.kind.ExitCode(), errOut)
			}
		})
	}
}
