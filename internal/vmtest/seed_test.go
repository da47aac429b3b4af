package vmtest

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/diskfs/go-diskfs/backend/file"
	"github.com/diskfs/go-diskfs/filesystem/iso9660"
	"nodesmith.dev/nodesmith/internal/testenv"
)

func TestSeedIsAVolumeThatCloudInitFinds(t *testing.T) {
	testenv.Need(t, "blkid")
	dir := t.TempDir()
	path := filepath.Join(dir, "seed.iso")
	userData := []byte("#cloud-config\n" + strings.Repeat("# filler\n", 9000))
	if err := (Seed{UserData: userData, NetworkConfig: []byte("version: 2\n")}).write(t.Context(), path, dir); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command("blkid", "-p", "-o", "export", path).CombinedOutput()
	if err != nil || !strings.Contains(string(out), "LABEL=CIDATA\n") || !strings.Contains(string(out), "TYPE=iso9660\n") {
		t.Errorf("blkid sees (%v)\n%s", err, out)
	}
	storage, err := file.OpenFromPath(path, true)
	if err != nil {
		t.Fatal(err)
	}
	defer storage.Close()
	iso, err := iso9660.Read(storage, isoSize, 0, isoBlock)
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string][]byte{"user-data": userData, "meta-data": defaultMetaData, "network-config": []byte("version: 2\n")} {
		f, err := iso.OpenFile("/"+name, os.O_RDONLY)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		got, err := io.ReadAll(f)
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s: %d bytes, want %d (%v)", name, len(got), len(want), err)
		}
	}
	if left, _ := os.ReadDir(dir); len(left) != 1 {
		t.Errorf("the seed left %v", left)
	}
}

func TestUserDataCarriesTheScript(t *testing.T) {
	seed, err := bootScript(5 << 30).Seed()
	if err != nil {
		t.Fatal(err)
	}
	body, ok := strings.CutPrefix(string(seed.UserData), "#cloud-config\n")
	if !ok {
		t.Fatal("user-data is no cloud-config")
	}
	var config struct {
		WriteFiles []struct{ Path, Content string } `json:"write_files"`
		RunCmd     [][]string                       `json:"runcmd"`
	}
	if err := json.Unmarshal([]byte(body), &config); err != nil {
		t.Fatal(err)
	}
	var paths []string
	for _, f := range config.WriteFiles {
		paths = append(paths, f.Path)
		data, err := base64.StdEncoding.DecodeString(f.Content)
		if want, _ := assets.ReadFile("assets/" + filepath.Base(f.Path)); err != nil || !bytes.Equal(data, want) {
			t.Errorf("%s differs from its asset (%v)", f.Path, err)
		}
	}
	if got, want := strings.Join(paths, " "), "/run/nodesmith/boot-report.sh /run/nodesmith/report.sh"; got != want {
		t.Errorf("files %s, want %s", got, want)
	}
	if got, want := strings.Join(config.RunCmd[0], " "), "systemd-run --no-block --unit=nodesmith-report --property=StandardOutput=journal+console "+
		"--setenv=DISK_SIZE=5368709120 /bin/sh /run/nodesmith/boot-report.sh"; got != want {
		t.Errorf("command %s\nwant    %s", got, want)
	}
}

func TestScriptsAreShellcheckClean(t *testing.T) {
	testenv.Need(t, "shellcheck")
	scripts, err := filepath.Glob("assets/*.sh")
	if err != nil || len(scripts) == 0 {
		t.Fatal("no scripts", err)
	}
	if out, err := exec.Command("shellcheck", append([]string{"-x", "-P", "assets"}, scripts...)...).CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}
