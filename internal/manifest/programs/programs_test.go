package programs

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// component makes a directory of programs: copies of files by name.
func component(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, from := range files {
		data, err := os.ReadFile(from)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// The other reader of the same information is the go command.
func TestWhatIsReadIsWhatGoVersionPrints(t *testing.T) {
	goProgram, err := exec.LookPath("go")
	if err != nil {
		t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir := component(t, map[string]string{"self": self, "true": "/bin/true"})
	out := filepath.Join(t.TempDir(), "programs.json")
	if err := Read(t.Context(), Config{Components: map[string]string{"tests": dir}, Out: out}, time.Time{}); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	var got []Program
	if err := json.Unmarshal(text, &got); err != nil || len(got) != 2 {
		t.Fatalf("%s: %v", text, err)
	}
	printed, err := exec.CommandContext(t.Context(), goProgram, "version", "-m", filepath.Join(dir, "self")).Output()
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(printed), got[0].Go) || got[0].Component != "tests" {
		t.Errorf("got %+v, go prints\n%s", got[0], printed)
	}
	for _, m := range got[0].Modules {
		if line := "dep\t" + m.Path + "\t" + m.Version + "\t" + m.Sum; !strings.Contains(string(printed), line) {
			t.Errorf("go does not print %q", line)
		}
	}
	if n := strings.Count(string(printed), "\n\tdep\t"); n != len(got[0].Modules) {
		t.Errorf("%d modules, go prints %d", len(got[0].Modules), n)
	}
	if c := got[1]; c.Name != "true" || c.Go != "" || len(c.SHA256) != 64 {
		t.Errorf("of a program that is not of Go: %+v", c)
	}
}

func TestAFileThatIsNoProgramIsRefused(t *testing.T) {
	dir := component(t, map[string]string{"hosts": "/etc/hosts"})
	err := Read(t.Context(), Config{Components: map[string]string{"tests": dir}, Out: filepath.Join(dir, "out")}, time.Time{})
	if err == nil || !strings.Contains(err.Error(), "hosts is no program") {
		t.Errorf("got %v", err)
	}
}
