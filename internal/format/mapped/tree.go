package mapped

import (
	"errors"
	"os"
)

// tree is a directory whose files are read. No path and no link leads out of it.
type tree struct {
	root *os.Root
	dir  *os.File // the same
}

func openTree(name string) (_ *tree, err error) {
	var t tree
	if t.root, err = os.OpenRoot(name); err != nil {
		return nil, err
	}
	if t.dir, err = t.root.Open("."); err != nil {
		return nil, errors.Join(err, t.root.Close())
	}
	return &t, nil
}

// open opens a file to be read.
func (t *tree) open(name string) (*os.File, error) {
	if file := openBeneath(t.dir, name); file != nil {
		return file, nil
	}
	return t.root.Open(name)
}

func (t *tree) close() error { return errors.Join(t.dir.Close(), t.root.Close()) }
