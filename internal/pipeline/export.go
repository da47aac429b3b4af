package pipeline

import (
	"context"
	"encoding/json"
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
	"nodesmith.dev/nodesmith/internal/host"
	"nodesmith.dev/nodesmith/internal/scratch"
	"nodesmith.dev/nodesmith/internal/store"
	"nodesmith.dev/nodesmith/internal/store/chunked"
)

// Artifact is one image file for one infrastructure.
type Artifact struct {
	// Image is the image's name in the store: NAME:TAG.
	Image          string
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
	// options are the writer's, for the store; nil for its defaults.
	options json.RawMessage
}

// files lists what is made of a disk: what the infrastructure imports, then
// what the spec asks for besides.
func (p *Pipeline) files(image *v1alpha1.NodeImage, d infrastructureDisk, dir string) ([]imageFile, error) {
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
			if file.options, err = json.Marshal(settings); err != nil {
				return nil, err
			}
			file.new = settings.New
		}
		file.origin = d.origin.as(f, options)
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

// export makes those files of a disk, in one read, that are not there already or
// made of another disk, and puts the disk into the store, unless it is there.
// Where it is, the engine is not asked for it. Files get their names when all of
// them are whole.
func (p *Pipeline) export(ctx context.Context, d infrastructureDisk, files []imageFile, dir string, into *storing) (_ chunked.Table, err error) {
	stored, err := into.find(ctx, d.infrastructure.Name, d.origin)
	if err != nil {
		return chunked.Table{}, err
	}
	files = slices.DeleteFunc(slices.Clone(files), func(f imageFile) bool { return f.origin.holds(f.path) })
	if len(files) == 0 && stored != nil {
		return stored.Table, nil
	}
	folder, err := scratch.New(dir, ".nodesmith-")
	if err != nil {
		return chunked.Table{}, err
	}
	defer func() { err = errors.Join(err, folder.Close()) }()
	temporary, err := filepath.Abs(folder.Path())
	if err != nil {
		return chunked.Table{}, err
	}
	made := make([]string, len(files)) // where each file lies before it gets its name
	var targets []format.Target
	for i, f := range files {
		made[i] = filepath.Join(temporary, filepath.Base(f.path))
		targets = append(targets, format.Target{Path: made[i], New: f.new})
	}
	var table chunked.Table
	if stored != nil {
		table, err = stored.Table, p.fromStore(ctx, d, stored, targets)
	} else {
		table, err = p.fromEngine(ctx, d, temporary, targets, into)
	}
	if err != nil {
		return chunked.Table{}, err
	}
	return table, p.place(files, made)
}

// writeTitle names the writing of files that are made of a disk.
func writeTitle(d infrastructureDisk, names []string) string {
	return d.infrastructure.Name + ": write " + strings.Join(names, ", ")
}

// reading names what reads a disk.
func reading(d infrastructureDisk) tree.Reading {
	return tree.Reading{Title: d.infrastructure.Name + ": build", Pack: d.infrastructure.Name + ": pack disk"}
}

// place gives files their names.
func (p *Pipeline) place(files []imageFile, made []string) error {
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

// fromEngine reads the disk in the engine once, into the targets and the store. What
// has to be copied on the way lies in a folder.
func (p *Pipeline) fromEngine(ctx context.Context, d infrastructureDisk, folder string, targets []format.Target, into *storing) (table chunked.Table, err error) {
	err = p.builder.Read(ctx, reading(d), d.disk, folder, func(disk format.Source) error {
		sink, writer, err := into.sink(ctx, disk.Size())
		if err != nil {
			return err
		}
		if err := p.convert(ctx, d, disk, append(targets, sink)); err != nil {
			return err
		}
		table = writer.Table()
		return nil
	})
	return table, err
}

// fromStore makes targets of a disk in the store.
func (p *Pipeline) fromStore(ctx context.Context, d infrastructureDisk, disk *store.Disk, targets []format.Target) (err error) {
	content, err := disk.Open(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, content.Close()) }()
	return p.convert(ctx, d, content, targets)
}

// convert makes targets of a disk.
func (p *Pipeline) convert(ctx context.Context, d infrastructureDisk, disk format.Source, targets []format.Target) (err error) {
	var names []string
	for _, t := range targets {
		names = append(names, filepath.Base(t.Path))
	}
	work := p.record.Begin(tree.StageFormats, writeTitle(d, names))
	defer func() { work.End(err) }()
	blocks := blockcache.Open(host.BlocksDir(p.options.Settings.CacheDir), int64(p.options.Settings.Bounds.Blocks))
	defer blocks.Close()
	_, err = format.Converter{Blocks: blocks}.Convert(ctx, disk, targets)
	return err
}
