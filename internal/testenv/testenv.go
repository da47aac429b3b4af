// Package testenv says what a test needs of the machine. A machine that lacks
// it skips the test and says so; CI sets NODESMITH_TEST_MUST_RUN=1, and there
// the same lack is a failure.
package testenv

import (
	"bytes"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// Need ends the test unless every program is on PATH.
func Need(t testing.TB, programs ...string) {
	t.Helper()
	for _, p := range programs {
		if _, err := exec.LookPath(p); err != nil {
			Lacks(t, "program "+p)
		}
	}
}

// NeedRoot ends the test unless it runs as root.
func NeedRoot(t testing.TB) {
	t.Helper()
	if os.Geteuid() != 0 {
		Lacks(t, "root")
	}
}

// Lacks ends the test because the machine lacks what: skipped on a user's
// machine, failed where NODESMITH_TEST_MUST_RUN=1.
func Lacks(t testing.TB, what string) {
	t.Helper()
	if os.Getenv("NODESMITH_TEST_MUST_RUN") == "1" {
		t.Fatalf("this machine lacks %s, and NODESMITH_TEST_MUST_RUN=1 forbids to skip", what)
	}
	t.Skipf("SKIPPED: this machine lacks %s (make test-deps installs it)", what)
}

// CopyFile copies a file, such as a program to where another user may run it.
func CopyFile(t testing.TB, from, to string, mode os.FileMode) {
	t.Helper()
	data, err := os.ReadFile(from)
	if err == nil {
		err = os.WriteFile(to, data, mode)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// WriteFile writes a text, and makes the folders above it.
func WriteFile(t testing.TB, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// Eventually asks what was started until it answers without an error. It ends the
// test with the last one when the time is over.
func Eventually(t testing.TB, within time.Duration, ask func() error) {
	t.Helper()
	for deadline := time.Now().Add(within); ; time.Sleep(50 * time.Millisecond) {
		err := ask()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("it does not answer within %s: %v", within, err)
		}
	}
}

// GoProgram compiles a command of this module into the cache of test programs
// and returns its path. One that is up to date is not linked again.
func GoProgram(t testing.TB, pkg string) string {
	t.Helper()
	program := filepath.Join(programs(t), path.Base(pkg))
	goCommand(t, "build", "-o", program, pkg)
	return program
}

// BuildKit compiles one of BuildKit's programs, in the version that nodesmith
// embeds, from the module in test/buildkit.
func BuildKit(t testing.TB, name string) string {
	t.Helper()
	const module = "github.com/moby/buildkit"
	root := filepath.Dir(strings.TrimSpace(goCommand(t, "env", "GOMOD")))
	dir := filepath.Join(root, "test", "buildkit")
	var versions []string
	for _, dir := range []string{root, dir} {
		versions = append(versions, strings.TrimSpace(goCommand(t, "-C", dir, "list", "-m", "-f", "{{.Version}}", module)))
	}
	if versions[0] != versions[1] {
		t.Fatalf("nodesmith embeds BuildKit %s, and test/buildkit/go.mod has %s: make them the same", versions[0], versions[1])
	}
	program := filepath.Join(programs(t), name+"-"+versions[0])
	goCommand(t, "-C", dir, "build", "-o", program, module+"/cmd/"+name)
	return program
}

// ClusterAPI compiles one of the programs in test/clusterapi, which are Cluster
// API's providers in part.
func ClusterAPI(t testing.TB, name string) string {
	t.Helper()
	dir := filepath.Join(filepath.Dir(strings.TrimSpace(goCommand(t, "env", "GOMOD"))), "test", "clusterapi")
	program := filepath.Join(programs(t), "clusterapi-"+name)
	goCommand(t, "-C", dir, "build", "-o", program, "./"+name)
	return program
}

// programs is the folder of programs that tests compile; it outlives the test.
func programs(t testing.TB) string {
	t.Helper()
	cache, err := os.UserCacheDir()
	if err != nil {
		t.Fatal(err)
	}
	return filepath.Join(cache, "nodesmith-test", "bin")
}

func goCommand(t testing.TB, args ...string) string {
	t.Helper()
	Need(t, "go")
	var errOut bytes.Buffer
	command := exec.CommandContext(t.Context(), "go", args...)
	command.Env = append(os.Environ(), "CGO_ENABLED=0")
	command.Stderr = &errOut
	out, err := command.Output()
	if err != nil {
		t.Fatalf("go %s: %v\n%s", strings.Join(args, " "), err, errOut.String())
	}
	return string(out)
}
