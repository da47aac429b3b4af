package apply

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strconv"
	"strings"

	"nodesmith.dev/nodesmith/internal/node"
)

// leftovers are globs of what building and running an operating system leaves
// behind. They are removed before the configuration is written, which may then
// put something of its own in the place.
var leftovers = []string{
	// The builder's network and name.
	"/etc/resolv.conf",
	"/etc/hostname",
	"/etc/netplan/*.yaml",
	"/lib/netplan/*.yaml",
	"/etc/network/interfaces",
	"/etc/network/interfaces.d/*",
	"/etc/udev/rules.d/70-persistent-net.rules",
	"/var/lib/dhcp/*",
	"/var/lib/chrony/*",
	// What says that cloud-init has run, must not run, or belongs to an installer.
	"/etc/cloud/cloud-init.disabled",
	"/etc/cloud/ds-identify.cfg",
	"/etc/cloud/cloud.cfg.d/00-subiquity-*.cfg",
	"/etc/cloud/cloud.cfg.d/subiquity-*.cfg",
	"/etc/cloud/cloud.cfg.d/curtin-preserve-sources.cfg",
	"/etc/cloud/cloud.cfg.d/90-installer-network.cfg",
	"/etc/cloud/cloud.cfg.d/99-installer.cfg",
	// The package manager's caches, backups and locks.
	"/usr/sbin/policy-rc.d",
	"/var/lib/apt/lists/*",
	"/var/cache/apt/*",
	"/var/cache/debconf/*-old",
	"/var/lib/dpkg/*-old",
	"/var/lib/dpkg/lock",
	"/var/lib/dpkg/lock-frontend",
	"/var/lib/dpkg/triggers/Lock",
	"/etc/passwd-", "/etc/group-", "/etc/shadow-", "/etc/gshadow-", "/etc/subuid-", "/etc/subgid-",
	"/etc/.pwd.lock",
	// Caches that belong to the machine that filled them.
	"/var/cache/ldconfig/aux-cache",
	"/var/cache/apparmor/*",
	"/var/cache/man/*",
	// Keys, histories and caches of those who logged in.
	"/root/.ssh/authorized_keys*", "/root/.ssh/known_hosts*",
	"/home/*/.ssh/authorized_keys*", "/home/*/.ssh/known_hosts*",
	"/root/.*_history", "/home/*/.*_history",
	"/root/.cache", "/root/.lesshst", "/root/.viminfo", "/root/.wget-hsts", "/root/.python_history",
	// What a service keeps between boots.
	"/var/lib/systemd/timers/*",
	"/var/lib/systemd/coredump/*",
	"/var/lib/logrotate/status",
	"/var/crash/*",
	"/core", "/core.*",
	// A node gets these from kubeadm.
	"/etc/kubeadm.yml",
	"/run/*",
	"/tmp/*",
	"/var/tmp/*",
	"/.dockerenv",
}

// logs is where no file may be left; its directories stay, their owners and
// modes are the services'.
const logs = "/var/log"

// removeState removes the builder's state and what the configuration removes.
func (r *run) removeState() error {
	if err := r.removeLeftovers(); err != nil {
		return err
	}
	for _, glob := range r.config.Removals {
		n, err := r.removeGlob(glob)
		if err != nil {
			return err
		}
		if _, err := fmt.Fprintf(r.options.Log, "removed %s: %d\n", glob, n); err != nil {
			return err
		}
	}
	return nil
}

// removeSince removes the same from a tree that has its configuration, but what
// that wrote.
func (r *run) removeSince() error {
	for _, p := range r.config.Written() {
		at, err := r.tree.resolve(p, false)
		if err != nil {
			return fmt.Errorf("%s: %w", p, err)
		}
		r.tree.written[at] = true
	}
	for _, u := range r.config.Users {
		home, _, _, err := r.accounts.home(u.Name)
		if err != nil {
			return err
		}
		at, err := r.tree.resolve(path.Join(home, authorizedKeys), false)
		if err != nil {
			return err
		}
		r.tree.written[at] = true
	}
	return r.removeLeftovers()
}

// removeLeftovers removes leftovers, identities and logs that this run did not
// write.
func (r *run) removeLeftovers() error {
	for _, glob := range slices.Concat(leftovers, node.Identities()) {
		if _, err := r.removeGlob(glob); err != nil {
			return err
		}
	}
	at, err := r.tree.resolve(logs, true)
	if err != nil {
		return err
	}
	if err := r.removeFiles(at); err != nil {
		return fmt.Errorf("%s: %w", logs, err)
	}
	return nil
}

// removeGlob returns how many paths it removed.
func (r *run) removeGlob(glob string) (int, error) {
	found, err := r.tree.glob(glob)
	if err != nil {
		return 0, err
	}
	removed := 0
	for _, at := range found {
		if r.wrote(at) {
			continue
		}
		if err := r.tree.remove(at); err != nil {
			return removed, fmt.Errorf("remove %s: %w", glob, err)
		}
		removed++
	}
	return removed, nil
}

// removeFiles removes all that is not a directory below dir, a resolved path.
func (r *run) removeFiles(dir string) error {
	entries, err := r.tree.entries(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, e := range entries {
		at := path.Join(dir, e.Name())
		switch {
		case e.IsDir():
			err = r.removeFiles(at)
		case !r.wrote(at):
			err = r.tree.remove(at)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// verify looks at the finished tree and returns all that breaks the seal.
func (r *run) verify() error {
	return errors.Join(r.verifyLeftovers(), r.verifyMachineID(), r.verifyPasswords(), r.verifyUsers(), r.verifyShells())
}

// verifyLeftovers finds what is there although removeLeftovers removed it: a
// link that leads a file of the configuration to such a place, for example.
func (r *run) verifyLeftovers() error {
	var errs []error
	for _, glob := range node.Identities() {
		found, err := r.tree.glob(glob)
		errs = append(errs, err)
		for _, at := range found {
			errs = append(errs, fmt.Errorf("/%s has to be made by each node for itself", at))
		}
	}
	for _, glob := range leftovers {
		found, err := r.tree.glob(glob)
		errs = append(errs, err)
		for _, at := range found {
			if !r.wrote(at) {
				errs = append(errs, fmt.Errorf("/%s is left from the builder", at))
			}
		}
	}
	return errors.Join(errs...)
}

// wrote reports whether this run made at or something below it.
func (r *run) wrote(at string) bool {
	for w := range r.tree.written {
		if w == at || strings.HasPrefix(w, at+"/") {
			return true
		}
	}
	return false
}

// verifyMachineID accepts what makes systemd draw a new id at boot
// (machine-id(5)): no file, an empty one, or the word uninitialized.
func (r *run) verifyMachineID() error {
	id, err := r.tree.read("/etc/machine-id")
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if s := strings.TrimSpace(string(id)); s != "" && s != "uninitialized" {
		return errors.New("/etc/machine-id holds an id: all nodes of the image would be one to DHCP and to systemd")
	}
	return nil
}

// verifyPasswords finds accounts that a password opens. In crypt(5) no hash
// starts with "!" or "*".
func (r *run) verifyPasswords() error {
	var errs []error
	for _, row := range r.accounts.shadow.rows {
		if !strings.HasPrefix(row[1], "!") && !strings.HasPrefix(row[1], "*") {
			errs = append(errs, fmt.Errorf("the account %s has a password", row[0]))
		}
	}
	for _, row := range r.accounts.passwd.rows {
		if row[1] != "x" && !strings.HasPrefix(row[1], "!") && !strings.HasPrefix(row[1], "*") {
			errs = append(errs, fmt.Errorf("the account %s has a password in /etc/passwd", row[0]))
		}
	}
	return errors.Join(errs...)
}

// verifyUsers finds people's accounts that the configuration does not name.
func (r *run) verifyUsers() error {
	var errs []error
	for _, row := range r.accounts.passwd.rows {
		uid, err := strconv.Atoi(row[2])
		if err != nil {
			errs = append(errs, fmt.Errorf("/etc/passwd, account %s: %w", row[0], err))
			continue
		}
		named := slices.ContainsFunc(r.config.Users, func(u node.User) bool { return u.Name == row[0] })
		if uid >= node.MinID && uid <= node.MaxID && !named {
			errs = append(errs, fmt.Errorf("the account %s (uid %d) is a person's and nobody asked for it; name it in users or leave out the package that makes it", row[0], uid))
		}
	}
	return errors.Join(errs...)
}

// verifyShells finds configured users who could not log in for want of a shell.
func (r *run) verifyShells() error {
	var errs []error
	for _, u := range r.config.Users {
		shell := r.accounts.passwd.find(0, u.Name)[6]
		at, err := r.tree.resolve(shell, true)
		if err == nil {
			_, err = r.tree.root.Lstat(at)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("user %s: its shell %s is not in the image: %w", u.Name, shell, err))
		}
	}
	return errors.Join(errs...)
}
