// Package pyvenv installs programs of Python's that tests judge by: from PyPI,
// pinned, into $XDG_CACHE_HOME/nodesmith-test, once.
package pyvenv

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/gofrs/flock"
)

// Install returns the virtual environment that holds what requirements (of pip,
// every version pinned, dependencies listed) name, and makes it if it is not
// there. Processes that want the same one wait for each other.
func Install(name string, requirements []byte) (dir string, err error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(requirements)
	dir = filepath.Join(cache, "nodesmith-test", name+"-"+hex.EncodeToString(sum[:6]))
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return "", err
	}
	lock := flock.New(dir + ".lock")
	if err := lock.Lock(); err != nil {
		return "", err
	}
	defer lock.Unlock()
	whole := filepath.Join(dir, "complete")
	if _, err := os.Stat(whole); err == nil {
		return dir, nil
	}
	if err := fill(dir, requirements); err != nil {
		return "", fmt.Errorf("install %s: %w", name, err)
	}
	return dir, os.WriteFile(whole, nil, 0o644)
}

// fill makes the environment anew.
func fill(dir string, requirements []byte) error {
	if err := os.RemoveAll(dir); err != nil {
		return err
	}
	list := dir + ".txt"
	if err := os.WriteFile(list, requirements, 0o644); err != nil {
		return err
	}
	for _, command := range [][]string{
		{"python3", "-m", "venv", dir},
		{filepath.Join(dir, "bin/pip"), "install", "--quiet", "--no-deps", "--disable-pip-version-check", "-r", list},
	} {
		if out, err := exec.Command(command[0], command[1:]...).CombinedOutput(); err != nil {
			return fmt.Errorf("%v: %w\n%s", command, err, out)
		}
	}
	return nil
}
