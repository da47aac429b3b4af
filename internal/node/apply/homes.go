package apply

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"

	"golang.org/x/sys/unix"

	"nodesmith.dev/nodesmith/internal/node"
)

// skeleton is what a new home is a copy of.
const skeleton = "/etc/skel"

// authorizedKeys is where a home has its keys.
const authorizedKeys = ".ssh/authorized_keys"

// writeHomes gives the configured users their homes, keys and sudo.
func (r *run) writeHomes() error {
	for _, u := range r.config.Users {
		if err := r.writeHome(u); err != nil {
			return fmt.Errorf("user %s: %w", u.Name, err)
		}
	}
	return nil
}

func (r *run) writeHome(u node.User) error {
	home, uid, gid, err := r.accounts.home(u.Name)
	if err != nil {
		return err
	}
	_, err = r.tree.lstat(home)
	if errors.Is(err, fs.ErrNotExist) {
		if err := r.tree.directory(home, uid, gid, 0o700); err != nil {
			return err
		}
		if err := r.copySkeleton(skeleton, home, uid, gid); err != nil {
			return err
		}
	} else if err != nil {
		return err
	}
	if len(u.SSHAuthorizedKeys) > 0 {
		if err := r.tree.directory(path.Join(home, ".ssh"), uid, gid, 0o700); err != nil {
			return err
		}
		keys := strings.Join(u.SSHAuthorizedKeys, "\n") + "\n"
		if err := r.tree.file(path.Join(home, authorizedKeys), strings.NewReader(keys), uid, gid, 0o600); err != nil {
			return err
		}
	}
	if !u.Sudo {
		return nil
	}
	rule := u.Name + " ALL=(ALL:ALL) NOPASSWD: ALL\n"
	return r.tree.file("/etc/sudoers.d/90-"+u.Name, strings.NewReader(rule), 0, 0, 0o440)
}

// copySkeleton copies what is below a directory of the target, for a new owner.
// Anything but directories, files and links has no place in a home.
func (r *run) copySkeleton(from, to string, uid, gid int) error {
	at, err := r.tree.resolve(from, true)
	if err != nil {
		return err
	}
	entries, err := r.tree.entries(at)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, e := range entries {
		if err := r.copyEntry(path.Join(at, e.Name()), path.Join(to, e.Name()), uid, gid); err != nil {
			return err
		}
	}
	return nil
}

// copyEntry copies one entry; at is its resolved path.
func (r *run) copyEntry(at, to string, uid, gid int) error {
	var st unix.Stat_t
	if err := r.tree.stat(at, &st); err != nil {
		return err
	}
	mode := node.Mode(st.Mode & 0o777)
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFDIR:
		if err := r.tree.directory(to, uid, gid, mode); err != nil {
			return err
		}
		return r.copySkeleton("/"+at, to, uid, gid)
	case unix.S_IFLNK:
		target, err := r.tree.root.Readlink(at)
		if err != nil {
			return err
		}
		if err := r.tree.link(to, target); err != nil {
			return err
		}
		link, err := r.tree.resolve(to, false)
		if err != nil {
			return err
		}
		return r.tree.root.Lchown(link, uid, gid)
	case unix.S_IFREG:
		content, err := r.tree.root.Open(at)
		if err != nil {
			return err
		}
		return errors.Join(r.tree.file(to, content, uid, gid, mode), content.Close())
	default:
		return fmt.Errorf("/%s is neither file, directory nor link", at)
	}
}
