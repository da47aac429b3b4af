//go:build all

package faults

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"nodesmith.dev/nodesmith/internal/fault"
	"nodesmith.dev/nodesmith/internal/testenv"
)

// asUser are the options of `docker run` with which the image's ordinary user builds
// (docs/engines.md), and what of Docker's capabilities can't go.
var asUser = []string{
	"--user=1000", "--security-opt=seccomp=unconfined", "--security-opt=apparmor=unconfined", "--security-opt=systempaths=unconfined",
	"--cap-drop=ALL", "--cap-add=SETUID", "--cap-add=SETGID",
}

// without is asUser but one option.
func without(option string) []string {
	return slices.DeleteFunc(slices.Clone(asUser), func(o string) bool { return o == option })
}

// The cache is a volume, and what the build makes a folder of the machine's.
func TestTheUserOfADockerContainerMakesTheSameImage(t *testing.T) {
	a := needArchive(t)
	wholeBuild(t)
	d := startDocker(t)
	image := d.load(t)
	// The daemon makes no networks.
	run := []string{"run", "--rm", "--network=host", "--volume=nodesmith-cache:/cache", "--volume=nodesmith-data:/data"}

	t.Run("builds", func(t *testing.T) {
		b := newWhole(t, a)
		dir := filepath.Dir(b.Out)
		b.Cache = "/cache/nodesmith"
		letEnter(t, dir)
		if err := os.Chown(b.Out, 1000, 1000); err != nil {
			t.Fatal(err)
		}
		b.start = func(t testing.TB, config []byte, variables []string) *exec.Cmd {
			file, program := filepath.Join(dir, "build.json"), filepath.Join(dir, "build")
			writeFile(t, file, config)
			testenv.CopyFile(t, os.Args[0], program, 0o755)
			args := slices.Concat(run, asUser)
			args = append(args, "--volume="+dir+":"+dir, "--entrypoint="+program, "--env="+buildVariable+"="+file)
			for _, v := range variables {
				args = append(args, "--env="+v)
			}
			return d.command(t.Context(), append(args, image)...)
		}
		b.must(t)
		equalsWhole(t, b)
	})

	for name, test := range map[string]struct {
		options []string
		want    string
	}{
		"Docker's seccomp filter": {without("--security-opt=seccomp=unconfined"), "in a container: --security-opt seccomp=unconfined"},
		"a masked /proc":          {without("--security-opt=systempaths=unconfined"), "in a container: --security-opt systempaths=unconfined"},
		"no capabilities":         {without("--cap-add=SETUID"), "in a container: --cap-add=SETUID --cap-add=SETGID"},
		"no new privileges":       {append(slices.Clone(asUser), "--security-opt=no-new-privileges"), "without --security-opt no-new-privileges"},
		"a user of no name":       {append(slices.Clone(asUser), "--user=1001"), "as a user that /etc/passwd knows (nodesmith's container image: --user 1000)"},
	} {
		t.Run(name, func(t *testing.T) {
			cmd := d.command(t.Context(), slices.Concat(run, test.options, []string{image, "build", "-f", "none.yaml"})...)
			out, err := cmd.CombinedOutput()
			if cmd.ProcessState.ExitCode() != fault.MissingHost.ExitCode() || !strings.Contains(string(out), test.want) {
				t.Errorf("%v\n%s", err, out)
			}
		})
	}
}
