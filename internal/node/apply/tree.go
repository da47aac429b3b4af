package apply

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"nodesmith.dev/nodesmith/internal/node"
)

// maxLinks is how many symbolic links one path may go through: Linux's own
// limit (path_resolution(7)).
const maxLinks = 40

// tree is the target's root directory. It resolves paths as the node will: an
// absolute link starts at the target's root, and ".." stops there. Behind that
// stands os.Root, which refuses to leave the directory whatever links say.
//
// Everything that is written gets one time, and so does every directory whose
// entries changed, when finish is called.
type tree struct {
	root *os.Root
	when time.Time
	// touched are the directories whose entries changed, as resolved paths.
	touched map[string]bool
	// written are the resolved paths that this run made.
	written map[string]bool
}

func openTree(dir string, when time.Time) (*tree, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("open target tree: %w", err)
	}
	return &tree{root: root, when: when, touched: map[string]bool{}, written: map[string]bool{}}, nil
}

func (t *tree) close() error { return t.root.Close() }

// resolve returns where p lies, relative to the root and without links, "." for
// the root. The last element is looked through only when follow is set.
// Elements that do not exist stay as they are.
func (t *tree) resolve(p string, follow bool) (string, error) {
	var done []string
	rest := elements(p)
	for links := 0; len(rest) > 0; {
		name := rest[0]
		rest = rest[1:]
		if name == ".." {
			done = done[:max(0, len(done)-1)]
			continue
		}
		done = append(done, name)
		here := strings.Join(done, "/")
		info, err := t.root.Lstat(here)
		if errors.Is(err, fs.ErrNotExist) || err == nil && info.Mode()&fs.ModeSymlink == 0 {
			continue
		}
		if err != nil {
			return "", err
		}
		if len(rest) == 0 && !follow {
			break
		}
		if links++; links > maxLinks {
			return "", fmt.Errorf("%s: more than %d symbolic links: %w", p, maxLinks, unix.ELOOP)
		}
		to, err := t.root.Readlink(here)
		if err != nil {
			return "", err
		}
		done = done[:len(done)-1]
		if path.IsAbs(to) {
			done = nil
		}
		rest = slices.Concat(elements(to), rest)
	}
	if len(done) == 0 {
		return ".", nil
	}
	return strings.Join(done, "/"), nil
}

// elements splits a path; it keeps ".." and drops "." and empty elements.
func elements(p string) []string {
	return slices.DeleteFunc(strings.Split(p, "/"), func(e string) bool { return e == "" || e == "." })
}

// lstat describes p itself; its parents are looked through.
func (t *tree) lstat(p string) (fs.FileInfo, error) {
	at, err := t.resolve(p, false)
	if err != nil {
		return nil, err
	}
	return t.root.Lstat(at)
}

// read returns the content of the file that p leads to.
func (t *tree) read(p string) ([]byte, error) {
	at, err := t.resolve(p, true)
	if err != nil {
		return nil, err
	}
	info, err := t.root.Lstat(at)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is not a regular file", p)
	}
	return t.root.ReadFile(at)
}

// mkdir makes p and its parents and returns where it is. Directories that it
// makes are root's and 0755; those that exist stay as they are.
func (t *tree) mkdir(p string) (string, error) {
	at, err := t.resolve(p, true)
	if err != nil {
		return "", err
	}
	for i, c := range at + "/" {
		if c != '/' || at == "." {
			continue
		}
		dir := at[:i]
		info, err := t.root.Lstat(dir)
		switch {
		case err == nil && info.IsDir():
			continue
		case err == nil:
			return "", fmt.Errorf("/%s is in the way: it is not a directory", dir)
		case !errors.Is(err, fs.ErrNotExist):
			return "", err
		}
		if err := t.root.Mkdir(dir, 0o755); err != nil {
			return "", err
		}
		if err := t.own(dir, 0, 0, 0o755); err != nil {
			return "", err
		}
		t.made(dir)
		t.touched[dir] = true
	}
	return at, nil
}

// directory makes p, or takes it as it is, and gives it owner and mode.
func (t *tree) directory(p string, uid, gid int, mode node.Mode) error {
	at, err := t.mkdir(p)
	if err != nil {
		return err
	}
	t.touched[at] = true
	return t.own(at, uid, gid, mode)
}

// file writes a regular file in the place of what is at p, which may be
// anything but a directory. A link at p is replaced, not written through.
func (t *tree) file(p string, content io.Reader, uid, gid int, mode node.Mode) error {
	at, err := t.vacate(p)
	if err != nil {
		return err
	}
	f, err := t.root.OpenFile(at, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, content)
	if err := errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err := t.own(at, uid, gid, mode); err != nil {
		return err
	}
	t.made(at)
	return t.root.Chtimes(at, t.when, t.when)
}

// link makes a symbolic link in the place of what is at p, which may be
// anything but a directory.
func (t *tree) link(p, target string) error {
	at, err := t.vacate(p)
	if err != nil {
		return err
	}
	if err := t.root.Symlink(target, at); err != nil {
		return err
	}
	if err := t.root.Lchown(at, 0, 0); err != nil {
		return err
	}
	t.made(at)
	return t.linkTime(at)
}

// vacate makes the parents of p and removes what is at p; it returns where p is.
func (t *tree) vacate(p string) (string, error) {
	dir, err := t.mkdir(path.Dir(p))
	if err != nil {
		return "", err
	}
	at := path.Join(dir, path.Base(p))
	info, err := t.root.Lstat(at)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return at, nil
	case err != nil:
		return "", err
	case info.IsDir():
		return "", fmt.Errorf("/%s is in the way: it is a directory", at)
	}
	return at, t.root.Remove(at)
}

// rewrite gives the file that p leads to another content, and keeps who owns it
// and who may read it.
func (t *tree) rewrite(p string, content []byte) error {
	at, err := t.resolve(p, true)
	if err != nil {
		return err
	}
	var st unix.Stat_t
	if err := t.stat(at, &st); err != nil {
		return err
	}
	return t.file("/"+at, strings.NewReader(string(content)), int(st.Uid), int(st.Gid), node.Mode(st.Mode&0o7777))
}

// remove removes at, a resolved path, and all below it.
func (t *tree) remove(at string) error {
	t.touched[path.Dir(at)] = true
	return t.root.RemoveAll(at)
}

// glob returns, in order, the resolved paths that match a pattern of absolute
// path elements. Links in the middle are looked through, one at the end is not.
func (t *tree) glob(pattern string) ([]string, error) {
	found := []string{"."}
	for i, element := range elements(pattern) {
		var next []string
		for _, dir := range found {
			names, err := t.matching(dir, element)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", pattern, err)
			}
			for _, name := range names {
				at, err := t.resolve(path.Join(dir, name), i+1 < len(elements(pattern)))
				if err != nil {
					return nil, fmt.Errorf("%s: %w", pattern, err)
				}
				next = append(next, at)
			}
		}
		found = next
	}
	slices.Sort(found)
	return slices.Compact(found), nil
}

// matching returns the names in dir that match one element of a pattern; none
// when dir is not a directory.
func (t *tree) matching(dir, element string) ([]string, error) {
	info, err := t.root.Lstat(dir)
	if errors.Is(err, fs.ErrNotExist) || err == nil && !info.IsDir() {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	entries, err := t.entries(dir)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, e := range entries {
		ok, err := path.Match(element, e.Name())
		if err != nil {
			return nil, err
		}
		if ok {
			names = append(names, e.Name())
		}
	}
	return names, nil
}

// entries reads a directory, a resolved path, in the order of the names.
func (t *tree) entries(dir string) ([]fs.DirEntry, error) {
	f, err := t.root.Open(dir)
	if err != nil {
		return nil, err
	}
	entries, err := f.ReadDir(-1)
	if err := errors.Join(err, f.Close()); err != nil {
		return nil, err
	}
	slices.SortFunc(entries, func(a, b fs.DirEntry) int { return strings.Compare(a.Name(), b.Name()) })
	return entries, nil
}

// own gives at, a resolved path that is not a link, its owner and mode. The
// owner comes first: chown clears setuid.
func (t *tree) own(at string, uid, gid int, mode node.Mode) error {
	if err := t.root.Lchown(at, uid, gid); err != nil {
		return err
	}
	m := fs.FileMode(mode & 0o777)
	for bit, flag := range map[node.Mode]fs.FileMode{
		unix.S_ISUID: fs.ModeSetuid, unix.S_ISGID: fs.ModeSetgid, unix.S_ISVTX: fs.ModeSticky,
	} {
		if mode&bit != 0 {
			m |= flag
		}
	}
	return t.root.Chmod(at, m)
}

// made notes that at, a resolved path, is this run's work.
func (t *tree) made(at string) {
	t.written[at] = true
	t.touched[path.Dir(at)] = true
}

// inParent calls fn with the directory that holds at, a resolved path, and at's
// name in it: for system calls that os.Root does not have.
func (t *tree) inParent(at string, fn func(dir int, name string) error) error {
	dir, err := t.root.Open(path.Dir(at))
	if err != nil {
		return err
	}
	err = fn(int(dir.Fd()), path.Base(at))
	return errors.Join(err, dir.Close())
}

func (t *tree) stat(at string, st *unix.Stat_t) error {
	return t.inParent(at, func(dir int, name string) error {
		if err := unix.Fstatat(dir, name, st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
			return &fs.PathError{Op: "stat", Path: "/" + at, Err: err}
		}
		return nil
	})
}

func (t *tree) linkTime(at string) error {
	ts := unix.NsecToTimespec(t.when.UnixNano())
	return t.inParent(at, func(dir int, name string) error {
		if err := unix.UtimesNanoAt(dir, name, []unix.Timespec{ts, ts}, unix.AT_SYMLINK_NOFOLLOW); err != nil {
			return &fs.PathError{Op: "utimensat", Path: "/" + at, Err: err}
		}
		return nil
	})
}

// finish gives the directories whose entries changed the tree's time.
func (t *tree) finish() error {
	for dir := range t.touched {
		err := t.root.Chtimes(dir, t.when, t.when)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}
