package v1alpha1_test

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"nodesmith.dev/nodesmith/api/v1alpha1"
	"nodesmith.dev/nodesmith/internal/fault"
)

func TestBadSpecsAreExplained(t *testing.T) {
	for _, test := range badSpecs {
		t.Run(test.name, func(t *testing.T) {
			spec := shortest + test.new
			if test.old != "" {
				spec = strings.Replace(shortest, test.old, test.new, 1)
			}
			_, err := read(spec)
			if err == nil {
				t.Fatalf("accepted:\n%s", spec)
			}
			if err.Error() != test.want {
				t.Errorf("spec\n%s\ngot\n%s\nwant\n%s", spec, err, test.want)
			}
			if fault.KindOf(err) != fault.BadSpec || fault.RemedyOf(err) == "" {
				t.Errorf("kind %v, remedy %q", fault.KindOf(err), fault.RemedyOf(err))
			}
		})
	}
}

func TestErrorsAreMachineReadable(t *testing.T) {
	_, err := read(strings.Replace(shortest, "debian", "debain", 1), "spec.disk.size=1Gi")
	list, ok := errors.AsType[v1alpha1.ErrorList](err)
	if !ok {
		t.Fatalf("no ErrorList in %v", err)
	}
	got, err := json.Marshal(list)
	if err != nil {
		t.Fatal(err)
	}
	const want = `[{"file":"s.yaml","line":5,"column":16,"field":"spec.os.distro","found":"\"debain\"",` +
		`"problem":"is not a supported distribution","allowed":["debian","ubuntu"],"suggestion":"debian"},` +
		`{"flag":"--set spec.disk.size","field":"spec.disk.size","found":"\"1Gi\"",` +
		`"problem":"is too small","allowed":["2Gi to 2Ti","content"]}]`
	if string(got) != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestPrivateKeysAreNotRepeated(t *testing.T) {
	secret := "-----BEGIN OPENSSH PRIVATE KEY-----"
	for _, set := range []string{"spec.users[0].sshAuthorizedKeys[0]=" + secret, `spec.users[0].sshAuthorizedKeys=["` + secret + `"]`} {
		_, err := read(shortest, "spec.users[0].name=ada", set)
		if err == nil || strings.Contains(err.Error(), "BEGIN") {
			t.Errorf("error is %v", err)
		}
	}
}

func TestValidateWithoutAFile(t *testing.T) {
	img := mustRead(t, shortest)
	if err := img.Validate(known, nil); err != nil {
		t.Errorf("valid image refused: %v", err)
	}
	img.Spec.OS.Version = "11"
	const want = `spec.os.version: "11" is not a supported version of debian; allowed: 12, 13`
	if err := img.Validate(known, nil); err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}
