package pipeline

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"nodesmith.dev/nodesmith/api/v1alpha1"
	"nodesmith.dev/nodesmith/internal/build/tree"
	"nodesmith.dev/nodesmith/internal/format"
	"nodesmith.dev/nodesmith/internal/format/blockcache"
	formats "nodesmith.dev/nodesmith/internal/format/known"
	"nodesmith.dev/nodesmith/internal/format/ova"
	"nodesmith.dev/nodesmith/internal/format/pack"
	"nodesmith.dev/nodesmith/internal/format/raw"
	"nodesmith.dev/nodesmith/internal/host"
)

// Artifact is one image file for one infrastructure.
type Artifact struct {
	Infrastructure string
	Architecture   string
	Format         string
	Path           string
	// SizeBytes is the disk's size, StoredBytes what the file takes up, FileBytes
	// its length.
	SizeBytes, StoredBytes, FileBytes int64
}

// imageFile is a file that a disk is written to.
type imageFile struct {
	format format.Format
	path   string
	new    func(out *format.Output, diskSize int64) (format.Writer, error)
	origin origin
}

// files lists what is made of a disk: what the infrastructure imports, then
// what the spec asks for besides.
func (p *Pipeline) files(ctx context.Context, image *v1alpha1.NodeImage, d infrastructureDisk, dir string) ([]imageFile, error) {
	graph, err := originOf(ctx, d.state)
	if err != nil {
		return nil, err
	}
	stem := stemOf(image, d.infrastructure.Name)
	var files []imageFile
	for _, name := range append([]string{d.infrastructure.Format}, image.Spec.Formats...) {
		f, err := formats.Named(name)
		if err != nil {
			return nil, err
		}
		if slices.ContainsFunc(files, func(other imageFile) bool { return other.format.Name == name }) {
			continue
		}
		file := imageFile{format: f, path: filepath.Join(dir, stem+f.Suffix), new: f.New}
		options := ""
		if f.Name == ova.Format.Name {
			settings, err := d.node.machine(p.options.OVASigner)
			if err != nil {
				return nil, err
			}
			if options, err = identity(settings); err != nil {
				return nil, err
			}
			file.new = settings.New
		}
		file.origin = graph.as(f, options)
		files = append(files, file)
	}
	return files, nil
}

// stemOf begins the name of every file of an image for one infrastructure.
func stemOf(image *v1alpha1.NodeImage, infrastructure string) string {
	return image.Metadata.Name + "-" + infrastructure
}

// artifact says what the file is.
func (f imageFile) artifact() (Artifact, error) {
	stored, err := storedBytes(f.path)
	if err != nil {
		return Artifact{}, err
	}
	disk, err := formats.OpenFile(f.path, f.format.Name)
	if err != nil {
		return Artifact{}, err
	}
	return Artifact{
		Format: f.format.Name, Path: f.path, SizeBytes: disk.Size(), StoredBytes: stored, FileBytes: disk.Info.Size(),
	}, disk.Close()
}

// export copies the disk out of the engine into a folder in dir and makes those
// files of it, in one read, that are not there already or made of another disk.
// They get their names when all of them are whole.
func (p *Pipeline) export(ctx context.Context, d infrastructureDisk, files []imageFile, dir string) (err error) {
	files = slices.DeleteFunc(slices.Clone(files), func(f imageFile) bool { return f.origin.holds(f.path) })
	if len(files) == 0 {
		return nil
	}
	temporary, err := os.MkdirTemp(dir, ".nodesmith-*")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(temporary)) }()
	absolute, err := filepath.Abs(temporary)
	if err != nil {
		return err
	}
	disk, as, err := p.fetch(ctx, d, absolute)
	if err != nil {
		return err
	}
	defer p.record.Begin(tree.StageFormats)()
	made := make([]string, len(files)) // where each file lies before it gets its name
	var targets []format.Target
	var names []string
	for i, f := range files {
		if f.format.Name == as.Name {
			made[i] = disk
			continue
		}
		made[i] = filepath.Join(temporary, filepath.Base(f.path))
		targets = append(targets, format.Target{Path: made[i], New: f.new})
		names = append(names, f.format.Name)
	}
	if len(targets) > 0 {
		p.options.Log("%s: writing %s", d.infrastructure.Name, strings.Join(names, ", "))
		if err := p.convert(ctx, disk, as, targets); err != nil {
			return err
		}
	}
	for i, f := range files {
		if err := os.Chmod(made[i], 0o644); err != nil {
			return err
		}
		if err := os.Rename(made[i], f.path); err != nil {
			return err
		}
		if err := f.origin.mark(f.path); err != nil {
			return err
		}
	}
	return nil
}

// fetch copies the disk out of the engine into a folder, in the format that
// suits the way: raw with its holes from this machine, packed from elsewhere.
func (p *Pipeline) fetch(ctx context.Context, d infrastructureDisk, folder string) (path string, as format.Format, err error) {
	state, name, as := d.state, tree.DiskFile, raw.Format
	if p.engine.Remote() {
		name, as = tree.PackedFile, pack.Format
		if state, err = p.builder.Pack(ctx, d.infrastructure.Name+": pack disk", state); err != nil {
			return "", as, err
		}
	}
	return filepath.Join(folder, name), as, p.engine.Export(ctx, d.infrastructure.Name+": build", state, folder)
}

// convert makes targets of a disk.
func (p *Pipeline) convert(ctx context.Context, path string, as format.Format, targets []format.Target) (err error) {
	disk, err := formats.OpenFile(path, as.Name)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, disk.Close()) }()
	blocks := blockcache.Open(host.BlocksDir(p.options.Settings.CacheDir), blockcache.DefaultLimit)
	defer blocks.Close()
	_, err = format.Converter{Blocks: blocks}.Convert(ctx, disk, targets)
	return err
}
