package apply

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
)

// adminUnits is where links of enabled and masked units lie (systemd.unit(5)).
const adminUnits = "/etc/systemd/system"

// unitDirs hold unit files, the stronger ones first.
var unitDirs = []string{adminUnits, "/usr/lib/systemd/system", "/lib/systemd/system"}

// writeUnits masks, disables and enables the configured units.
func (r *run) writeUnits() error {
	for _, name := range r.config.Units.Mask {
		if err := r.maskUnit(name); err != nil {
			return fmt.Errorf("mask %s: %w", name, err)
		}
	}
	for _, name := range r.config.Units.Disable {
		if err := r.disableUnit(name); err != nil {
			return fmt.Errorf("disable %s: %w", name, err)
		}
	}
	done := map[string]bool{}
	for _, name := range r.config.Units.Enable {
		if err := r.enableUnit(name, done); err != nil {
			return fmt.Errorf("enable %s: %w", name, err)
		}
	}
	return nil
}

func (r *run) maskUnit(name string) error {
	p := path.Join(adminUnits, name)
	info, err := r.tree.lstat(p)
	if err == nil && info.Mode()&fs.ModeSymlink == 0 {
		return fmt.Errorf("%s is a unit of its own; remove it instead", p)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return r.tree.link(p, "/dev/null")
}

// disableUnit takes away all links to the unit that systemctl enable, or a
// package, has made: in the directories of what wants it, and its other names.
func (r *run) disableUnit(name string) error {
	file, text, err := r.findUnit(name)
	if err != nil {
		return err
	}
	install, err := installSection(text)
	if err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	links := []string{"*.wants/" + name, "*.requires/" + name}
	for _, link := range append(links, install["Alias"]...) {
		// A unit's name may hold backslashes, which stand for themselves.
		found, err := r.tree.glob(path.Join(adminUnits, strings.ReplaceAll(link, `\`, `\\`)))
		if err != nil {
			return err
		}
		for _, at := range found {
			if to, err := r.linkTarget(at); err != nil {
				return err
			} else if path.Base(to) != path.Base(file) {
				continue // a unit of its own, or another one's name
			}
			if err := r.tree.remove(at); err != nil {
				return err
			}
		}
	}
	return nil
}

// enableUnit makes the links of the unit's [Install] section, and of the units
// it names in Also.
func (r *run) enableUnit(name string, done map[string]bool) error {
	if done[name] {
		return nil
	}
	done[name] = true
	file, text, err := r.findUnit(name)
	if err != nil {
		return err
	}
	install, err := installSection(text)
	if err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	if len(install) == 0 {
		return fmt.Errorf("%s has no [Install] section: other units start it", file)
	}
	for _, wanted := range []struct{ key, suffix string }{
		{"WantedBy", ".wants"}, {"RequiredBy", ".requires"},
	} {
		for _, by := range install[wanted.key] {
			if err := r.unitLink(path.Join(adminUnits, by+wanted.suffix, name), file); err != nil {
				return err
			}
		}
	}
	for _, alias := range install["Alias"] {
		if err := r.unitLink(path.Join(adminUnits, alias), file); err != nil {
			return err
		}
	}
	for _, also := range install["Also"] {
		if err := r.enableUnit(also, done); err != nil {
			return fmt.Errorf("also %s: %w", also, err)
		}
	}
	return nil
}

// unitLink makes a link to a unit file, unless there is one: what a package's
// own script has enabled stays as it is.
func (r *run) unitLink(p, file string) error {
	info, err := r.tree.lstat(p)
	switch {
	case err == nil && info.Mode()&fs.ModeSymlink == 0:
		return fmt.Errorf("%s is in the way", p)
	case err == nil:
		return nil
	case !errors.Is(err, fs.ErrNotExist):
		return err
	}
	return r.tree.link(p, file)
}

// findUnit returns the unit's file and text; name@instance.service is looked up
// as name@.service when it has no file of its own.
func (r *run) findUnit(name string) (file, text string, err error) {
	names := []string{name}
	if prefix, instance, ok := strings.Cut(name, "@"); ok {
		names = append(names, prefix+"@"+path.Ext(instance))
	}
	for _, n := range names {
		for _, dir := range unitDirs {
			file := path.Join(dir, n)
			if to, err := r.linkTarget(file); err != nil {
				return "", "", err
			} else if to == "/dev/null" {
				return "", "", fmt.Errorf("it is masked by %s", file)
			}
			data, err := r.tree.read(file)
			if errors.Is(err, fs.ErrNotExist) {
				continue
			}
			return file, string(data), err
		}
	}
	return "", "", fmt.Errorf("no such unit in the image; install the package that brings it, or add it to files (looked in %s)",
		strings.Join(unitDirs, ", "))
}

// linkTarget returns what the link at p says, or "" when there is no link.
func (r *run) linkTarget(p string) (string, error) {
	at, err := r.tree.resolve(p, false)
	if err != nil {
		return "", err
	}
	info, err := r.tree.root.Lstat(at)
	if errors.Is(err, fs.ErrNotExist) || err == nil && info.Mode()&fs.ModeSymlink == 0 {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	return r.tree.root.Readlink(at)
}

// installKeys are the lists of [Install] that become links.
var installKeys = []string{"WantedBy", "RequiredBy", "Alias", "Also"}

// installSection returns the lists of a unit file's [Install] section. As in
// systemd.syntax(7) a trailing backslash joins lines, lists of the same key add
// up, and an empty one starts again. Names that are paths or hold specifiers
// (%i) are errors.
func installSection(text string) (map[string][]string, error) {
	lists := map[string][]string{}
	section := ""
	for line := range strings.Lines(strings.ReplaceAll(text, "\\\n", " ")) {
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' || line[0] == ';' {
			continue
		}
		if line[0] == '[' {
			section = line
			continue
		}
		key, value, ok := strings.Cut(line, "=")
		key = strings.TrimSpace(key)
		if !ok || section != "[Install]" || !slices.Contains(installKeys, key) {
			continue
		}
		if strings.ContainsAny(value, "/%\x00") {
			return nil, fmt.Errorf("can't make links for %s", line)
		}
		if names := strings.Fields(value); len(names) > 0 {
			lists[key] = append(lists[key], names...)
		} else {
			delete(lists, key)
		}
	}
	return lists, nil
}
