package cli

import (
	"encoding/json"
	"os"
	"strings"
	"testing"
)

// output runs a command that must succeed.
func output(t *testing.T, args ...string) string {
	t.Helper()
	var out, errOut strings.Builder
	if code := Main(args, &out, &errOut); code != 0 {
		t.Fatalf("%q: exit code %d: %s", args, code, errOut.String())
	}
	return out.String()
}

func TestSpecDocumentIsUpToDate(t *testing.T) {
	have, err := os.ReadFile("../../docs/spec.md")
	if err != nil {
		t.Fatal(err)
	}
	if output(t, "explain", "--markdown") != string(have) {
		t.Error("docs/spec.md is not what the program says: go generate ./internal/cli")
	}
}

func TestExplainShowsAFieldAndThoseBelowIt(t *testing.T) {
	const want = `spec.disk (object)

  disk is the virtual disk of the image.

Fields:
  size (size, default 8Gi)
      size is the disk's size as the image is made; the root file system grows
      to the size of the disk that it boots from.

Example:
  disk:
    size: 10Gi
`
	if got := output(t, "explain", "spec.disk"); got != want {
		t.Errorf("got:\n%s\nwant:\n%s", got, want)
	}
}

func TestExplainFitsATerminal(t *testing.T) {
	for _, field := range []string{"", "spec", "spec.files", "spec.users", "spec.kernelArguments", "metadata.name"} {
		args := []string{"explain"}
		if field != "" {
			args = append(args, field)
		}
		text, _, _ := strings.Cut(output(t, args...), "\nExample:")
		for line := range strings.Lines(text) {
			if len(line) > lineWidth+1 {
				t.Errorf("%s: %q is longer than %d", field, line, lineWidth)
			}
		}
	}
}

func TestExplainOfAMisspeltFieldExitsAsWrongUsage(t *testing.T) {
	var out, errOut strings.Builder
	if code := Main([]string{"explain", "spec.dsk"}, &out, &errOut); code != 2 || out.Len() > 0 {
		t.Errorf("exit code %d, output %q", code, out.String())
	}
	if !strings.Contains(errOut.String(), `did you mean "disk"?`) {
		t.Error(errOut.String())
	}
}

func TestSchemaIsPrinted(t *testing.T) {
	var schema struct {
		Schema string `json:"$schema"`
	}
	if err := json.Unmarshal([]byte(output(t, "schema")), &schema); err != nil || schema.Schema != "https://json-schema.org/draft/2020-12/schema" {
		t.Errorf("%+v, %v", schema, err)
	}
}
