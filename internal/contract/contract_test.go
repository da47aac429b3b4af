package contract

import (
	"bytes"
	"flag"
	"os"
	"regexp"
	"strings"
	"testing"

	"nodesmith.dev/nodesmith/internal/fault"
)

var update = flag.Bool("update", false, "write docs/contract.md; the test fails all the same")

const documentation = "../../docs/contract.md"

func TestTheDocumentationIsGeneratedFromTheChecks(t *testing.T) {
	var want bytes.Buffer
	if err := WriteMarkdown(&want); err != nil {
		t.Fatal(err)
	}
	if *update {
		if err := os.WriteFile(documentation, want.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
		t.Error("docs/contract.md was written; run again without -update")
	}
	got, err := os.ReadFile(documentation)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want.Bytes()) {
		t.Error("docs/contract.md is out of date: go test ./internal/contract -run TestTheDocumentation -update")
	}
}

func TestEveryCheckSaysWhatWhyAndHow(t *testing.T) {
	seen := map[string]bool{}
	shape := regexp.MustCompile(`^[a-z-]+\.[a-z0-9._-]+$`)
	for _, c := range List() {
		if !shape.MatchString(c.ID) || seen[c.ID] {
			t.Errorf("the ID %q is malformed or not the only one", c.ID)
		}
		seen[c.ID] = true
		if c.Title == "" || !strings.HasSuffix(c.Why, ".") || !strings.HasSuffix(c.How, ".") || c.run == nil {
			t.Errorf("%s lacks a title, a reason, a method or a checker", c.ID)
		}
		if c.Severity != Required && c.Severity != Recommended {
			t.Errorf("%s has the severity %q", c.ID, c.Severity)
		}
		for _, i := range c.Infrastructures {
			if _, known := sources[i]; !known {
				t.Errorf("%s is for the unknown infrastructure %s", c.ID, i)
			}
		}
	}
	for _, c := range append(faults, credentialFaults...) {
		if !seen[c.check] {
			t.Errorf("the fault %q is meant for %s, which is no check", c.name, c.check)
		}
	}
}

// No failed check may ever let a report pass, whatever else is in it.
func TestNoFailedCheckLetsAReportPass(t *testing.T) {
	checks := List()
	for failing := range checks {
		var r Report
		for i, c := range checks {
			status := Passed
			if i == failing {
				status = Failed
			}
			r.Results = append(r.Results, Result{ID: c.ID, Status: status})
		}
		r.count()
		if err := r.Err(false); err == nil || fault.KindOf(err).ExitCode() != 10 {
			t.Errorf("%s fails and the error is %v", checks[failing].ID, err)
		}
	}
	for name, r := range map[string]Report{
		"no result":    {},
		"only skipped": {Results: []Result{{Status: Skipped}}},
	} {
		r.count()
		if r.Err(false) == nil {
			t.Errorf("%s passes", name)
		}
	}
	warned := Report{Results: []Result{{Status: Passed}, {Status: Warned}}}
	warned.count()
	if warned.Err(false) != nil || warned.Err(true) == nil {
		t.Error("a warning fails an image if and only if --strict says so")
	}
}

func TestDisksThatAreNoImagesFail(t *testing.T) {
	empty := make([]byte, 4<<20)
	signature := bytes.Clone(empty)
	signature[510], signature[511] = 0x55, 0xAA
	for name, disk := range map[string][]byte{"nothing": nil, "zeros": empty, "an MBR without partitions": signature} {
		report, err := Verify(t.Context(), bytes.NewReader(disk), int64(len(disk)), Options{})
		if err != nil {
			t.Fatal(err)
		}
		if report.Counts.Failed == 0 || report.Counts.Passed > 0 || report.Err(false) == nil {
			t.Errorf("%s: %+v", name, report.Counts)
		}
	}
}

func TestACheckThatBreaksDownFails(t *testing.T) {
	n := newNode(nil, 0, Options{})
	got := n.check(Check{ID: "x.y", Severity: Required, raw: true, run: func(*node, *result) { panic("hostile") }})
	if got.Status != Failed || len(got.Problems) != 1 {
		t.Errorf("%+v", got)
	}
}

func TestUnknownInfrastructuresAreRefused(t *testing.T) {
	if _, err := Verify(t.Context(), bytes.NewReader(nil), 0, Options{Infrastructure: "mainframe"}); fault.KindOf(err) != fault.Usage {
		t.Error(err)
	}
}

func TestVersionRanges(t *testing.T) {
	for _, c := range []struct {
		bounds, version string
		want            bool
	}{
		{"", "v1.27.5", true},
		{">=v1.28", "v1.27.5", false},
		{">=v1.28", "v1.28.0", true},
		{">=v1.28", "v1.28.7+vmware.1", true},
		{">=v1.36", "v1.36.0-rc.1", true},
		{">=v1.28 <v1.36", "v1.36.4", false},
	} {
		if got := inRange(c.bounds, c.version); got != c.want {
			t.Errorf("%s in %q: %v", c.version, c.bounds, got)
		}
	}
}

func TestURLsWithPasswordsAreFound(t *testing.T) {
	for text, want := range map[string]bool{
		"deb https://bob:s3cret@mirror.example.com/debian x":  true,
		"http_proxy=http://a:b@proxy:3128":                    true,
		"deb http://deb.debian.org/debian bookworm main":      false,
		"https://example.com:8080/a@b":                        false,
		"http://user@example.com/":                            false,
		"Defaults mailto=\"root\" http://%s:%s@%s":            false,
		"proxy: http://${USER}:${PASSWORD}@proxy.example.com": false,
	} {
		if got := urlPassword.MatchString(text); got != want {
			t.Errorf("%q: %v", text, got)
		}
	}
}

func TestTextFromImagesIsSafeForATerminal(t *testing.T) {
	if got := printable("a\x1b[2Jb\"c"); got != `a\x1b[2Jb"c` {
		t.Errorf("%q", got)
	}
}

func FuzzReadInitramfs(f *testing.F) {
	f.Add([]byte(cpio("init", "a.ko")))
	f.Add([]byte("\x1f\x8b"))
	f.Fuzz(func(_ *testing.T, b []byte) {
		_ = readInitramfs(bytes.NewReader(b), func(string) {})
	})
}

func TestInitramfsNamesAreRead(t *testing.T) {
	early := cpio("kernel/x86/microcode/GenuineIntel.bin")
	var names []string
	text := early + "\x00\x00\x00\x00" + cpio("init", "usr/lib/a.ko.xz")
	if err := readInitramfs(strings.NewReader(text), func(n string) { names = append(names, n) }); err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(names, " "); got != "kernel/x86/microcode/GenuineIntel.bin init usr/lib/a.ko.xz" {
		t.Errorf("%q", got)
	}
}
