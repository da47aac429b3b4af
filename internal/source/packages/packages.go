// Package packages is the OS source that bootstraps from a signed archive of
// Debian packages.
//
// What comes in is a release (internal/distro), further repositories and what to
// install; what goes out is a lock.PackageSet: every package by version, URL and SHA-256. The
// InRelease signatures and every index are checked here; the distribution's
// own apt, run by the build engine on those indices, decides what is
// installed. The same archives give the same answer.
package packages

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"os"
	"path"
	"slices"
	"strings"
	"time"

	"nodesmith.dev/nodesmith/internal/bundle"
	"nodesmith.dev/nodesmith/internal/deb"
	"nodesmith.dev/nodesmith/internal/distro"
	"nodesmith.dev/nodesmith/internal/fetch"
	"nodesmith.dev/nodesmith/internal/lock"
	"nodesmith.dev/nodesmith/internal/source/packages/step"
)

// Repository is a further archive, which a user adds to a release's own.
type Repository struct {
	// Name is that of its files on the node.
	Name string
	distro.Archive
}

// Snapshot is a release's archives as they are now: signatures checked,
// indices read.
type Snapshot struct {
	Release distro.Release
	// Archives are what goes into a lock of anything from this snapshot, Further
	// those of the repositories beside the release's own archives.
	Archives, Further []lock.Archive

	cache     *fetch.Cache
	byID      map[step.ID]lock.Package
	indices   []deb.Package
	sources   []step.Source
	repo      []bundle.File
	kept      bytes.Buffer // stanzas of packages that no index has
	essential []string
}

// Take fetches and verifies the archives of a release, and further repositories
// as strictly. The time now decides whether a Release file has expired.
func Take(ctx context.Context, cache *fetch.Cache, release distro.Release, repositories []Repository, now time.Time) (*Snapshot, error) {
	snapshot := &Snapshot{Release: release, cache: cache, byID: map[step.ID]lock.Package{}}
	for _, archive := range release.Archives {
		if archive.Keyring == nil {
			archive.Keyring = release.Keyring
		}
		locked, err := snapshot.add(ctx, archive, false, now)
		if err != nil {
			return nil, err
		}
		snapshot.Archives = append(snapshot.Archives, locked)
	}
	slices.Sort(snapshot.essential)
	snapshot.essential = slices.Compact(snapshot.essential) // a suite may have a newer version
	for _, repository := range repositories {
		locked, err := snapshot.add(ctx, repository.Archive, true, now)
		if err != nil {
			return nil, fmt.Errorf("repository %s: %w", repository.Name, err)
		}
		snapshot.Further = append(snapshot.Further, locked)
	}
	return snapshot, nil
}

// add verifies an archive, reads its indices into the snapshot and lays them
// out as a repository that apt reads from a directory.
func (s *Snapshot) add(ctx context.Context, archive distro.Archive, further bool, now time.Time) (lock.Archive, error) {
	suite, err := fetchSuite(ctx, s.cache, archive, now)
	if err != nil {
		return lock.Archive{}, err
	}
	source := step.Source{Dir: fmt.Sprint(len(s.sources)), Suite: archive.Suite, Components: archive.Components, Further: further}
	s.sources = append(s.sources, source)
	dir := path.Join(source.Dir, archive.Dir()) + "/"
	s.repo = append(s.repo, bundle.File{Name: dir + suite.name, Mode: 0o644, Data: suite.release})
	names, err := suite.indices(s.Release.Architecture)
	if err != nil {
		return lock.Archive{}, err
	}
	for _, name := range names {
		file, err := suite.index(ctx, s.cache, name)
		if err != nil {
			return lock.Archive{}, err
		}
		s.repo = append(s.repo, bundle.File{Name: dir + name, Mode: 0o644, Path: file})
		if err := s.readIndex(file, archive.URL, further); err != nil {
			return lock.Archive{}, fmt.Errorf("%s %s %s: %w", archive.URL, archive.Suite, name, err)
		}
	}
	return suite.locked, nil
}

// readIndex adds an index's packages to the snapshot. What a further repository
// calls essential is not what the release needs to run.
func (s *Snapshot) readIndex(path, url string, further bool) error {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer file.Close()
	index, err := deb.ReadIndex(file)
	if err != nil {
		return err
	}
	for _, p := range index.Packages {
		id := step.ID{Name: p.Name, Version: p.Version, Architecture: p.Architecture}
		if _, known := s.byID[id]; known { // the same package in two suites
			continue
		}
		s.byID[id] = lock.Package{
			Name: p.Name, Version: p.Version, Architecture: p.Architecture,
			URL: url + "/" + p.Filename, SHA256: p.SHA256, Size: p.Size,
		}
		if further {
			continue
		}
		if p.Essential {
			s.essential = append(s.essential, p.Name)
		}
		s.indices = append(s.indices, p)
	}
	return nil
}

// Bootstrap returns the packages that it takes to run this release's apt, by a
// simple closure over dependencies (deb.Index.Closure): the first apt solves
// for everything that a lock holds.
func (s *Snapshot) Bootstrap() ([]lock.Package, error) {
	return s.Closure("apt", "dpkg", "xz-utils")
}

// Closure returns packages by name with what they depend on.
func (s *Snapshot) Closure(names ...string) ([]lock.Package, error) {
	closure, err := (&deb.Index{Packages: s.indices}).Closure(names...)
	if err != nil {
		return nil, err
	}
	var locked []lock.Package
	for _, p := range closure {
		locked = append(locked, s.byID[step.ID{Name: p.Name, Version: p.Version, Architecture: p.Architecture}])
	}
	return locked, nil
}

// Essential returns the names of the packages without which the release does
// not run (Debian Policy 3.8), sorted.
func (s *Snapshot) Essential() []string { return slices.Clone(s.essential) }

// Keep makes the snapshot know the packages of an earlier lock, of which its
// archives may only have newer versions by now: what no index says of a package,
// its own file says.
func (s *Snapshot) Keep(ctx context.Context, set []lock.Package) error {
	var gone []lock.Package
	for _, p := range set {
		if _, known := s.byID[idOf(p)]; !known {
			gone = append(gone, p)
		}
	}
	files, err := Fetch(ctx, s.cache, gone)
	if err != nil {
		return err
	}
	for i, file := range files {
		stanza, err := control(ctx, file.Path)
		if err != nil {
			return fmt.Errorf("%s: %w", gone[i].URL, err)
		}
		fmt.Fprintf(&s.kept, "%s\n\n", bytes.TrimSpace(stanza))
	}
	return nil
}

// control reads a package file's own stanza.
func control(ctx context.Context, name string) ([]byte, error) {
	file, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	return deb.Control(ctx, file)
}

// Question returns what the solving step reads: its configuration for these
// sets, and the verified indices.
func (s *Snapshot) Question(sets ...step.Set) (step.SolveConfig, bundle.Source) {
	var key strings.Builder
	for _, archive := range slices.Concat(s.Archives, s.Further) {
		fmt.Fprintln(&key, "repository", archive.URL, archive.Suite, archive.Release)
	}
	config, repo := step.SolveConfig{Architecture: s.Release.Architecture, Sources: s.sources, Sets: sets}, s.repo
	if s.kept.Len() > 0 {
		config.Kept = "kept"
		repo = append(slices.Clip(repo), bundle.File{Name: config.Kept, Mode: 0o644, Data: s.kept.Bytes()})
		fmt.Fprintf(&key, "kept %x\n", sha256.Sum256(s.kept.Bytes()))
	}
	return config, bundle.Source{Key: key.String(), Files: func() ([]bundle.File, error) { return repo, nil }}
}

// IDs names packages as the solving step does.
func IDs(set []lock.Package) []step.ID {
	var ids []step.ID
	for _, p := range set {
		ids = append(ids, idOf(p))
	}
	return ids
}

func idOf(p lock.Package) step.ID {
	return step.ID{Name: p.Name, Version: p.Version, Architecture: p.Architecture}
}

// Resolve turns the solving step's answer for one set into locked packages; a
// further one may have packages of the repositories.
func (s *Snapshot) Resolve(ids []step.ID, further bool) (lock.PackageSet, error) {
	set := lock.PackageSet{Archives: s.Archives}
	if further {
		set.Archives = slices.Concat(s.Archives, s.Further)
	}
	for _, id := range ids {
		p, ok := s.byID[id]
		if !ok {
			return set, fmt.Errorf("apt chose %s %s (%s), which the verified indices of %s %s do not have",
				id.Name, id.Version, id.Architecture, s.Release.Distro, s.Release.Version)
		}
		set.Packages = append(set.Packages, p)
	}
	return set, nil
}

// Fetch fetches every package of the set that the cache lacks and returns them
// as the files of a bundle, named by Name.
func Fetch(ctx context.Context, cache *fetch.Cache, set []lock.Package) ([]bundle.File, error) {
	var downloads []fetch.File
	var files []bundle.File
	for _, p := range set {
		downloads = append(downloads, fetch.File{URL: p.URL, SHA256: p.SHA256, Size: p.Size})
	}
	if err := cache.All(ctx, downloads); err != nil {
		return nil, err
	}
	for _, p := range set {
		files = append(files, bundle.File{Name: Name(p), Mode: 0o644, Path: cache.Path(p.SHA256)})
	}
	return files, nil
}

// Missing lists the packages that Fetch would download.
func Missing(cache *fetch.Cache, set []lock.Package) []bundle.Download {
	var missing []bundle.Download
	for _, p := range set {
		if !cache.Holds(fetch.File{URL: p.URL, SHA256: p.SHA256, Size: p.Size}) {
			missing = append(missing, bundle.Download{Name: p.URL, SizeBytes: p.Size})
		}
	}
	return missing
}

// Key decides the content of the bundle that Fetch returns.
func Key(set []lock.Package) string {
	var key bytes.Buffer
	for _, p := range set {
		fmt.Fprintln(&key, Name(p), p.SHA256)
	}
	return key.String()
}

// Ground marks the packages of a set that are also in ground: the essential
// packages with what they depend on, whose files must all be there before the
// first of the set can be installed properly.
func Ground(set, ground lock.PackageSet) lock.PackageSet {
	first := map[string]bool{}
	for _, p := range ground.Packages {
		first[p.Name] = true
	}
	set.Packages = slices.Clone(set.Packages)
	for i, p := range set.Packages {
		set.Packages[i].Ground = first[p.Name]
	}
	return set
}

// Name returns a package's file name inside a bundle: without the epoch's
// colon, which some file systems refuse.
func Name(p lock.Package) string {
	return p.Name + "_" + p.SHA256[:12] + "_" + p.Architecture + ".deb"
}

// Names returns the file names of a set in its order.
func Names(set []lock.Package) []string {
	var names []string
	for _, p := range set {
		names = append(names, Name(p))
	}
	return names
}
