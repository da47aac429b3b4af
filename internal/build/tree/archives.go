package tree

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"path"
	"strings"

	"github.com/moby/buildkit/client/llb"

	"nodesmith.dev/nodesmith/internal/bundle"
	"nodesmith.dev/nodesmith/internal/containerimage"
	"nodesmith.dev/nodesmith/internal/lock"
	"nodesmith.dev/nodesmith/internal/source/registry"
)

// archivesDir is where step-images finds the spec's archives of images.
const archivesDir = "/.nodesmith/archives"

// ImageArchive is an archive of container images in the build context: a file,
// or the folder of an OCI layout.
type ImageArchive struct {
	Name, Digest string // as containerimage.Archive has them
	Path         string // in Context
	Context      fs.FS
}

// archives returns the archives as step-images sees them, and their mounts:
// the images that the lock names, then those of the build context.
func (b *Builder) archives(ctx context.Context, l *lock.Lock, local []ImageArchive) ([]containerimage.Archive, []llb.RunOption, error) {
	var archives []containerimage.Archive
	var mounts []llb.RunOption
	add := func(archive containerimage.Archive, content llb.State) {
		dir := fmt.Sprintf("%s/%d", archivesDir, len(archives))
		archive.Path = path.Join(dir, archive.Path)
		archives = append(archives, archive)
		mounts = append(mounts, llb.AddMount(dir, content, llb.Readonly))
	}
	for _, image := range l.ContainerImages {
		layout, err := b.inputs.Lazy(ctx, "container image: "+image.Name, bundle.Source{
			Key: fmt.Sprintln("container image", image.Digest),
			Files: func() ([]bundle.File, error) {
				dir, err := fetched(ctx, b, StageImages, "container image "+image.Name, image.Size, func(ctx context.Context, _ func(string, ...any)) (string, error) {
					return registry.Fetch(ctx, b.images, image, l.Architecture)
				})
				if err != nil {
					return nil, err
				}
				return filesIn(os.DirFS(dir), ".")
			},
			Missing: func(context.Context) ([]bundle.Download, error) { return registry.Missing(b.images, image) },
		})
		if err != nil {
			return nil, nil, err
		}
		add(containerimage.Archive{Name: image.Name, Digest: image.Digest}, layout)
	}
	for _, archive := range local {
		files, name, err := archive.files()
		if err != nil {
			return nil, nil, err
		}
		content, err := b.inputs.Content(ctx, "container image: "+archive.Path, files...)
		if err != nil {
			return nil, nil, err
		}
		add(containerimage.Archive{Name: archive.Name, Digest: archive.Digest, Path: name}, content)
	}
	return archives, mounts, nil
}

// files returns the archive's files by their names in a bundle, and what in the
// bundle the archive is: "" for all of it.
func (a ImageArchive) files() (files []bundle.File, name string, err error) {
	info, err := fs.Stat(a.Context, a.Path)
	if err != nil {
		return nil, "", err
	}
	if !info.IsDir() {
		name := path.Base(a.Path)
		return []bundle.File{{Name: name, Mode: 0o644, Path: a.Path, FS: a.Context}}, name, nil
	}
	files, err = filesIn(a.Context, a.Path)
	return files, "", err
}

// filesIn lists the regular files below a folder as those of a bundle, by their
// paths from there.
func filesIn(fsys fs.FS, folder string) ([]bundle.File, error) {
	var files []bundle.File
	err := fs.WalkDir(fsys, folder, func(at string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() {
			return err
		}
		files = append(files, bundle.File{Name: strings.TrimPrefix(at, folder+"/"), Mode: 0o644, Path: at, FS: fsys})
		return nil
	})
	return files, err
}
