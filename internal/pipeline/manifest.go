package pipeline

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"

	"nodesmith.dev/nodesmith/internal/build/tree"
	"nodesmith.dev/nodesmith/internal/bundle"
	"nodesmith.dev/nodesmith/internal/fault"
	"nodesmith.dev/nodesmith/internal/kubernetes"
	"nodesmith.dev/nodesmith/internal/manifest"
)

// manifestOf returns what went into a disk; nil if the file in dir says so already.
func (p *Pipeline) manifestOf(ctx context.Context, d infrastructureDisk, buildContext fs.FS, dir string, into *storing) (*manifest.Manifest, error) {
	if p.manifestOrigin(d.origin).holds(manifestPath(d, dir)) {
		return nil, nil
	}
	n := d.node
	if m, err := into.manifest(ctx, n, d.origin); err != nil || m != nil {
		return m, err
	}
	m := manifest.Manifest{
		Image: n.image.Metadata.Name, Infrastructure: d.infrastructure.Name,
		OS:        manifest.OS{Distro: n.release.Distro, Version: n.release.Version, Codename: n.release.Codename},
		Nodesmith: n.version, Lock: n.digest,
	}
	m.AddLock(n.lock)
	record, err := p.builder.Record(ctx, d.kubernetes)
	if err != nil {
		return nil, err
	}
	m.AddRecord(record, n.lock)
	m.Customization, err = n.customization(buildContext)
	return &m, err
}

// writeManifest writes the manifest of a disk, unless it is nil.
func (p *Pipeline) writeManifest(d infrastructureDisk, m *manifest.Manifest, dir string) (err error) {
	if m == nil {
		return nil
	}
	path := manifestPath(d, dir)
	work := p.record.Begin(tree.StageFormats, writeTitle(d, []string{filepath.Base(path)}))
	defer func() { work.End(err) }()
	if err := m.Write(path); err != nil {
		return err
	}
	return p.manifestOrigin(d.origin).mark(path)
}

// manifestOrigin is the origin of the manifest of a disk of origin graph.
func (p *Pipeline) manifestOrigin(graph origin) origin {
	return origin(digest.FromString(fmt.Sprintf("%s\n%s\n%s", graph, manifest.APIVersion, p.options.Version)))
}

// manifestPath is where the manifest of a disk is written.
func manifestPath(d infrastructureDisk, dir string) string {
	return filepath.Join(dir, stemOf(d.node.image, d.infrastructure.Name)+manifest.Suffix)
}

// customization lists what the spec itself puts into the image.
func (n nodeInputs) customization(buildContext fs.FS) (manifest.Customization, error) {
	c := manifest.Customization{Files: []manifest.File{}, Links: []manifest.Link{}, Scripts: []manifest.Script{}, Users: []string{}}
	row, err := kubernetes.Lookup(n.lock.Kubernetes.Version)
	if err != nil {
		return c, err
	}
	config, sources, err := n.user(row, buildContext)
	if err != nil {
		return c, err
	}
	for _, f := range config.Files {
		content := bundle.File{Data: []byte(f.Content)}
		if f.Source != "" {
			i := slices.IndexFunc(sources, func(s bundle.File) bool { return s.Name == f.Source })
			if i < 0 {
				return c, fmt.Errorf("%s: its source %s is not among the files", f.Path, f.Source)
			}
			content = sources[i]
		}
		file := manifest.File{Path: f.Path, Mode: cmp.Or(f.Mode, 0o644).String(), Owner: cmp.Or(f.User, "root") + ":" + cmp.Or(f.Group, "root")}
		if file.Size, file.SHA256, err = measure(content); err != nil {
			return c, fault.New(fault.BadSpec, "", "%s: %w", f.Path, err)
		}
		c.Files = append(c.Files, file)
	}
	for _, l := range config.Links {
		c.Links = append(c.Links, manifest.Link{Path: l.Path, Target: l.Target})
	}
	for _, u := range config.Users {
		c.Users = append(c.Users, u.Name)
	}
	for _, s := range n.image.Spec.Scripts {
		text, err := s.Text(buildContext)
		if err != nil {
			return c, fault.New(fault.BadSpec, "", "spec.scripts: %s %w", s.Name, err)
		}
		sum := sha256.Sum256([]byte(text))
		c.Scripts = append(c.Scripts, manifest.Script{Name: s.Name, When: s.When, SHA256: hex.EncodeToString(sum[:])})
	}
	slices.SortFunc(c.Files, func(a, b manifest.File) int { return strings.Compare(a.Path, b.Path) })
	slices.SortFunc(c.Links, func(a, b manifest.Link) int { return strings.Compare(a.Path, b.Path) })
	return c, nil
}

// measure returns a file's size in bytes and its SHA-256.
func measure(f bundle.File) (size int64, sum string, err error) {
	content, _, err := f.Open()
	if err != nil {
		return 0, "", err
	}
	hash := sha256.New()
	size, err = io.Copy(hash, content)
	return size, hex.EncodeToString(hash.Sum(nil)), errors.Join(err, content.Close())
}
