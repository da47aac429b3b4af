package deb

import (
	"archive/tar"
	"testing"
)

func TestFilterMatchesAsDpkgDoes(t *testing.T) {
	filter := NewFilter(
		[]string{"/usr/share/doc/*", "/usr/share/locale/*", "/etc/[x]"},
		[]string{"/usr/share/doc/*/copyright", "/usr/share/locale/locale.alias"})
	for path, leftOut := range map[string]bool{
		"/usr/share/doc/bash/README":              true,
		"/usr/share/doc/bash/examples/a/b":        true, // * crosses slashes
		"/usr/share/doc/bash/copyright":           false,
		"/usr/share/doc":                          false,
		"/usr/share/locale/de/LC_MESSAGES/apt.mo": true,
		"/usr/share/locale/locale.alias":          false,
		"/usr/share/docs/x":                       false,
		"/etc/[x]":                                true, // * is the only wildcard
		"/etc/x":                                  false,
	} {
		if got := filter.leavesOut(path, tar.TypeReg); got != leftOut {
			t.Errorf("%s: left out %v, want %v", path, got, leftOut)
		}
	}
	for path, leftOut := range map[string]bool{
		"/usr/share/doc/bash":            false, // copyright is in it
		"/usr/share/doc/bash/examples":   false,
		"/usr/share/locale/de":           true,
		"/usr/share/locale/locale.alias": false,
	} {
		for _, typeflag := range []byte{tar.TypeDir, tar.TypeSymlink} {
			if got := filter.leavesOut(path, typeflag); got != leftOut {
				t.Errorf("%s of type %c: left out %v, want %v", path, typeflag, got, leftOut)
			}
		}
	}
	if (Filter{}).leavesOut("/usr/share/doc/x", tar.TypeReg) {
		t.Error("an empty filter leaves something out")
	}
}
