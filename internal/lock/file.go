package lock

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"

	"sigs.k8s.io/yaml"

	"nodesmith.dev/nodesmith/internal/atomicfile"
	"nodesmith.dev/nodesmith/internal/fault"
)

// The only values of apiVersion and kind that this package reads.
const (
	APIVersion = "nodesmith.dev/v1alpha1"
	Kind       = "Lock"
)

// header stands above every lock file.
const header = "# Written by nodesmith. Every input of the image, by digest; build from it, don't edit it.\n"

// Read reads a lock file. A missing file is an error that wraps fs.ErrNotExist.
func Read(path string) (*Lock, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var l Lock
	if err := yaml.UnmarshalStrict(data, &l); err != nil {
		return nil, fault.New(fault.BadSpec, "write it anew with nodesmith lock", "%s is not a lock that this nodesmith reads: %w", path, err)
	}
	if l.APIVersion != APIVersion || l.Kind != Kind {
		return nil, fault.New(fault.BadSpec, "write it anew with nodesmith lock", "%s: apiVersion %q and kind %q, not %q and %q", path, l.APIVersion, l.Kind, APIVersion, Kind)
	}
	if err := l.checkDigests(); err != nil {
		return nil, fault.New(fault.BadSpec, "write it anew with nodesmith lock", "%s: %w", path, err)
	}
	return &l, nil
}

// checkDigests fails on a package whose digest is none: packages are looked up
// and named by it.
func (l *Lock) checkDigests() error {
	sets := []PackageSet{l.Tools, l.Compiler, l.OS, l.Packages, l.Kubernetes.ImageBase}
	for _, infrastructure := range l.Infrastructures {
		sets = append(sets, infrastructure.Packages)
	}
	for _, set := range sets {
		for _, p := range set.Packages {
			if sum, err := hex.DecodeString(p.SHA256); err != nil || len(sum) != sha256.Size {
				return fmt.Errorf("package %s: %q is not a SHA-256 digest", p.Name, p.SHA256)
			}
		}
	}
	return nil
}

// Marshal returns the text of a lock file: the same lock, the same bytes.
func (l *Lock) Marshal() ([]byte, error) {
	data, err := yaml.Marshal(l)
	if err != nil {
		return nil, fmt.Errorf("lock: %w", err)
	}
	return append([]byte(header), data...), nil
}

// Write writes the lock to path, whole or not at all. A file that already says
// the same is left alone.
func (l *Lock) Write(path string) error {
	text, err := l.Marshal()
	if err != nil {
		return err
	}
	return WriteText(path, text)
}

// WriteText is Write for a lock whose text is known.
func WriteText(path string, text []byte) error {
	if old, err := os.ReadFile(path); err == nil && bytes.Equal(old, text) {
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	if err := atomicfile.WriteFile(path, "", text, 0o644); err != nil {
		return fault.NoSpaceOr(fmt.Errorf("writing %s: %w", path, err))
	}
	return nil
}
