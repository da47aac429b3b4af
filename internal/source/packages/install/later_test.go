package install

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"nodesmith.dev/nodesmith/internal/testenv"
)

// compiler makes a program that notes its arguments, one a line, and then does what
// the script says.
func compiler(t *testing.T, script string) (program, notes string) {
	t.Helper()
	dir := t.TempDir()
	program, notes = filepath.Join(dir, "py3compile"), filepath.Join(dir, "notes")
	text := "#!/bin/sh\nprintf '<%s>' \"$@\" >> " + notes + "\necho >> " + notes + "\n" + script + "\n"
	if err := os.WriteFile(program, []byte(text), 0o755); err != nil {
		t.Fatal(err)
	}
	return program, notes
}

// call calls the program as a package's script does.
func call(t *testing.T, l *later, args ...string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "sh", append([]string{"-c", `py3compile "$@"`, "postinst"}, args...)...)
	cmd.Env = []string{"PATH=" + l.path()}
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("py3compile %q: %v\n%s", args, err, out)
	}
}

func TestCallsRunLaterInTheirOrder(t *testing.T) {
	program, notes := compiler(t, "sleep 0.05")
	l, err := runLater(t.Context(), program, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"-p", "python3-six"}, {"-p", "cloud-init", "/usr/lib/a b", "-X", `.*\.py "x"`}, {"-V", "3.11"}} {
		call(t, l, args...)
	}
	if err := l.wait(nil); err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(notes)
	want := "<-p><python3-six>\n<-p><cloud-init></usr/lib/a b><-X><.*\\.py \"x\">\n<-V><3.11>\n"
	if err != nil || string(got) != want {
		t.Errorf("called %q, %v; want %q", got, err, want)
	}
	if _, err := os.Stat(l.dir); err == nil {
		t.Error("the script is still there")
	}
}

func TestAFailureOfALaterCallIsTold(t *testing.T) {
	program, notes := compiler(t, "exit 3")
	l, err := runLater(t.Context(), program, nil)
	if err != nil {
		t.Fatal(err)
	}
	call(t, l, "-p", "broken")
	call(t, l, "-p", "next")
	if err := l.wait(nil); err == nil || !strings.Contains(err.Error(), "py3compile -p broken: exit status 3") {
		t.Errorf("error %v", err)
	}
	if got, err := os.ReadFile(notes); err != nil || string(got) != "<-p><broken>\n" {
		t.Errorf("called %q, %v: only the first call is worth running", got, err)
	}
}

func TestLaterCallsEndWithWhatCallsThem(t *testing.T) {
	failed := errors.New("dpkg: no space left on device")
	for name, end := range map[string]func(l *later, cancel context.CancelFunc) error{
		"it failed":        func(l *later, _ context.CancelFunc) error { return l.wait(failed) },
		"it was cancelled": func(l *later, cancel context.CancelFunc) error { cancel(); return l.wait(failed) },
	} {
		t.Run(name, func(t *testing.T) {
			program, _ := compiler(t, "exec sleep 600")
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			l, err := runLater(ctx, program, nil)
			if err != nil {
				t.Fatal(err)
			}
			call(t, l, "-p", "slow")
			ended := make(chan error, 1)
			go func() { ended <- end(l, cancel) }()
			select {
			case err := <-ended:
				if !errors.Is(err, failed) {
					t.Errorf("error %v, want %v", err, failed)
				}
			case <-time.After(time.Minute):
				t.Fatal("still waiting")
			}
		})
	}
}

func TestWithoutTheProgramNothingIsInItsPlace(t *testing.T) {
	l, err := runLater(t.Context(), filepath.Join(t.TempDir(), "py3compile"), nil)
	if err != nil {
		t.Fatal(err)
	}
	if l.path() != searchPath {
		t.Errorf("search path %q", l.path())
	}
	if err := l.wait(nil); err != nil {
		t.Error(err)
	}
}

func TestCallsRunOnce(t *testing.T) {
	program, notes := compiler(t, "")
	l, err := runLater(t.Context(), program, [][]string{{"-p", "before"}})
	if err != nil {
		t.Fatal(err)
	}
	l.call([]string{"-p", "early"})
	for _, name := range []string{"early", "before", "late", "late"} {
		call(t, l, "-p", name)
	}
	if err := l.wait(nil); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(notes); err != nil || string(got) != "<-p><early>\n<-p><late>\n" {
		t.Errorf("called %q, %v", got, err)
	}
}

func TestPlainCallsAreThoseThatTakeNoShell(t *testing.T) {
	root := t.TempDir()
	for name, text := range map[string]string{
		"python3-six.postinst": "#!/bin/sh\nset -e\nif command -v py3compile >/dev/null 2>&1; then\n\tpy3compile -p python3-six \nfi\nif command -v pypy3compile >/dev/null 2>&1; then\n\tpypy3compile -p python3-six  || true\nfi\n",
		"cloud-init.postinst":  "py3compile -p cloud-init /usr/lib/cloud-init -V 3.11-\n",
		"a.postinst":           "py3compile -p a\n  py3compile -p a /usr/share/a\n",
		"shell.postinst":       "py3compile -p \"$PKG\"\npy3compile -p x && true\npy3compile -p y -X 'z'\n# py3compile -p w\n",
		"python3-six.prerm":    "py3compile -p no\n",
	} {
		testenv.WriteFile(t, filepath.Join(root, infoDir, name), text)
	}
	got, err := plainCalls(root)
	want := [][]string{{"-p", "a"}, {"-p", "a", "/usr/share/a"}, {"-p", "cloud-init", "/usr/lib/cloud-init", "-V", "3.11-"}, {"-p", "python3-six"}}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("calls %q, %v; want %q", got, err, want)
	}
}
