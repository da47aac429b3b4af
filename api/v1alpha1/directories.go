package v1alpha1

import (
	"fmt"
	"io/fs"
	"strings"
)

// defaultDirectoryMode is the mode of a directory that does not say its own.
const defaultDirectoryMode = "0755"

// Directory is a directory that the build makes. One that the image has anyway
// gets the mode and the owner.
type Directory struct {
	// Path is where the directory lies on the node: absolute, without . and ..
	// in it.
	Path string `json:"path"`
	// Source is a folder of the build context whose content is copied into the
	// directory, links as links. As git does, it keeps of a file's mode whether
	// it can be executed: 0755 or 0644; folders get 0755. All of it belongs to
	// the directory's owner.
	Source string `json:"source,omitempty"`
	// Mode is the directory's own permissions: three or four octal digits, in
	// quotes.
	Mode string `json:"mode,omitempty"`
	// Owner is USER:GROUP, each a name or a number.
	Owner string `json:"owner,omitempty"`
}

// Link is a symbolic link; it takes the place of a file or link at its path.
type Link struct {
	// Path is where the link lies on the node: absolute, without . and .. in it.
	Path string `json:"path"`
	// Target is what the link leads to; nothing has to be there.
	Target string `json:"target"`
}

// Entry is a file, folder or link below a Directory with a source.
type Entry struct {
	// Path is where it lies on the node, Source where in the build context.
	Path, Source string
	// Directory marks a folder; Target is what a link says, "" for other kinds.
	Directory bool
	Target    string
	// Mode is that of a file or folder.
	Mode fs.FileMode
}

// Entries returns what the directory's source holds, in the order of the names;
// nothing without a source.
func (d Directory) Entries(buildContext fs.FS) ([]Entry, error) {
	if d.Source == "" {
		return nil, nil
	}
	var entries []Entry
	err := fs.WalkDir(buildContext, d.Source, func(name string, found fs.DirEntry, err error) error {
		if err != nil || name == d.Source {
			return err
		}
		entry := Entry{Path: d.Path + strings.TrimPrefix(name, d.Source), Source: name}
		switch found.Type() {
		case fs.ModeDir:
			entry.Directory, entry.Mode = true, 0o755
		case fs.ModeSymlink:
			entry.Target, err = fs.ReadLink(buildContext, name)
		case 0:
			var info fs.FileInfo
			if info, err = found.Info(); err == nil {
				entry.Mode = 0o644 | info.Mode()&0o100/0o100*0o111
			}
		default:
			err = fmt.Errorf("%s is neither a file nor a folder nor a link", name)
		}
		entries = append(entries, entry)
		return err
	})
	return entries, err
}

// directories checks the directories that the image shall hold.
func (c *checker) directories(directories []Directory, buildContext fs.FS) {
	for i, directory := range directories {
		at := fmt.Sprintf("spec.directories[%d]", i)
		if c.filePath(at+".path", directory.Path) {
			c.claim(at+".path", directory.Path, aDirectory)
		}
		if directory.Source != "" {
			c.folder(at+".source", directory, buildContext)
		}
		c.matches(at+".mode", directory.Mode, modeSyntax)
		c.matches(at+".owner", directory.Owner, ownerSyntax)
	}
}

// folder checks a folder of the build context and all that is in it.
func (c *checker) folder(at string, directory Directory, buildContext fs.FS) {
	bad := FieldError{Field: at, Found: quote(directory.Source)}
	if !c.inContext(&bad, directory.Source) || buildContext == nil {
		return
	}
	info, err := fs.Stat(buildContext, directory.Source)
	switch {
	case err != nil:
		c.unreadable(&bad, directory.Source, err, buildContext)
		return
	case !info.IsDir():
		bad.Problem, bad.Allowed = "is not a folder", []string{"a folder of the build context; spec.files takes single files"}
		c.add(bad)
		return
	}
	entries, err := directory.Entries(buildContext)
	if err != nil {
		bad.Problem = fmt.Sprintf("can't be copied from the build context: %v", err)
		c.add(bad)
		return
	}
	for _, entry := range entries {
		switch {
		case !pathSyntax.ok(entry.Path) || entry.Target != "" && !targetSyntax.ok(entry.Target):
			c.add(FieldError{Field: at, Found: quote(entry.Source), Problem: "has a name or target that is not printable UTF-8"})
		case entry.Directory: // may be there from another source
			if _, ok := c.paths[entry.Path]; !ok {
				c.claim(at, entry.Path, aDirectory)
			}
		case entry.Target != "":
			c.claim(at, entry.Path, aLink)
		default:
			c.claim(at, entry.Path, aFile)
		}
	}
}

// links checks the symbolic links that the image shall hold.
func (c *checker) links(links []Link) {
	for i, link := range links {
		at := fmt.Sprintf("spec.links[%d]", i)
		if c.filePath(at+".path", link.Path) {
			c.claim(at+".path", link.Path, aLink)
		}
		c.matches(at+".target", link.Target, targetSyntax)
	}
}
