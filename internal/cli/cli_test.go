package cli

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"nodesmith.dev/nodesmith/internal/fault"
	"nodesmith.dev/nodesmith/internal/lock"
	"nodesmith.dev/nodesmith/internal/progress/display"
)

const spec12 = `apiVersion: nodesmith.dev/v1alpha1
kind: NodeImage
metadata: {name: web}
spec:
  os: {distro: debian, version: "12"}
  kubernetes: {version: v1.34.0}
  infrastructures: [qemu]
`

func write(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestCommandsAnswerMistakesWithAnExitCodeAndARemedy(t *testing.T) {
	good := write(t, "web.yaml", spec12)
	typo := write(t, "typo.yaml", strings.Replace(spec12, "debian", "debain", 1))
	for name, tt := range map[string]struct {
		args []string
		kind fault.Kind
		want []string
	}{
		"unknown command":     {[]string{"bild"}, fault.Usage, []string{`unknown command "bild"`, "--help lists the commands"}},
		"unknown flag":        {[]string{"build", "--fil", "x"}, fault.Usage, []string{"unknown flag: --fil", "nodesmith build --help"}},
		"argument":            {[]string{"build", "x.yaml"}, fault.Usage, []string{`unexpected argument "x.yaml"`}},
		"no file":             {[]string{"build"}, fault.Usage, []string{"no NodeImage was given", "-f FILE"}},
		"missing file":        {[]string{"validate", "-f", "/nonexistent/x.yaml"}, fault.BadSpec, []string{"/nonexistent/x.yaml", "no such file"}},
		"a typo":              {[]string{"validate", "-f", typo}, fault.BadSpec, []string{"typo.yaml:5:16", `"debain"`, `did you mean "debian"?`}},
		"a bad --set":         {[]string{"validate", "-f", good, "--set", "spec.kubernets.version=v1.34.1"}, fault.BadSpec, []string{"kubernets", "kubernetes"}},
		"bad progress":        {[]string{"lock", "-f", good, "--progress", "fancy"}, fault.Usage, []string{`"fancy"`, "plain"}},
		"no lock":             {[]string{"build", "-f", good, "--locked"}, fault.BadSpec, []string{"there is no", "web.lock.yaml", "run nodesmith lock first"}},
		"progress of retract": {[]string{"publish", "retract", "x", "-f", good, "--progress", "fancy"}, fault.Usage, []string{`"fancy"`, "plain"}},
		"no image":            {[]string{"verify"}, fault.Usage, []string{"exactly one IMAGE"}},
		"missing image":       {[]string{"verify", "/nonexistent.raw"}, fault.Usage, []string{"/nonexistent.raw"}},
		"not an image":        {[]string{"verify", good}, fault.Usage, []string{"no disk that boots", "nodesmith inspect"}},
		"another format":      {[]string{"verify", good, "--from", "vdi"}, fault.Usage, []string{`--from: no format "vdi"`, "qcow2"}},
		"a damaged image":     {[]string{"verify", write(t, "x.raw", "QFI\xfb\x00\x00\x00\x03")}, fault.Unverifiable, []string{"as qcow2", "--from"}},
		"unknown level":       {[]string{"verify", write(t, "x.raw", ""), "--level", "proof"}, fault.Usage, []string{`"proof"`, "boot"}},
		"unknown firmware":    {[]string{"verify", write(t, "x.raw", ""), "--firmware", "efi"}, fault.Usage, []string{`"efi"`, "uefi"}},
		"a lock of rubbish":   {[]string{"build", "-f", lockedBeside(t, "kind: [")}, fault.BadSpec, []string{"web.lock.yaml is not a lock", "nodesmith lock"}},
		"a stale, strict one": {[]string{"build", "--locked", "-f", lockedBeside(t, staleLock)}, fault.BadSpec, []string{"made for other inputs"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Chdir(t.TempDir())
			var out, errOut bytes.Buffer
			exit := Main(tt.args, &out, &errOut)
			if exit != tt.kind.ExitCode() {
				t.Errorf("exit code %d, want %d (%s)", exit, tt.kind.ExitCode(), tt.kind)
			}
			for _, want := range tt.want {
				if !strings.Contains(errOut.String(), want) {
					t.Errorf("no %q in:\n%s", want, errOut.String())
				}
			}
			if out.Len() > 0 {
				t.Errorf("stdout got %q", out.String())
			}
		})
	}
}

var staleLock = "apiVersion: " + lock.APIVersion + "\nkind: " + lock.Kind + "\nimage: web\ninputs: {os: sha256:00, packages: sha256:00, containerImages: sha256:00, kubernetes: sha256:00}\narchitecture: amd64\n" +
	"epoch: 2026-01-01T00:00:00Z\ntools: {}\nos: {}\nkubernetes: {version: v1.34.0, toolchain: {path: x, version: y, sum: z}, components: [], images: [], imageBase: {}}\n"

// lockedBeside returns a NodeImage with that text as its lock beside it.
func lockedBeside(t *testing.T, text string) string {
	t.Helper()
	path := write(t, "web.yaml", spec12)
	if err := os.WriteFile(filepath.Join(filepath.Dir(path), "web.lock.yaml"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestValidateSaysWhatItRead(t *testing.T) {
	var out, errOut bytes.Buffer
	exit := Main([]string{"validate", "-f", write(t, "web.yaml", spec12), "--set", "spec.os.version=13"}, &out, &errOut)
	if exit != 0 || !strings.Contains(out.String(), "debian 13, Kubernetes v1.34.0") || errOut.Len() > 0 {
		t.Errorf("exit code %d, stdout %q, stderr %q", exit, out.String(), errOut.String())
	}
}

func TestInfrastructuresOfTheCommandLineReplaceTheSpecs(t *testing.T) {
	flags := specFlags{file: write(t, "web.yaml", spec12), infrastructures: []string{"vsphere", "aws"}}
	read, err := flags.read(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer read.Close()
	if got := read.image.Spec.Infrastructures; !slices.Equal(got, flags.infrastructures) {
		t.Errorf("got %v, want %v", got, flags.infrastructures)
	}
}

func TestSizesAreShownInUnitsOf1024(t *testing.T) {
	for n, want := range map[int64]string{0: "0 B", 1023: "1023 B", 1024: "1.0 KiB", 8 << 30: "8.0 GiB", 1436 << 20: "1.4 GiB"} {
		if got := display.Bytes(n); got != want {
			t.Errorf("%d: %q, want %q", n, got, want)
		}
	}
}
