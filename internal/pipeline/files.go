package pipeline

import (
	"fmt"
	"io/fs"
	"strconv"
	"strings"

	"nodesmith.dev/nodesmith/api/v1alpha1"
	"nodesmith.dev/nodesmith/internal/bundle"
	"nodesmith.dev/nodesmith/internal/fault"
	"nodesmith.dev/nodesmith/internal/node"
)

// fileConfig returns the files, directories and links of a spec, and the files
// that come out of the build context: each under the field that takes it.
func fileConfig(spec v1alpha1.Spec, values v1alpha1.Values, buildContext fs.FS) (node.Config, []bundle.File, error) {
	var config node.Config
	var files []bundle.File
	for i, f := range spec.Files {
		mode, owner, err := permissions(f.Mode, f.Owner)
		if err != nil {
			return config, nil, fmt.Errorf("spec.files[%d]: %w", i, err)
		}
		file := node.File{Path: f.Path, Mode: mode, Owner: owner}
		switch {
		case f.Template:
			if file.Content, err = f.Render(values, buildContext); err != nil {
				return config, nil, fault.New(fault.BadSpec, "", "spec.files[%d]: %w", i, err)
			}
		case f.Content != nil:
			file.Content = *f.Content
		default:
			file.Source = fmt.Sprintf("files/%d", i)
			files = append(files, bundle.File{Name: file.Source, Mode: 0o644, Path: f.Source, FS: buildContext})
		}
		config.Files = append(config.Files, file)
	}
	for i, d := range spec.Directories {
		folder, content, err := folderConfig(d, fmt.Sprintf("directories/%d", i), buildContext)
		if err != nil {
			return config, nil, fault.New(fault.BadSpec, "", "spec.directories[%d]: %w", i, err)
		}
		config, files = config.With(folder), append(files, content...)
	}
	for _, l := range spec.Links {
		config.Links = append(config.Links, node.Link{Path: l.Path, Target: l.Target})
	}
	return config, files, nil
}

// folderConfig returns a directory and what its source holds, the latter under
// a name in the bundle.
func folderConfig(d v1alpha1.Directory, name string, buildContext fs.FS) (node.Config, []bundle.File, error) {
	mode, owner, err := permissions(d.Mode, d.Owner)
	if err != nil {
		return node.Config{}, nil, err
	}
	config := node.Config{Directories: []node.Directory{{Path: d.Path, Mode: mode, Owner: owner}}}
	entries, err := d.Entries(buildContext)
	if err != nil {
		return node.Config{}, nil, err
	}
	var files []bundle.File
	for _, entry := range entries {
		switch {
		case entry.Directory:
			config.Directories = append(config.Directories, node.Directory{Path: entry.Path, Mode: node.Mode(entry.Mode), Owner: owner})
		case entry.Target != "":
			config.Links = append(config.Links, node.Link{Path: entry.Path, Target: entry.Target})
		default:
			source := name + strings.TrimPrefix(entry.Path, d.Path)
			config.Files = append(config.Files, node.File{Path: entry.Path, Mode: node.Mode(entry.Mode), Owner: owner, Source: source})
			files = append(files, bundle.File{Name: source, Mode: 0o644, Path: entry.Source, FS: buildContext})
		}
	}
	return config, files, nil
}

// permissions reads a mode and an owner as a spec has them.
func permissions(mode, owner string) (node.Mode, node.Owner, error) {
	bits, err := strconv.ParseUint(mode, 8, 32)
	if err != nil {
		return 0, node.Owner{}, fmt.Errorf("mode: %w", err)
	}
	user, group, _ := strings.Cut(owner, ":")
	return node.Mode(bits), node.Owner{User: user, Group: group}, nil
}
