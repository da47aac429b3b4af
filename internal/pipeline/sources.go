package pipeline

import (
	"fmt"
	"io/fs"
	"reflect"

	"nodesmith.dev/nodesmith/api/v1alpha1"
	"nodesmith.dev/nodesmith/internal/distro"
	"nodesmith.dev/nodesmith/internal/distro/known"
	"nodesmith.dev/nodesmith/internal/fault"
	"nodesmith.dev/nodesmith/internal/keyring"
	"nodesmith.dev/nodesmith/internal/source/packages"
)

// sources are where an image's packages come from.
type sources struct {
	// tools is the release of the build's tools, target that of the image, with
	// the archives that the spec has in place of the distribution's own.
	tools, target distro.Release
	// repositories are those of the spec; the node keeps the kept ones.
	repositories, kept []packages.Repository
}

// sourcesOf returns the sources of an image, whose keys may lie in the build
// context.
func sourcesOf(image *v1alpha1.NodeImage, buildContext fs.FS) (sources, error) {
	var s sources
	var ok bool
	spec := image.Spec
	if s.target, ok = known.Release(spec.OS.Distro, spec.OS.Version, spec.Architecture); !ok {
		return s, fault.New(fault.BadSpec, "", "no %s %s for %s", spec.OS.Distro, spec.OS.Version, spec.Architecture)
	}
	if s.tools, ok = known.Tools(spec.Architecture); !ok {
		return s, fmt.Errorf("no tools for %s", spec.Architecture)
	}
	if archives := spec.Source.OS.Packages.Archives; len(archives) > 0 {
		s.target.Archives = nil
		for i, archive := range archives {
			keys, err := keysOf(archive.SignedBy, buildContext)
			if err != nil {
				return s, fault.New(fault.BadSpec, "", "spec.source.os.packages.archives[%d].signedBy: %w", i, err)
			}
			for _, suite := range archive.Suites {
				s.target.Archives = append(s.target.Archives, distro.Archive{
					URL: archive.URL, Suite: suite, Components: archive.Components, Keyring: keys,
				})
			}
		}
	}
	for i, r := range spec.Repositories {
		keys, err := keysOf(r.SignedBy, buildContext)
		if err != nil {
			return s, fault.New(fault.BadSpec, "", "spec.repositories[%d].signedBy: %w", i, err)
		}
		repository := packages.Repository{Name: r.Name, Archive: distro.Archive{
			URL: r.URL, Suite: r.Suite, Components: r.Components, Keyring: keys, Unsigned: spec.Unsigned(r),
		}}
		s.repositories = append(s.repositories, repository)
		if !r.BuildOnly {
			s.kept = append(s.kept, repository)
		}
	}
	return s, nil
}

// shared says whether the image's packages come from where the tools' do.
func (s sources) shared() bool {
	return reflect.DeepEqual(s.target, s.tools) && len(s.repositories) == 0
}

// keysOf returns keys in one ASCII-armored block; nil for none.
func keysOf(keys []v1alpha1.SigningKey, buildContext fs.FS) ([]byte, error) {
	if len(keys) == 0 {
		return nil, nil
	}
	var text []byte
	for _, key := range keys {
		more, err := key.Read(buildContext)
		if err != nil {
			return nil, err
		}
		text = append(text, more+"\n"...)
	}
	ring, err := keyring.Parse(text)
	return ring.Armored, err
}
