package cli

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"nodesmith.dev/nodesmith/internal/testenv"
)

// golden holds what every failure of TestFailures prints, to the letter.
const golden = "testdata/failures.txt"

// fixture is where a failure's files are: a folder of its own that is the working
// folder, too.
type fixture struct {
	t   *testing.T
	dir string
}

// write puts a file into the folder.
func (f fixture) write(name, text string) {
	f.t.Helper()
	if err := os.WriteFile(filepath.Join(f.dir, name), []byte(text), 0o600); err != nil {
		f.t.Fatal(err)
	}
}

// config is the user's configuration file.
func (f fixture) config(text string) {
	f.t.Helper()
	if err := os.MkdirAll(filepath.Join(f.dir, "config", "nodesmith"), 0o755); err != nil {
		f.t.Fatal(err)
	}
	f.write("config/nodesmith/config.yaml", text)
}

// image makes a disk of one format under that name, and cuts it to length bytes.
func (f fixture) image(format string, length int64) {
	f.t.Helper()
	disk := make([]byte, 3<<20)
	disk[510], disk[511] = 0x55, 0xaa
	for i := 1 << 20; i < 2<<20; i++ {
		disk[i] = byte(i * i >> 3)
	}
	f.write("node.raw", string(disk))
	if _, errOut, code := command("convert", "node.raw", "--to", format, "--cache=false", "--name", "made"); code != 0 {
		f.t.Fatal(errOut)
	}
	if err := os.Truncate("made."+format, length); err != nil {
		f.t.Fatal(err)
	}
}

// mirrors names a mirror of Debian's archives, and Go's proxy.
func (f fixture) mirrors(url, goProxy string) {
	f.config("goProxy: " + goProxy + "\nmirrors:\n  http://deb.debian.org/debian: [" + url + "/debian]\n  http://deb.debian.org/debian-security: [" + url + "/security]\n")
}

// small is a file system of that many bytes, at the folder "small".
func (f fixture) small(bytes int) {
	f.t.Helper()
	dir := filepath.Join(f.dir, "small")
	if err := os.Mkdir(dir, 0o755); err != nil {
		f.t.Fatal(err)
	}
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, fmt.Sprintf("size=%d", bytes)); err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
}

// readOnly is a file system at the folder "small" that nothing can be written to.
func (f fixture) readOnly() {
	f.t.Helper()
	f.small(4 << 10)
	if err := unix.Mount("", filepath.Join(f.dir, "small"), "", unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil {
		f.t.Fatal(err)
	}
}

// deadPort is the address of a server on this machine that does not run.
func deadPort(t *testing.T) string {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	return "http://" + listener.Addr().String()
}

// serving is a mirror that answers everything in the same way.
func serving(t *testing.T, status int, body string) string {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(status)
		_, _ = w.Write([]byte(body))
	}))
	t.Cleanup(server.Close)
	return server.URL
}

// variable is what is not recorded to the letter: ports and names that the system
// chooses, and lists of everything that nodesmith knows.
var variable = []struct {
	like    *regexp.Regexp
	standIn string
}{
	{regexp.MustCompile(`127\.0\.0\.1:\d+`), "127.0.0.1:PORT"},
	{regexp.MustCompile(`(\.node\.raw)\d+`), "${1}NUMBER"},
	{regexp.MustCompile(`(?:[\w.]+, ){3,}[\w.]+`), "LIST"},
	{regexp.MustCompile(`\[(?:\w+ ){3,}\w+\]`), "[LIST]"},
}

// silent is a server that never answers: what asks it fails for no reason of its
// own.
func silent(t *testing.T) string {
	listener, err := net.Listen("tcp", "127.0.0.1:0") // the system accepts for it
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	return "http://" + listener.Addr().String()
}

// failure is a command that fails. In args and in what is printed, the folder
// stands for itself.
type failure struct {
	name  string
	setup func(f fixture)
	args  []string
	root  bool // only root gets as far as this failure
}

func specWith(change ...string) func(fixture) {
	return func(f fixture) { f.write("web.yaml", strings.NewReplacer(change...).Replace(spec12)) }
}

func adding(lines string) func(fixture) { return func(f fixture) { f.write("web.yaml", spec12+lines) } }

func fileOf(name, text string) func(fixture) { return func(f fixture) { f.write(name, text) } }

func asTyped(line string) []string { return strings.Fields(line) }

var validate = asTyped("validate -f web.yaml")

var failures = []failure{
	// The command line.
	{name: "a command that is none", args: asTyped("bild")},
	{name: "a flag that is none", args: asTyped("build --fil web.yaml")},
	{name: "a flag without its value", args: asTyped("build -f")},
	{name: "an argument too many", args: asTyped("build web.yaml")},
	{name: "keeping no image", args: asTyped("prune --keep 0")},
	{name: "a bound of what has none", args: asTyped("prune --bound store=1GiB")},
	{name: "a bound that is no size", args: asTyped("prune --bound go=much")},
	{name: "a bound of the configuration that is no size", setup: func(f fixture) { f.config("cache: {engine: 20 gigabytes}\n") }, args: asTyped("prune --list")},
	{name: "no spec", args: asTyped("build")},
	{name: "a level that is none", setup: fileOf("web.raw", "a"), args: asTyped("verify web.raw --level moon")},
	{name: "progress of no kind", setup: specWith(), args: asTyped("build -f web.yaml --progress fancy")},
	{name: "a kind of document that is none", args: asTyped("schema --kind Moon")},
	{name: "a field that is none", args: asTyped("explain spec.dsik")},
	{name: "two images to verify", args: asTyped("verify a.raw b.raw")},
	{name: "no image to remove", args: asTyped("rm")},
	{name: "two images to say the state of", args: asTyped("publish status a b")},
	{name: "one image to compare", args: asTyped("diff a.raw")},
	{name: "two fields at once", args: asTyped("explain spec.os spec.disk")},
	{name: "a time that is none", args: asTyped("verify a.raw --deadline soon")},

	// The spec.
	{name: "a spec that is not there", args: validate},
	{name: "a spec that is a folder", setup: func(f fixture) { _ = os.Mkdir("web.yaml", 0o755) }, args: validate},
	{name: "an empty spec", setup: fileOf("web.yaml", ""), args: validate},
	{name: "a spec that is no YAML", setup: fileOf("web.yaml", "a: [\n"), args: validate},
	{name: "a spec that is a program", setup: fileOf("web.yaml", "\x7fELF\x02\x01\x01\x00\x00\x00"), args: validate},
	{name: "a list in place of a spec", setup: fileOf("web.yaml", "- a\n- b\n"), args: validate},
	{name: "two specs in one file", setup: func(f fixture) { f.write("web.yaml", spec12+"---\n"+spec12) }, args: validate},
	{name: "another kind", setup: specWith("NodeImage", "Deployment"), args: validate},
	{name: "another version", setup: specWith("v1alpha1", "v2"), args: validate},
	{name: "a field with a typo", setup: specWith("kubernetes:", "kubernets:"), args: validate},
	{name: "a distribution with a typo", setup: specWith("debian,", "debain,"), args: validate},
	{name: "a release that is not built", setup: specWith(`"12"`, `"7"`), args: validate},
	{name: "a Kubernetes that is not built", setup: specWith("v1.34.0", "v1.12.0"), args: validate},
	{name: "a vendor's Kubernetes", setup: specWith("v1.34.0", "v1.34.0+vmware.1"), args: validate},
	{name: "a Kubernetes without its v", setup: specWith("v1.34.0", "1.34.0"), args: validate},
	{name: "an infrastructure that is none", setup: specWith("[qemu]", "[vshpere]"), args: validate},
	{name: "no infrastructure", setup: specWith("[qemu]", "[]"), args: validate},
	{name: "a field twice", setup: adding("  infrastructures: [aws]\n"), args: validate},
	{name: "a text in place of a list", setup: adding("  packages: jq\n"), args: validate},
	{name: "a size that is none", setup: adding("  disk: {size: large}\n"), args: validate},
	{name: "a mode that is none", setup: adding("  files: [{path: /etc/a, content: a, mode: rwx}]\n"), args: validate},
	{name: "a file that is not there", setup: adding("  files: [{path: /etc/a, source: a.txt}]\n"), args: validate},
	{name: "a file outside the folder", setup: adding("  files: [{path: /etc/a, source: ../../etc/passwd}]\n"), args: validate},
	{name: "a path that is not absolute", setup: adding("  files: [{path: etc/a, content: a}]\n"), args: validate},
	{name: "a password in place of a key", setup: adding("  users: [{name: ada, sshAuthorizedKeys: [secret]}]\n"), args: validate},
	{name: "several mistakes at once", setup: specWith("debian,", "debain,", "v1.34.0", "v1.12.0", "[qemu]", "[moon]"), args: validate},
	{name: "--set of a field with a typo", setup: specWith(), args: asTyped("validate -f web.yaml --set spec.kubernets.version=v1.34.1")},
	{name: "--set without a value", setup: specWith(), args: asTyped("validate -f web.yaml --set spec.kubernetes.version")},

	{name: "--infrastructure that is none", setup: specWith(), args: asTyped("plan -f web.yaml --infrastructure qemu,moon")},

	// The lock.
	{name: "no lock", setup: specWith(), args: asTyped("build -f web.yaml --locked")},
	{name: "a lock for other inputs", setup: func(f fixture) { specWith()(f); f.write("web.lock.yaml", staleLock) }, args: asTyped("build -f web.yaml --locked")},
	{name: "a lock that is no YAML", setup: func(f fixture) { specWith()(f); f.write("web.lock.yaml", "a: [\n") }, args: asTyped("build -f web.yaml")},
	{name: "a lock of another kind", setup: func(f fixture) {
		specWith()(f)
		f.write("web.lock.yaml", strings.Replace(staleLock, "kind: Lock", "kind: Key", 1))
	}, args: asTyped("build -f web.yaml")},

	// Images.
	{name: "an image that is not there", args: asTyped("verify web.raw --level contract")},
	{name: "an image that is a folder", setup: func(fixture) { _ = os.Mkdir("web.raw", 0o755) }, args: asTyped("inspect web.raw")},
	{name: "an image of no bytes", setup: fileOf("web.raw", ""), args: asTyped("verify web.raw --level boot")},
	{name: "a text in place of a disk", setup: fileOf("web.raw", strings.Repeat("hello ", 1000)), args: asTyped("verify web.raw --level boot")},
	{name: "a disk without partitions", setup: fileOf("web.raw", strings.Repeat("\x00", 1<<20)), args: asTyped("verify web.raw --level contract")},
	{name: "a qcow2 cut short", setup: func(f fixture) { f.image("qcow2", 100_000) }, args: asTyped("convert made.qcow2 --to raw --cache=false")},
	{name: "a vmdk cut short", setup: func(f fixture) { f.image("vmdk", 100_000) }, args: asTyped("convert made.vmdk --to raw --cache=false")},
	{name: "an ova cut short", setup: func(f fixture) { f.image("ova", 100_000) }, args: asTyped("inspect made.ova")},
	{name: "a vhd cut short", setup: func(f fixture) { f.image("vhd", 100_000) }, args: asTyped("inspect made.vhd --from vhd")},
	{name: "an image in a format that is none", setup: fileOf("web.raw", "a"), args: asTyped("inspect web.raw --from vdi")},
	{name: "a format to make that is none", setup: fileOf("web.raw", "a"), args: asTyped("convert web.raw --to vdi")},
	{name: "no format to make", setup: fileOf("web.raw", "a"), args: asTyped("convert web.raw")},
	{name: "an image onto itself", setup: fileOf("web.raw", "a"), args: asTyped("convert web.raw --to raw")},
	{name: "a folder that is a file", setup: func(f fixture) { f.write("web.raw", "a"); f.write("out", "") }, args: asTyped("convert web.raw --to qcow2 -o out")},
	{name: "a lock to keep of that is not there", setup: specWith(), args: asTyped("lock -f web.yaml --keep-from web.lock.yaml")},
	{name: "a folder for the lock that is a file", setup: specWith(), args: asTyped("lock -f web.yaml -o web.yaml")},
	{name: "a folder for the lock that is read only", root: true, setup: func(f fixture) { specWith()(f); f.readOnly() }, args: asTyped("lock -f web.yaml -o small")},
	{name: "a key that is none", setup: func(f fixture) { f.write("web.raw", "a"); f.write("key", "a") }, args: asTyped("convert web.raw --to ova --ova-sign-key key --ova-sign-certificate key")},
	{name: "a key without its certificate", setup: fileOf("web.raw", "a"), args: asTyped("convert web.raw --to ova --ova-sign-key key")},
	{name: "an infrastructure to verify for that is none", setup: fileOf("web.raw", strings.Repeat("\x00", 1<<20)), args: asTyped("verify web.raw --level contract --infrastructure moon")},
	{name: "a firmware that is none", setup: fileOf("web.raw", "a"), args: asTyped("verify web.raw --firmware efi")},
	{name: "a converted image on a full file system", root: true, setup: func(f fixture) { f.image("qcow2", 1); f.small(64 << 10) }, args: asTyped("convert node.raw --to raw --cache=false -o small")},

	// The machine.
	{name: "a configuration with a typo", setup: func(f fixture) { specWith()(f); f.config("mirror: {}\n") }, args: asTyped("lock -f web.yaml")},
	{name: "a configuration that is no YAML", setup: func(f fixture) { specWith()(f); f.config("mirrors: [\n") }, args: asTyped("lock -f web.yaml")},
	{name: "no home", setup: func(f fixture) { specWith()(f); f.t.Setenv("XDG_CACHE_HOME", ""); f.t.Setenv("HOME", "") }, args: asTyped("lock -f web.yaml")},
	{name: "no runc", root: true, setup: func(f fixture) { specWith()(f); f.t.Setenv("PATH", f.dir) }, args: asTyped("lock -f web.yaml")},
	{name: "no QEMU", setup: func(f fixture) { f.image("qcow2", 3<<20); f.t.Setenv("PATH", f.dir) }, args: asTyped("verify node.raw --level boot")},
	{name: "a cache that is a file", root: true, setup: func(f fixture) { specWith()(f); f.write("cache", "") }, args: asTyped("lock -f web.yaml")},
	{name: "an engine on a full file system", root: true, setup: func(f fixture) {
		f.small(8 << 10)
		if err := os.MkdirAll(filepath.Join(f.dir, "small", "nodesmith", "engine"), 0o755); err != nil {
			f.t.Fatal(err)
		}
		f.t.Setenv("XDG_CACHE_HOME", filepath.Join(f.dir, "small"))
	}, args: asTyped("prune --dry-run")},

	// The network.
	{name: "a mirror that does not run", root: true, setup: func(f fixture) { specWith()(f); f.mirrors(deadPort(f.t), silent(f.t)) }, args: asTyped("lock -f web.yaml --progress quiet")},
	{name: "a mirror without the archive", root: true, setup: func(f fixture) { specWith()(f); f.mirrors(serving(f.t, 404, "no"), silent(f.t)) }, args: asTyped("lock -f web.yaml --progress quiet")},
	{name: "a mirror that serves something else", root: true, setup: func(f fixture) {
		specWith()(f)
		f.mirrors(serving(f.t, 200, "<html>Please log in</html>"), silent(f.t))
	}, args: asTyped("lock -f web.yaml --progress quiet")},
	{name: "a Go proxy that serves something else", root: true, setup: func(f fixture) {
		specWith()(f)
		f.mirrors(silent(f.t), serving(f.t, 200, "<html>Please log in</html>"))
	}, args: asTyped("lock -f web.yaml --progress quiet")},
	{name: "a Go proxy of no scheme", root: true, setup: func(f fixture) { specWith()(f); f.mirrors(silent(f.t), "ftp://example.com") }, args: asTyped("lock -f web.yaml --progress quiet")},
}

// Each failure's output is what it was when it was recorded: with
// NODESMITH_RECORD=1, which fails the test so that no record goes unread.
func TestFailuresSayWhatFailedAndWhatToDo(t *testing.T) {
	recorded := map[string]string{}
	data, err := os.ReadFile(golden)
	if err != nil && os.Getenv("NODESMITH_RECORD") == "" {
		t.Fatal(err)
	}
	for _, part := range strings.Split(string(data), "\n== ")[1:] {
		name, text, _ := strings.Cut(part, "\n")
		recorded[name] = text
	}
	var record strings.Builder
	record.WriteString("What failing commands print, and their exit codes. TestFailuresSayWhatFailedAndWhatToDo\nholds this file, and NODESMITH_RECORD=1 writes it.\n")
	for _, f := range failures {
		t.Run(f.name, func(t *testing.T) {
			got := f.run(t)
			fmt.Fprintf(&record, "\n== %s\n%s", f.name, got)
			if want := recorded[f.name]; got != want && os.Getenv("NODESMITH_RECORD") == "" {
				t.Errorf("got\n%s\nwant\n%s", got, want)
			}
			for _, bad := range []string{"goroutine ", "exit status", "internal error", "panic"} {
				if strings.Contains(got, bad) {
					t.Errorf("%q is in\n%s", bad, got)
				}
			}
		})
	}
	if os.Getenv("NODESMITH_RECORD") != "" {
		if err := os.WriteFile(golden, []byte(record.String()), 0o644); err != nil {
			t.Fatal(err)
		}
		t.Fatal("recorded: read it, and run the test without NODESMITH_RECORD")
	}
}

// run returns the command, what it printed, and its exit code.
func (x failure) run(t *testing.T) string {
	if x.root {
		testenv.NeedRoot(t)
		testenv.Need(t, "runc")
	}
	// t.TempDir's names are too long for a socket, and this folder is in messages.
	dir, err := os.MkdirTemp("/tmp", "nodesmith-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	t.Chdir(dir)
	t.Setenv("XDG_CACHE_HOME", filepath.Join(dir, "cache"))
	t.Setenv("XDG_CONFIG_HOME", filepath.Join(dir, "config"))
	silenceGo(t, filepath.Join(dir, "config"))
	if x.setup != nil {
		x.setup(fixture{t, dir})
	}
	_, errOut, code := command(x.args...)
	if code == 0 {
		t.Errorf("it did not fail")
	}
	text := fmt.Sprintf("$ nodesmith %s\n%s[exit code %d]\n", strings.Join(x.args, " "), errOut, code)
	for _, v := range variable {
		text = v.like.ReplaceAllString(text, v.standIn)
	}
	return strings.ReplaceAll(text, dir, "DIR")
}

// silenceGo keeps the go command, which is asked for its settings, from leaving a
// process that counts this later, in a folder of configurations that is gone by then.
func silenceGo(t *testing.T, config string) {
	t.Helper()
	telemetry := filepath.Join(config, "go", "telemetry")
	if err := errors.Join(os.MkdirAll(telemetry, 0o755), os.WriteFile(filepath.Join(telemetry, "mode"), []byte("off"), 0o644)); err != nil {
		t.Fatal(err)
	}
}
