// Package servicepolicy keeps services from starting while package scripts run
// in a tree.
//
// What comes in is the root of a tree; what goes out is the same tree with, for
// a while, a file that invoke-rc.d(8) asks and that says no.
package servicepolicy

import (
	_ "embed"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
)

// Path is what invoke-rc.d asks before it starts a service
// (https://people.debian.org/~hmh/invokerc.d-policyrc.d-specification.txt).
const Path = "/usr/sbin/policy-rc.d"

//go:embed policy-rc.d
var policy []byte

// Forbid makes the file.
func Forbid(root string) error { return os.WriteFile(filepath.Join(root, Path), policy, 0o755) }

// Allow removes it.
func Allow(root string) error {
	if err := os.Remove(filepath.Join(root, Path)); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
