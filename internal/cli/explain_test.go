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
	for path, kind := range map[string]string{"../../docs/spec.md": "NodeImage", "../../docs/publishtarget.md": "PublishTarget"} {
		have, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if output(t, "explain", "--kind", kind, "--markdown") != string(have) {
			t.Errorf("%s is not what the program says: go generate ./internal/cli", path)
		}
	}
}

func TestExplainShowsAFieldAndThoseBelowIt(t *testing.T) {
	const want = `spec.disk (object)

  disk is the virtual disk of the image.

Fields:
  size (size, default 8Gi)
      size is the disk's size as the image is made. content makes it as large as
      what it holds and the headroom, in whole GiB. The root file system grows
      to the size of the disk that it boots from.
  headroom (size)
      headroom is the room that size: content leaves free on the root file
      system, 2Gi if nothing is said. The kubelet evicts pods from a node with
      less than 15% free.
  firmware (list of strings, default [bios, uefi])
      firmware is what the disk boots from. Each one brings a partition with a
      boot loader of its own.
  fileSystems (list of objects)
      fileSystems are file systems besides the root, in partitions of their own
      in this order: each takes what the image has at its mount point, or is
      empty. They are ext4 and keep their sizes; only the root grows.

Example:
  disk:
    size: content
    headroom: 3Gi
    firmware: [bios, uefi]
    fileSystems:
      - mountPoint: /var/lib/containerd
        size: content
        headroom: 4Gi
        label: images
        mountOptions: [noatime, commit=30]
      - mountPoint: /var/lib/etcd
        size: 4Gi
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

func TestEveryKindOfDocumentHasASchema(t *testing.T) {
	for kind := range schemas() {
		var schema struct {
			Schema string `json:"$schema"`
			Title  string `json:"title"`
		}
		if err := json.Unmarshal([]byte(output(t, "schema", "--kind", kind)), &schema); err != nil || schema.Title != kind || !strings.HasSuffix(schema.Schema, "2020-12/schema") {
			t.Errorf("%s: %+v, %v", kind, schema, err)
		}
	}
	if _, errOut, code := command("schema", "--kind", "Moon"); code != 2 || !strings.Contains(errOut, "NodeImage") {
		t.Errorf("exit code %d: %s", code, errOut)
	}
}
