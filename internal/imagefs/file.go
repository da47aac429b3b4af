package imagefs

import "nodesmith.dev/nodesmith/internal/imagefs/volume"

// File is a file of a tree that is at hand, for who walks the whole tree: no
// path is followed again, and nothing is kept of a directory once it is left.
type File struct {
	volume.Node
	tree *Tree
	at   place
}

// Root is the tree's root directory.
func (t *Tree) Root() File {
	root := t.mounts["/"]
	return File{root.node, t, place{"/", root.node, root.on}}
}

// Path is where the file is, free of links.
func (f File) Path() string { return f.at.path }

// VolumeStart is where the file's volume begins on the disk, in bytes: it tells
// volumes apart.
func (f File) VolumeStart() int64 { return f.at.on.start }

// DiskExtents are the file's extents with Physical counted from the disk's start.
func (f File) DiskExtents() ([]volume.Extent, error) {
	extents, err := f.Extents()
	for i := range extents {
		extents[i].Physical += f.at.on.start
	}
	return extents, err
}

// Directory is a directory's content.
type Directory struct {
	// Names are sorted.
	Names []string
	file  File
	read  *directory
}

// Directory reads a directory, with what is mounted in it.
func (f File) Directory() (*Directory, error) {
	d, err := f.tree.readDirectory(f.at)
	if err != nil {
		return nil, err
	}
	return &Directory{d.names, f, d}, nil
}

// Open opens one of the directory's files; a link is opened itself.
func (d *Directory) Open(name string) (File, error) {
	at, err := d.file.tree.open(d.file.at, d.read, name)
	return File{at.node, d.file.tree, at}, err
}
