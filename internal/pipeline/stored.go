package pipeline

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"nodesmith.dev/nodesmith/internal/fault"
	"nodesmith.dev/nodesmith/internal/format"
	"nodesmith.dev/nodesmith/internal/format/blockcache"
	formats "nodesmith.dev/nodesmith/internal/format/known"
	"nodesmith.dev/nodesmith/internal/format/ova"
	"nodesmith.dev/nodesmith/internal/store"
)

// ExportOptions say which files Export makes, and where.
type ExportOptions struct {
	Dir string
	// Formats are names of formats; none for those that the disk was built for.
	Formats []string
	// OVASigner signs the manifests of OVAs; nil for none.
	OVASigner *ova.Signer
	// Blocks has what was compressed before; nil for nothing.
	Blocks *blockcache.Cache
}

// Export makes files of a disk in the store: those of the named formats, or of the
// ones that it was built for. They get their names when all of them are whole.
func Export(ctx context.Context, disk *store.Disk, options ExportOptions) (_ []Artifact, err error) {
	files, err := exported(disk, options)
	if err != nil {
		return nil, err
	}
	content, err := disk.Open(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, content.Close()) }()
	if err := os.MkdirAll(options.Dir, 0o755); err != nil {
		return nil, err
	}
	var targets []format.Target
	for _, f := range files {
		targets = append(targets, format.Target{Path: f.path, New: f.new})
	}
	if _, err := (format.Converter{Blocks: options.Blocks}).Convert(ctx, content, targets); err != nil {
		return nil, fmt.Errorf("%s: %w", disk.Reference(), err)
	}
	var artifacts []Artifact
	for _, f := range files {
		a, err := f.artifact()
		if err != nil {
			return nil, err
		}
		a.Infrastructure, a.Architecture = disk.Infrastructure, disk.Architecture
		artifacts = append(artifacts, a)
	}
	return artifacts, nil
}

// exported lists the files to make of a disk, with the options that it was built
// with.
func exported(disk *store.Disk, options ExportOptions) ([]imageFile, error) {
	names := options.Formats
	if len(names) == 0 {
		for _, f := range disk.Formats {
			names = append(names, f.Name)
		}
	}
	var files []imageFile
	for _, name := range names {
		f, err := formats.Named(name)
		if err != nil {
			return nil, fault.New(fault.Usage, "", "%s: %w", disk.Reference(), err)
		}
		stem := disk.Image + "-" + disk.Infrastructure
		file := imageFile{format: f, path: filepath.Join(options.Dir, stem+f.Suffix), new: f.New}
		if f.Name == ova.Format.Name {
			settings := ova.Options{Name: stem}
			if err := settingsOf(disk, f.Name, &settings); err != nil {
				return nil, err
			}
			settings.Signer = options.OVASigner
			file.new = settings.New
		}
		files = append(files, file)
	}
	return files, nil
}

// settingsOf reads the options of a format that a disk was built for.
func settingsOf(disk *store.Disk, name string, options any) error {
	for _, f := range disk.Formats {
		if f.Name != name || len(f.Options) == 0 {
			continue
		}
		if err := json.Unmarshal(f.Options, options); err != nil {
			return fault.New(fault.Unverifiable, "build or pull the image again", "%s: options of %s: %w", disk.Reference(), name, err)
		}
	}
	return nil
}
