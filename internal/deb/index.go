package deb

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"path"
	"strconv"
	"strings"
)

// Package is what an archive's Packages file says of one binary package.
type Package struct {
	Name, Version, Architecture string
	Filename                    string // relative to the archive's URL
	SHA256                      string // hex
	Size                        int64  // bytes of the .deb
	InstalledSize               int64  // bytes, about
	Essential                   bool
	// Depends holds Pre-Depends and Depends, a conjunction of alternatives.
	Depends  []Alternatives
	Provides []string
}

// Alternatives are package names of which one satisfies a dependency, in the
// maintainer's order of preference. Versions and architectures are left out.
type Alternatives []string

// Index is the content of one Packages file, in its order.
type Index struct {
	Packages []Package
}

// ReadIndex reads a Packages file.
func ReadIndex(r io.Reader) (*Index, error) {
	index := &Index{}
	err := Stanzas(r, func(s Stanza) (bool, error) {
		p, err := packageOf(s)
		if err != nil {
			return false, err
		}
		index.Packages = append(index.Packages, p)
		return true, nil
	})
	if err != nil {
		return nil, fmt.Errorf("package index: %w", err)
	}
	return index, nil
}

func packageOf(s Stanza) (Package, error) {
	p := Package{
		Name: s["Package"], Version: s["Version"], Architecture: s["Architecture"],
		Filename:  strings.TrimPrefix(s["Filename"], "./"), // as dpkg-scanpackages writes it
		SHA256:    s["SHA256"],
		Essential: s["Essential"] == "yes",
	}
	for _, required := range []string{"Package", "Version", "Architecture", "Filename", "SHA256", "Size"} {
		if s[required] == "" {
			return p, fmt.Errorf("package %q has no %s", p.Name, required)
		}
	}
	if p.Filename != path.Clean(p.Filename) || path.IsAbs(p.Filename) || strings.HasPrefix(p.Filename, "..") {
		return p, fmt.Errorf("package %s: file name %q leaves the archive", p.Name, p.Filename)
	}
	if sum, err := hex.DecodeString(p.SHA256); err != nil || len(sum) != sha256.Size {
		return p, fmt.Errorf("package %s: %q is not a SHA-256 digest", p.Name, p.SHA256)
	}
	var err error
	if p.Size, err = strconv.ParseInt(s["Size"], 10, 64); err != nil || p.Size <= 0 {
		return p, fmt.Errorf("package %s: size %q is not a number of bytes", p.Name, s["Size"])
	}
	if kib := s["Installed-Size"]; kib != "" { // Debian Policy 5.6.20: in KiB
		n, err := strconv.ParseInt(kib, 10, 64)
		if err != nil || n < 0 {
			return p, fmt.Errorf("package %s: installed size %q is not a number of KiB", p.Name, kib)
		}
		p.InstalledSize = n << 10
	}
	p.Depends = append(ParseDepends(s["Pre-Depends"]), ParseDepends(s["Depends"])...)
	for _, provided := range ParseDepends(s["Provides"]) {
		p.Provides = append(p.Provides, provided...)
	}
	return p, nil
}

// ParseDepends reads a relationship field (Debian Policy 7.1): commas between
// conjuncts, bars between alternatives. Only the names are kept.
func ParseDepends(field string) []Alternatives {
	var all []Alternatives
	for conjunct := range strings.SplitSeq(field, ",") {
		var names Alternatives
		for alternative := range strings.SplitSeq(conjunct, "|") {
			name, _, _ := strings.Cut(strings.TrimSpace(alternative), " ")
			name, _, _ = strings.Cut(name, "(")
			name, _, _ = strings.Cut(name, ":")
			if name != "" {
				names = append(names, name)
			}
		}
		if len(names) > 0 {
			all = append(all, names)
		}
	}
	return all
}

// Closure returns the packages that the named ones need, themselves included,
// each dependency met by its first alternative that the index has. It weighs
// no versions and no conflicts: it exists to bring up the first apt, which
// solves everything else.
func (x *Index) Closure(names ...string) ([]Package, error) {
	byName := map[string]Package{}
	for _, p := range x.Packages {
		for _, provided := range p.Provides {
			if _, ok := byName[provided]; !ok {
				byName[provided] = p
			}
		}
	}
	for _, p := range x.Packages { // a real package wins over one that provides it
		byName[p.Name] = p
	}
	var closure []Package
	seen := map[string]bool{}
	var visit func(wanted Alternatives, by string) error
	visit = func(wanted Alternatives, by string) error {
		for _, name := range wanted {
			p, ok := byName[name]
			if !ok {
				continue
			}
			if seen[p.Name] {
				return nil
			}
			seen[p.Name] = true
			for _, dependency := range p.Depends {
				if err := visit(dependency, p.Name); err != nil {
					return err
				}
			}
			closure = append(closure, p)
			return nil
		}
		return fmt.Errorf("package %s, which %s needs, is not in the archive", strings.Join(wanted, " | "), by)
	}
	for _, name := range names {
		if err := visit(Alternatives{name}, "the build"); err != nil {
			return nil, err
		}
	}
	return closure, nil
}
