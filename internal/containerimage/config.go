package containerimage

import (
	"errors"
	"fmt"
	"path"
	"strconv"

	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"

	"nodesmith.dev/nodesmith/internal/fault"
)

// Config is all that Assemble does: what the images hold, and where their
// store goes. Paths that are read are paths of the step's mounts; paths inside
// images are absolute, clean and use "/".
type Config struct {
	// Output is the directory that stands for the node's root: the store is
	// written to Output/var/lib/containerd.
	Output string `json:"output"`
	// Record is the file that receives the list of what was placed, as JSON; none
	// if it is empty.
	Record string `json:"record,omitempty"`
	// Whiteouts is the file that receives the list of the store's whiteouts, which
	// then are not in the store (package whiteout); they are if it is empty.
	Whiteouts string `json:"whiteouts,omitempty"`
	// Architecture is Go's name of it: amd64, arm64. From archives that hold
	// several, only this one's image is taken.
	Architecture string `json:"architecture"`
	// Layers are built once each; several images may name the same one.
	Layers []Layer `json:"layers,omitempty"`
	Images []Image `json:"images,omitempty"`
	// Archives are finished images, placed as they are. They take the place of
	// Images of the same name.
	Archives []Archive `json:"archives,omitempty"`
}

// Layer is one file system change set. What is named later wins: trees first,
// then directories, files and links. Missing parents are made as root:root
// 0755. All times are the epoch that Assemble was given.
type Layer struct {
	Name        string      `json:"name"`
	Trees       []Tree      `json:"trees,omitempty"`
	Directories []Directory `json:"directories,omitempty"`
	Files       []File      `json:"files,omitempty"`
	Links       []Link      `json:"links,omitempty"`
	// Programs are paths in this layer of dynamically linked executables: the
	// build fails when the layer lacks a library that the loader would look
	// for, or holds it only where an ld.so.cache would have to name it.
	Programs []string `json:"programs,omitempty"`
}

// Tree copies a directory with owners, modes, hard links, devices, user.*
// attributes and file capabilities.
type Tree struct {
	From string `json:"from"`
	To   string `json:"to"`
}

// Directory is an empty directory, or the owner and mode of one in a tree.
type Directory struct {
	Path string `json:"path"`
	Mode Mode   `json:"mode"`
	UID  int    `json:"uid,omitempty"`
	GID  int    `json:"gid,omitempty"`
}

// File is one regular file. Its content is Content, or else the files that
// match the pattern From (path/filepath.Match), in sorted order, one after the
// other; a pattern without a match is an error.
type File struct {
	From    string `json:"from,omitempty"`
	Content string `json:"content,omitempty"`
	To      string `json:"to"`
	Mode    Mode   `json:"mode"`
	UID     int    `json:"uid,omitempty"`
	GID     int    `json:"gid,omitempty"`
	// Xattrs are extended attributes by name (security.capability, user.*);
	// the values are raw bytes, base64 in JSON.
	Xattrs map[string][]byte `json:"xattrs,omitempty"`
}

// Link is a symbolic link, owned by root.
type Link struct {
	Path   string `json:"path"`
	Target string `json:"target"`
	// IfAbsent leaves alone what a tree already has at Path.
	IfAbsent bool `json:"ifAbsent,omitempty"`
}

// Image is one container image made of layers of this Config, lowest first.
type Image struct {
	// Name is a full reference with a tag: registry.k8s.io/pause:3.10.1.
	Name       string            `json:"name"`
	Layers     []string          `json:"layers"`
	Entrypoint []string          `json:"entrypoint,omitempty"`
	Cmd        []string          `json:"cmd,omitempty"`
	Env        []string          `json:"env,omitempty"`
	User       string            `json:"user,omitempty"`
	WorkingDir string            `json:"workingDir,omitempty"`
	Labels     map[string]string `json:"labels,omitempty"`
}

// Archive is a file as `docker save`, `ctr image export` or `skopeo copy`
// write it (tar, not compressed, gzip or zstd), or an OCI layout directory.
type Archive struct {
	Path string `json:"path"`
	// Name is the reference to give the image. It may be left out when the
	// archive itself names its images with repository and tag, and must be
	// when it holds several.
	Name string `json:"name,omitempty"`
	// Digest is what the archive's one image has to be; any if it is empty.
	Digest string `json:"digest,omitempty"`
}

// Mode holds permission bits, set-ID bits and the sticky bit as chmod(1)
// numbers them; in JSON it is an octal string ("1777").
type Mode uint32

// MarshalText writes the mode in octal.
func (m Mode) MarshalText() ([]byte, error) { return fmt.Appendf(nil, "%04o", uint32(m)), nil }

// UnmarshalText reads an octal number of at most 7777.
func (m *Mode) UnmarshalText(text []byte) error {
	n, err := strconv.ParseUint(string(text), 8, 32)
	if err != nil || n > 0o7777 {
		return fmt.Errorf("mode %q: want an octal number up to 7777", text)
	}
	*m = Mode(n)
	return nil
}

// Validate returns every mistake that shows without reading an input, joined,
// as one error of kind fault.BadSpec.
func (c Config) Validate() error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if !path.IsAbs(c.Output) {
		bad("output %q: want an absolute path", c.Output)
	}
	if c.Architecture == "" {
		bad("architecture is missing")
	}
	layers := map[string]bool{}
	for _, l := range c.Layers {
		if l.Name == "" || layers[l.Name] {
			bad("layer %q: names must be unique and not empty", l.Name)
		}
		layers[l.Name] = true
		errs = append(errs, l.validate()...)
	}
	names := map[string]bool{}
	for _, img := range c.Images {
		if _, err := tagged(img.Name); err != nil {
			bad("image %q: %w", img.Name, err)
		}
		if names[img.Name] {
			bad("image %q is there twice", img.Name)
		}
		names[img.Name] = true
		if len(img.Layers) == 0 {
			bad("image %q has no layers", img.Name)
		}
		for _, l := range img.Layers {
			if !layers[l] {
				bad("image %q: there is no layer %q", img.Name, l)
			}
		}
	}
	for _, a := range c.Archives {
		if a.Digest != "" && digest.Digest(a.Digest).Validate() != nil {
			bad("archive %s: digest %q is not one", a.Path, a.Digest)
		}
		if a.Name == "" {
			continue
		}
		if _, err := tagged(a.Name); err != nil {
			bad("archive %s: name %q: %w", a.Path, a.Name, err)
		}
	}
	if len(errs) > 0 {
		return fault.New(fault.BadSpec, "", "container image configuration: %w", errors.Join(errs...))
	}
	return nil
}

// validate returns the layer's mistakes.
func (l Layer) validate() []error {
	var errs []error
	check := func(what, p string) {
		if !path.IsAbs(p) || path.Clean(p) != p {
			errs = append(errs, fmt.Errorf("layer %q: %s %q: want an absolute, clean path", l.Name, what, p))
		}
	}
	for _, t := range l.Trees {
		check("tree to", t.To)
	}
	for _, d := range l.Directories {
		check("directory", d.Path)
	}
	for _, f := range l.Files {
		check("file to", f.To)
		if f.From != "" && f.Content != "" {
			errs = append(errs, fmt.Errorf("layer %q: file %s has both from and content", l.Name, f.To))
		}
	}
	for _, s := range l.Links {
		check("link", s.Path)
	}
	for _, p := range l.Programs {
		check("program", p)
	}
	return errs
}

// tagged parses a reference that must be complete: a repository with its
// registry, and a tag. It is what containerd's CRI plugin looks images up by,
// and a name that it would first have to complete is not found there.
func tagged(name string) (reference.NamedTagged, error) {
	named, err := reference.ParseNormalizedNamed(name)
	if err != nil {
		return nil, fmt.Errorf("not an image reference: %w", err)
	}
	t, ok := named.(reference.NamedTagged)
	if !ok {
		return nil, errors.New("want a name with a tag, such as registry.example.com/app:v1")
	}
	if _, digested := named.(reference.Digested); digested {
		return nil, errors.New("want a name with a tag and no digest")
	}
	if t.String() != name {
		return nil, fmt.Errorf("want the full name %s", t)
	}
	return t, nil
}
