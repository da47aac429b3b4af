package v1alpha1

import (
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"nodesmith.dev/nodesmith/internal/keyring"
)

// The kinds of sources that there are.
const (
	// OSFromPackages bootstraps the operating system from package archives.
	OSFromPackages = "packages"
	// KubernetesFromGoModules compiles Kubernetes from its Go modules.
	KubernetesFromGoModules = "goModules"
)

// maxKeys bounds what is read of a file of keys: Debian's own keyring has 100
// KiB.
const maxKeys = 1 << 20

// defaultComponents are those of an archive that names none.
var defaultComponents = []string{"main"}

// Source says where the parts of the image come from.
type Source struct {
	// OS is where the operating system comes from.
	OS OSSource `json:"os,omitzero"`
	// Kubernetes is where Kubernetes, containerd and what belongs to them come
	// from.
	Kubernetes KubernetesSource `json:"kubernetes,omitzero"`
}

// OSSource is a source of an operating system. The field that is called as Type
// says has its settings.
type OSSource struct {
	// Type is the kind of source; packages installs the system from package
	// archives whose signatures are checked.
	Type string `json:"type,omitempty"`
	// Packages says which archives these are.
	Packages PackagesSource `json:"packages,omitzero"`
}

// PackagesSource is where the distribution's packages come from.
type PackagesSource struct {
	// Archives take the place of the distribution's own: a company's archive of
	// the same release, for example. All of them together have to have
	// everything that a node needs; the newest version of a package counts. The
	// node gets them as its own sources. A mirror of the distribution's archive
	// does not belong here but in nodesmith's configuration on the machine that
	// builds.
	Archives []Archive `json:"archives,omitempty"`
}

// Archive is a package archive of the distribution's release.
type Archive struct {
	// URL is the archive's address: what dists/ and pool/ lie below.
	URL string `json:"url"`
	// Suites are the parts of the archive: dists/SUITE.
	Suites []string `json:"suites"`
	// Components are the parts of each suite; main if there are none.
	Components []string `json:"components,omitempty"`
	// SignedBy are the keys of which one has to have signed each suite; the
	// distribution's own if there are none.
	SignedBy []SigningKey `json:"signedBy,omitempty"`
}

// SigningKey is a file of OpenPGP public keys. Exactly one of Content and Source
// is set.
type SigningKey struct {
	// Content is the keys, ASCII-armored.
	Content string `json:"content,omitempty"`
	// Source is the path of a file of ASCII-armored keys in the build context,
	// the folder of the NodeImage: relative to it, with slashes.
	Source string `json:"source,omitempty"`
}

// KubernetesSource is a source of Kubernetes.
type KubernetesSource struct {
	// Type is the kind of source; goModules compiles every component from its Go
	// module, which the checksum database vouches for.
	Type string `json:"type,omitempty"`
}

// Repository is a package repository beside the distribution's archives.
type Repository struct {
	// Name is that of the repository's files on the node: apt's
	// sources.list.d/NAME.sources and keyrings/NAME.asc.
	Name string `json:"name"`
	// URL is the repository's address: what dists/ lies below.
	URL string `json:"url"`
	// Suite is the part of the repository: dists/SUITE. That of a flat
	// repository, which has no dists, ends in a slash: / or a path.
	Suite string `json:"suite"`
	// Components are the parts of the suite; main if there are none. A flat
	// repository has no components.
	Components []string `json:"components,omitempty"`
	// SignedBy are the keys of which one has to have signed the repository. An
	// unsigned repository has none and is named, by its URL, in
	// spec.allowUnverified.
	SignedBy []SigningKey `json:"signedBy,omitempty"`
	// BuildOnly keeps the repository out of the image: packages come from it,
	// and the node knows nothing of it.
	BuildOnly bool `json:"buildOnly,omitempty"`
}

// Flat says whether the repository has neither dists nor components.
func (r Repository) Flat() bool { return strings.HasSuffix(r.Suite, "/") }

// Unsigned says whether the repository may come in without a signature.
func (s Spec) Unsigned(r Repository) bool {
	return len(r.SignedBy) == 0 && slices.Contains(s.AllowUnverified, r.URL)
}

// Read returns the text of the keys, from the build context if they have a
// source.
func (k SigningKey) Read(buildContext fs.FS) (string, error) {
	if k.Source == "" {
		return k.Content, nil
	}
	return readText(buildContext, k.Source, maxKeys)
}

// defaultSources fills in what the sources and repositories leave out.
func (spec *Spec) defaultSources() {
	setDefault(&spec.Source.OS.Type, OSFromPackages)
	setDefault(&spec.Source.Kubernetes.Type, KubernetesFromGoModules)
	archives := &spec.Source.OS.Packages.Archives
	*archives = slices.Clone(*archives)
	for i := range *archives {
		if a := &(*archives)[i]; len(a.Components) == 0 {
			a.Components = slices.Clone(defaultComponents)
		}
	}
	spec.Repositories = slices.Clone(spec.Repositories)
	for i := range spec.Repositories {
		if r := &spec.Repositories[i]; len(r.Components) == 0 && !r.Flat() {
			r.Components = slices.Clone(defaultComponents)
		}
	}
}

// osSources and kubernetesSources are the kinds that there are.
var (
	osSources         = []string{OSFromPackages}
	kubernetesSources = []string{KubernetesFromGoModules}
)

// sources checks where the image's parts come from.
func (c *checker) sources(source Source, buildContext fs.FS) {
	c.oneOf("spec.source.os.type", source.OS.Type, "is not a source of operating systems", osSources)
	c.oneOf("spec.source.kubernetes.type", source.Kubernetes.Type, "is not a source of Kubernetes", kubernetesSources)
	seen := map[string]string{}
	for i, archive := range source.OS.Packages.Archives {
		at := fmt.Sprintf("spec.source.os.packages.archives[%d]", i)
		c.archiveURL(at+".url", archive.URL)
		if len(archive.Suites) == 0 {
			c.require(at+".suites", suiteSyntax.allowed)
		}
		for at, suite := range c.unique(at+".suites", archive.Suites) {
			if c.matches(at, suite, suiteSyntax) {
				c.repeated(seen, at, archive.URL+" "+suite, suite)
			}
		}
		for at, component := range c.unique(at+".components", archive.Components) {
			c.matches(at, component, componentSyntax)
		}
		c.signingKeys(at+".signedBy", archive.SignedBy, buildContext)
	}
}

// repositories checks further package repositories.
func (c *checker) repositories(spec *Spec, buildContext fs.FS) {
	names, places := map[string]string{}, map[string]string{}
	for i, r := range spec.Repositories {
		at := fmt.Sprintf("spec.repositories[%d]", i)
		switch {
		case r.Name == spec.OS.Distro && r.Name != "":
			c.add(FieldError{Field: at + ".name", Found: quote(r.Name), Problem: "is the name of the distribution's own sources"})
		case c.matches(at+".name", r.Name, repositoryNameSyntax):
			c.repeated(names, at+".name", r.Name, r.Name)
		}
		c.archiveURL(at+".url", r.URL)
		if c.matches(at+".suite", r.Suite, repositorySuiteSyntax) {
			c.repeated(places, at+".suite", r.URL+" "+r.Suite, r.Suite)
		}
		if r.Flat() && len(r.Components) > 0 {
			c.add(FieldError{Field: at + ".components", Problem: "is set, and a flat repository (suite " + quote(r.Suite) + ") has none"})
		}
		for at, component := range c.unique(at+".components", r.Components) {
			c.matches(at, component, componentSyntax)
		}
		if len(r.SignedBy) == 0 && !spec.Unsigned(r) {
			c.require(at+".signedBy", "the keys that sign it, or its URL in spec.allowUnverified")
		}
		c.signingKeys(at+".signedBy", r.SignedBy, buildContext)
	}
}

// archiveURL checks the address of a package archive.
func (c *checker) archiveURL(at, url string) {
	if _, rest, ok := strings.Cut(url, "://"); ok && strings.Contains(strings.SplitN(rest, "/", 2)[0], "@") {
		c.add(FieldError{ // which must not be repeated in a message
			Field: at, Found: "an address with a user or password", Problem: "does not belong in a spec, nor on a node",
			Allowed: []string{"the address without; a mirror in nodesmith's configuration may have them"},
		})
		return
	}
	if bare := strings.TrimRight(url, "/"); !c.matches(at, url, archiveURLSyntax) && bare != url && archiveURLSyntax.ok(bare) {
		c.errs[len(c.errs)-1].Suggestion = bare
	}
}

// signingKeys checks keys, those in the build context as well.
func (c *checker) signingKeys(list string, keys []SigningKey, buildContext fs.FS) {
	for i, key := range keys {
		field, found, ok := c.contentOrSource(fmt.Sprintf("%s[%d]", list, i), key.Content, key.Source, buildContext)
		if !ok {
			continue
		}
		text, err := key.Read(buildContext)
		if err == nil {
			_, err = keyring.Parse([]byte(text))
		}
		if err != nil { // which repeats nothing of the text: it may be a private key
			c.add(FieldError{Field: field, Found: found, Problem: err.Error(), Allowed: []string{signingKeyForm}})
		}
	}
}

// signingKeyForm describes keys that sign archives.
const signingKeyForm = "ASCII-armored OpenPGP public keys, -----BEGIN PGP PUBLIC KEY BLOCK-----"
