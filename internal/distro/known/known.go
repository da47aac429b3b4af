// Package known lists the distribution families that nodesmith was built with.
package known

import (
	"nodesmith.dev/nodesmith/internal/distro"
	"nodesmith.dev/nodesmith/internal/distro/debian"
)

var families = []distro.Family{debian.Family{}}

// Release returns the release of that distribution, version and architecture.
func Release(name, version, architecture string) (distro.Release, bool) {
	for _, f := range families {
		for _, r := range f.Releases() {
			if r.Distro == name && r.Version == version && r.Architecture == architecture {
				return r, true
			}
		}
	}
	return distro.Release{}, false
}

// Versions maps each distribution to its versions, oldest first.
func Versions() map[string][]string {
	versions := map[string][]string{}
	for _, f := range families {
		for _, r := range f.Releases() {
			versions[r.Distro] = append(versions[r.Distro], r.Version)
		}
	}
	return versions
}

// Tools returns the release that the build's own programs come from, whatever
// the target is.
func Tools(architecture string) (distro.Release, bool) {
	return Release("debian", "13", architecture)
}
