package cli

import (
	"bytes"
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"nodesmith.dev/nodesmith/internal/contract"
	"nodesmith.dev/nodesmith/internal/fault"
	"nodesmith.dev/nodesmith/internal/format/known"
	"nodesmith.dev/nodesmith/internal/manifest"
	"nodesmith.dev/nodesmith/internal/report"
	"nodesmith.dev/nodesmith/internal/report/reporttest"
)

func TestAFailedContractExitsWithItsOwnCode(t *testing.T) {
	disk := write(t, "x.raw", strings.Repeat("\x00", 1<<20))
	for name, tt := range map[string]struct {
		args []string
		kind fault.Kind
		want string
	}{
		"an empty disk":          {[]string{disk}, fault.Contract, "FAIL  disk.partition-table"},
		"as JSON":                {[]string{disk, "--json"}, fault.Contract, `"status": "fail"`},
		"nothing at all":         {[]string{write(t, "y.raw", "")}, fault.Contract, "FAIL"},
		"unknown infrastructure": {[]string{disk, "--infrastructure", "moon"}, fault.Usage, ""},
		"unknown firmware":       {[]string{disk, "--firmware", "efi"}, fault.Usage, ""},
	} {
		t.Run(name, func(t *testing.T) {
			var out, errOut bytes.Buffer
			exit := Main(append([]string{"verify", "--level", "contract"}, tt.args...), &out, &errOut)
			if exit != tt.kind.ExitCode() || !strings.Contains(out.String(), tt.want) {
				t.Errorf("exit code %d, want %d\n%s%s", exit, tt.kind.ExitCode(), out.String(), errOut.String())
			}
		})
	}
}

// The disk is a bad one; the contract of a good one, in every format, is checked
// by the tests of the built image.
func TestTheContractIsTheSameInEveryFormat(t *testing.T) {
	path, dir := rawDisk(t), t.TempDir()
	verdict := func(file string) map[string]contract.Status {
		t.Helper()
		out, errOut, code := command("verify", "--level", "contract", "--json", "--infrastructure", "qemu", file)
		var verified report.Verification
		if err := json.Unmarshal([]byte(out), &verified); err != nil || code != fault.Contract.ExitCode() {
			t.Fatalf("%s: exit code %d, %v\n%s", file, code, err, errOut)
		}
		reporttest.Validate(t, report.VerifyKind, []byte(out))
		statuses := map[string]contract.Status{}
		for _, r := range verified.Checks {
			statuses[r.ID] = r.Status
		}
		return statuses
	}
	want := verdict(path)
	out, errOut, code := command("convert", path, "--to", strings.Join(known.Names(), ","), "-o", dir)
	if code != 0 {
		t.Fatal(errOut)
	}
	for file := range strings.Lines(out) {
		file = strings.TrimSpace(file)
		if got := verdict(file); !maps.Equal(got, want) {
			t.Errorf("%s: %v, want %v", file, got, want)
		}
		// The content decides, not the name.
		other := filepath.Join(dir, "other.raw")
		if err := os.Rename(file, other); err != nil {
			t.Fatal(err)
		}
		if got := verdict(other); !maps.Equal(got, want) {
			t.Errorf("%s under another name: %v, want %v", file, got, want)
		}
	}
}

func TestTheContractIsListed(t *testing.T) {
	var text, asJSON, errOut bytes.Buffer
	if exit := Main([]string{"contract", "list"}, &text, &errOut); exit != 0 {
		t.Fatal(exit, errOut.String())
	}
	if exit := Main([]string{"contract", "list", "--json"}, &asJSON, &errOut); exit != 0 {
		t.Fatal(exit, errOut.String())
	}
	reporttest.Validate(t, report.ContractKind, asJSON.Bytes())
	var document struct{ Checks []contract.Check }
	if err := json.Unmarshal(asJSON.Bytes(), &document); err != nil {
		t.Fatal(err)
	}
	if lines := strings.Count(text.String(), "\n"); lines != len(document.Checks) || lines != len(contract.List()) {
		t.Errorf("%d lines and %d checks", lines, len(document.Checks))
	}
}

func TestTheInfrastructureIsReadFromTheFileName(t *testing.T) {
	for name, want := range map[string]string{
		"out/debian-12-qemu.raw": "qemu", "web-vsphere.img": "vsphere", "web-gcp.tar.gz": "gcp", "v1.2-aws.qcow2": "aws", "debian-12.raw": "", "qemu.raw": "", "x-moon.raw": "",
	} {
		if got := infrastructureOf(filepath.FromSlash(name)); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
}

func TestTheManifestBesideAnImageSaysWhatWasAskedFor(t *testing.T) {
	dir := t.TempDir()
	m := manifest.Manifest{Customization: manifest.Customization{Users: []string{"ada"}, Files: []manifest.File{{Path: "/etc/motd"}}}}
	if err := m.Write(filepath.Join(dir, "node-gcp.manifest.json")); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]int{"node-gcp.tar.gz": 1, "node-gcp.raw": 1, "other-gcp.raw": 0} {
		asked, err := customizationOf(filepath.Join(dir, name))
		if err != nil || len(asked.Users) != want || len(asked.Files) != want {
			t.Errorf("%s: %+v, %v", name, asked, err)
		}
	}
}
