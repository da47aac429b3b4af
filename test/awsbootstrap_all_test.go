//go:build all

package test

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"mime/multipart"
	"net/textproto"
	"os"
	"strings"
	"testing"
	"time"

	"nodesmith.dev/nodesmith/internal/infra"
	"nodesmith.dev/nodesmith/internal/testenv"
	"nodesmith.dev/nodesmith/internal/vmtest"
)

// CAPA keeps bootstrap data in Secrets Manager. What a machine gets is a boothook
// that writes it to this file and restarts cloud-init, and a reference to the
// file (its secret_fetch_script.go and mime packages).
const secretUserData = "/etc/secret-userdata.txt"

// secretMessage is user-data of that form, but for the boothook's own way to the
// data: here it brings it along.
func secretMessage(data []byte) ([]byte, error) {
	hook := fmt.Sprintf("#!/bin/bash\nset -o errexit\nif test -f %[1]s; then exit 0; fi\numask 006\n"+
		"base64 -d >%[1]s <<EOF\n%[2]s\nEOF\nsystemctl restart cloud-init\n", secretUserData, base64.StdEncoding.EncodeToString(data))
	var body bytes.Buffer
	parts := multipart.NewWriter(&body)
	for _, part := range []struct{ kind, content string }{
		{"text/cloud-boothook", hook}, {"text/x-include-url", "file://" + secretUserData + "\n"},
	} {
		w, err := parts.CreatePart(textproto.MIMEHeader{"Content-Type": {part.kind}})
		if err != nil {
			return nil, err
		}
		if _, err := w.Write([]byte(part.content)); err != nil {
			return nil, err
		}
	}
	if err := parts.Close(); err != nil {
		return nil, err
	}
	return fmt.Appendf(nil, "MIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=%q\n\n%s", parts.Boundary(), &body), nil
}

func TestBootstrapDataOfSecretsManagerReachesEveryDebian(t *testing.T) {
	testenv.NeedRoot(t)
	testenv.Need(t, "qemu-system-x86_64", "qemu-img")
	script, err := os.ReadFile("testdata/secret-node.sh")
	if err != nil {
		t.Fatal(err)
	}
	aws, _ := infra.Find("aws")
	for _, release := range wholeMatrix.releases {
		t.Run("debian-"+release, func(t *testing.T) {
			dir := t.TempDir()
			image := strings.TrimSpace(must(t, "build", "-f", "../examples/debian-12-aws.yaml", "-o", dir, "--progress", "plain",
				"--set", "spec.os.version="+release).out)
			must(t, "verify", image, "--level", "contract", "--infrastructure", "aws", "--strict")
			secret := vmtest.ScriptOf("secret-node.sh", script,
				vmtest.CheckInfo{ID: "boot", Proves: "systemd ran all jobs of the boot"},
				vmtest.CheckInfo{ID: "bootstrap.once", Proves: "the data was read and acted on once"},
				vmtest.CheckInfo{ID: "cloud-init.done", Proves: "cloud-init ended without an error"},
			)
			secret.Wrap = secretMessage
			result, err := vmtest.Run(t.Context(), vmtest.RunOptions{
				Options: vmtest.Options{
					Disk: vmtest.Disk{Path: image, Format: "raw"}, Firmware: vmtest.UEFI, Hardware: aws.Hardware,
					CPUs: 2, MemoryMiB: 2048, Growth: 1 << 30,
				},
				Deadline: 20 * time.Minute,
				Notify:   func(line string) { t.Log(line) },
			}, secret)
			for _, check := range result.Checks {
				t.Logf("%s %s: %s", check.Status, check.ID, check.Evidence)
			}
			if err != nil || result.Verdict != vmtest.Pass {
				t.Errorf("verdict %s: %v", result.Verdict, err)
			}
		})
	}
}
