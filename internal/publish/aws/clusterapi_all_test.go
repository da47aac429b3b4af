//go:build all

package aws

import (
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"nodesmith.dev/nodesmith/internal/publish"
	"nodesmith.dev/nodesmith/internal/publish/publishtest/moto"
	"nodesmith.dev/nodesmith/internal/testenv"
)

// Cluster API's AWS provider finds what was published, with its own code and its
// default pattern, and takes the newest.
func TestClusterAPIFindsTheNewestAMI(t *testing.T) {
	program := testenv.ClusterAPI(t, "ami")
	a := start(t)
	var newest string
	for i := range int64(2) {
		img := image(newDisk(uint64(i)), time.Unix(1_790_000_000+60*i, 0))
		publishTo(t, a, a.args[1], target(direct), img)
		newest = a.published(t, img)
		time.Sleep(10 * time.Millisecond) // EC2's dates have milliseconds
	}
	for name, test := range map[string]struct {
		args []string
		want string // of the answer, or of the error
	}{
		"of its version":             {[]string{"-base-os", "debian-12", "-kubernetes", "v1.34.0"}, newest + " /dev/xvda\n"},
		"of another version":         {[]string{"-base-os", "debian-12", "-kubernetes", "v1.34.1"}, "found no AMIs"},
		"of another system":          {[]string{"-base-os", "debian-13", "-kubernetes", "v1.34.0"}, "found no AMIs"},
		"of another architecture":    {[]string{"-base-os", "debian-12", "-kubernetes", "v1.34.0", "-architecture", "arm64"}, "found no AMIs"},
		"by a pattern of the user's": {[]string{"-format", "capa-ami-{{.BaseOS}}-v{{.K8sVersion}}-*", "-base-os", "debian-12", "-kubernetes", "1.34.0"}, newest},
	} {
		command := exec.CommandContext(t.Context(), program, append(test.args, "-org", moto.Account)...)
		command.Env = append(os.Environ(), "AWS_ENDPOINT_URL="+server.URL, "AWS_REGION="+home, "AWS_ACCESS_KEY_ID=AKIDEXAMPLE", "AWS_SECRET_ACCESS_KEY=secret")
		out, err := command.CombinedOutput()
		if found := strings.Contains(string(out), test.want); !found || (err == nil) != strings.HasPrefix(test.want, "ami-") {
			t.Errorf("%s: %v: %s, want %s", name, err, out, test.want)
		}
	}
}

// published is the ID of an image's AMI at home.
func (a *account) published(t *testing.T, img publish.Image) string {
	t.Helper()
	images, err := (&region{name: home, look: client(home)}).imagesOf(t.Context(), img.Digest)
	if err != nil || len(images) != 1 {
		t.Fatalf("%d AMIs, %v", len(images), err)
	}
	return *images[0].ImageId
}
