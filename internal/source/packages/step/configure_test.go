package step

import (
	"os"
	"path/filepath"
	"testing"
)

func TestResetGivesAnotherContentToFilesThatAreThere(t *testing.T) {
	dir := t.TempDir()
	there, missing := filepath.Join(dir, "initiatorname.iscsi"), filepath.Join(dir, "missing")
	if err := os.WriteFile(there, []byte("## keep\nInitiatorName=iqn.1993-08.org.debian:01:bff4d5124679\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := reset(map[string]string{there: "GenerateName=yes\n", missing: "x"}); err != nil {
		t.Fatal(err)
	}
	content, err := os.ReadFile(there)
	if err != nil || string(content) != "GenerateName=yes\n" {
		t.Errorf("content %q, %v", content, err)
	}
	if info, err := os.Stat(there); err != nil || info.Mode() != 0o600 {
		t.Errorf("mode %v, %v", info, err)
	}
	if _, err := os.Lstat(missing); !os.IsNotExist(err) {
		t.Errorf("the missing file: %v", err)
	}
	if err := reset(map[string]string{dir: "x"}); err == nil {
		t.Error("a directory was given content")
	}
}
