package cli

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"nodesmith.dev/nodesmith/internal/host"
	"nodesmith.dev/nodesmith/internal/report"
	"nodesmith.dev/nodesmith/internal/report/reporttest"
)

func TestTheSettingsSayWhereTheyComeFrom(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "nodesmith", "config.yaml")
	if err := errors.Join(os.Mkdir(filepath.Dir(file), 0o700), os.WriteFile(file, []byte(`
goProxy: https://user:secret@proxy.example.com,direct
mirrors: {http://archive.example.com/debian/: [https://m.example.com/debian]}
engine: {address: tcp://builder.example.com:1234}
cache: {blocks: 1GiB}
`), 0o600)); err != nil {
		t.Fatal(err)
	}
	silenceGo(t, dir)
	t.Setenv("XDG_CONFIG_HOME", dir)
	t.Setenv("XDG_CACHE_HOME", filepath.Join(dir, "cache"))
	t.Setenv("HTTPS_PROXY", "http://me:secret@proxy.example.com")
	out, errOut, code := command("config", "--json")
	if code != 0 {
		t.Fatal(errOut)
	}
	reporttest.Validate(t, report.ConfigKind, []byte(out))
	var document struct {
		File     string
		Settings []configEntry
	}
	if err := json.Unmarshal([]byte(out), &document); err != nil || document.File != file {
		t.Fatalf("file %q, %v", document.File, err)
	}
	for _, want := range []configEntry{
		{"goProxy", "https://user:xxxxx@proxy.example.com,direct", file},
		{"mirrors.http://archive.example.com/debian", "https://m.example.com/debian", file},
		{"engine.address", "tcp://builder.example.com:1234", file},
		{"engine.tls.ca", "", "default"},
		{"cache.blocks", "1GiB", file},
		{"cache.engine", "50GiB", "default"},
		{"cacheDir", filepath.Join(dir, "cache", "nodesmith"), "XDG_CACHE_HOME"},
		{"network.HTTPS_PROXY", "http://me:xxxxx@proxy.example.com", "environment"},
	} {
		if !slices.Contains(document.Settings, want) {
			t.Errorf("no %+v in %+v", want, document.Settings)
		}
	}
	if text, errOut, code := command("config"); code != 0 || strings.Contains(out+text, "secret") || !strings.Contains(text, file) {
		t.Errorf("%s%s", text, errOut)
	}
}

func TestTheConfigurationsPageIsUpToDate(t *testing.T) {
	page, errOut, code := command("config", "--markdown")
	if code != 0 {
		t.Fatal(errOut)
	}
	if kept, err := os.ReadFile("../../docs/configuration.md"); err != nil || string(kept) != page {
		t.Errorf("docs/configuration.md is not what the table says: go generate ./internal/cli (%v)", err)
	}
}

func TestTheVersionSaysWhatCanBeBuilt(t *testing.T) {
	out, errOut, code := command("version", "--json")
	if code != 0 {
		t.Fatal(errOut)
	}
	reporttest.Validate(t, report.VersionKind, []byte(out))
	var d versionDocument
	if err := json.Unmarshal([]byte(out), &d); err != nil {
		t.Fatal(err)
	}
	if !slices.Contains(d.Kubernetes, "v1.34") || len(d.Distributions) < 2 || !slices.Contains(d.Infrastructures, "qemu") || !strings.HasPrefix(d.Go, "go") {
		t.Errorf("%+v", d)
	}
	if text, _, code := command("version"); code != 0 || !strings.HasPrefix(text, "nodesmith ") {
		t.Errorf("%d: %s", code, text)
	}
}

// Nothing is kept in a home that is new: no engine is asked.
func TestWhatIsKeptIsADocumentForPrograms(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_STATE_HOME", "TMPDIR"} {
		t.Setenv(name, dir)
	}
	for _, flags := range [][]string{{"--dry-run"}, {"--list"}, {"--keep", "1"}} {
		out, errOut, code := command(append([]string{"prune", "--json"}, flags...)...)
		if code != 0 {
			t.Fatal(errOut)
		}
		reporttest.Validate(t, report.PruneKind, []byte(out))
		var d pruneDocument
		if err := json.Unmarshal([]byte(out), &d); err != nil {
			t.Fatal(err)
		}
		if len(d.Kinds) != len(host.BoundNames)+1 || d.DryRun != (flags[0] != "--keep") {
			t.Errorf("%v: %+v", flags, d)
		}
	}
}

func TestEachCommandHasAManualPage(t *testing.T) {
	dir := t.TempDir()
	if _, errOut, code := command("man", "-o", dir); code != 0 {
		t.Fatal(errOut)
	}
	for _, page := range []string{"nodesmith.1", "nodesmith-build.1", "nodesmith-prune.1", "nodesmith-publish-list.1", "nodesmith-completion-bash.1"} {
		if text, err := os.ReadFile(filepath.Join(dir, page)); err != nil || !strings.Contains(string(text), ".SH SYNOPSIS") {
			t.Errorf("%s: %v", page, err)
		}
	}
	help, _, _ := command("--help")
	for _, name := range []string{"completion", "config", "man", "prune", "version"} {
		if !strings.Contains(help, "\n  "+name+" ") {
			t.Errorf("help has no %s:\n%s", name, help)
		}
	}
}
