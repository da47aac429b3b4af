package imagefs

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"nodesmith.dev/nodesmith/internal/imagefs/volume"
)

// maxMounts bounds the lines of fstab that count: no node has so many, and each
// one can put a whole file system into the tree.
const maxMounts = 100

// Mount is a line of fstab.
type Mount struct {
	Device, Point, Kind string
	Options             []string
}

// Has reports whether the line has an option.
func (m Mount) Has(option string) bool { return slices.Contains(m.Options, option) }

// boots reports whether the node mounts the line's file system by itself, at
// the latest when something looks there.
func (m Mount) boots() bool { return !m.Has("noauto") || m.Has("x-systemd.automount") }

// Mounted is a file system that Tree has at a mount point.
type Mounted struct {
	Mount
	Partition Partition
	Volume    volume.Volume
}

// escape is how fstab(5) writes white space and other characters of a field.
var escape = regexp.MustCompile(`\\[0-7]{3}`)

func unescape(field string) string {
	return escape.ReplaceAllStringFunc(field, func(e string) string {
		code, err := strconv.ParseUint(e[1:], 8, 8)
		if err != nil {
			return e // more than a byte
		}
		return string([]byte{byte(code)})
	})
}

// Mounts reads the first maxMounts lines of /etc/fstab; a missing file has none.
func (t *Tree) Mounts() []Mount {
	content, err := t.ReadFile("/etc/fstab")
	if err != nil {
		return nil
	}
	var out []Mount
	for line := range strings.Lines(string(content)) {
		fields := strings.Fields(line)
		if len(fields) < 3 || strings.HasPrefix(fields[0], "#") {
			continue
		}
		if len(out) == maxMounts {
			break
		}
		m := Mount{Device: unescape(fields[0]), Point: unescape(fields[1]), Kind: fields[2]}
		if len(fields) > 3 {
			m.Options = strings.Split(fields[3], ",")
		}
		out = append(out, m)
	}
	return out
}

// mountAll mounts what fstab names by an identifier, parents first whatever the
// order of the lines, as systemd does. Devices named otherwise are left alone:
// what they are is known on the node only.
func (i *Image) mountAll() {
	mounts := i.Tree.Mounts()
	if len(mounts) == maxMounts {
		i.FstabErrs = append(i.FstabErrs, fmt.Errorf("fstab has %d lines or more", maxMounts))
	}
	slices.SortStableFunc(mounts, func(a, b Mount) int { return cmp.Compare(path.Clean(a.Point), path.Clean(b.Point)) })
	for _, m := range mounts {
		n := i.find(m)
		if n < 0 || !strings.HasPrefix(m.Point, "/") || path.Clean(m.Point) == "/" || !m.boots() {
			continue
		}
		if err := i.mount(m, n); err != nil {
			i.FstabErrs = append(i.FstabErrs, fmt.Errorf("%s can't be mounted on %s: %w", m.Device, m.Point, err))
		}
	}
	clear(i.Tree.directories) // what was read of them may be mounted over
}

// mount puts the file system of a partition into the tree.
func (i *Image) mount(m Mount, partition int) error {
	v := i.volumes[partition]
	if m.Kind != v.Kind() && m.Kind != "auto" {
		return fmt.Errorf("it is %s, not %s", v.Kind(), m.Kind)
	}
	at, err := i.Tree.find(m.Point, true)
	if errors.Is(err, fs.ErrNotExist) { // systemd makes the directory
		clean := path.Clean(m.Point)
		at, err = i.Tree.find(path.Dir(clean), true)
		at.path = path.Join(at.path, path.Base(clean))
	}
	if err != nil {
		return err
	}
	if !at.node.Stat().Mode.IsDir() {
		return errors.New("that is no directory")
	}
	if _, taken := i.Tree.mounts[at.path]; taken {
		return errors.New("something else is mounted there")
	}
	root, err := v.Root()
	if err != nil {
		return err
	}
	p := i.Table.Partitions[partition]
	i.Tree.mounts[at.path] = mounted{root, volumeOn(v, p)}
	i.Mounted = append(i.Mounted, Mounted{m, p, v})
	return nil
}

// find returns the index of the partition that a mount's device is, or -1.
func (i *Image) find(m Mount) int {
	for n, p := range i.Table.Partitions {
		if v := i.volumes[n]; v != nil && m.means(p, v) {
			return n
		}
	}
	return -1
}

// Has reports whether a mount's device is a file system of this disk that can
// be read.
func (i *Image) Has(m Mount) bool { return i.find(m) >= 0 }

// means reports whether the mount's device is this partition.
func (m Mount) means(p Partition, v volume.Volume) bool {
	tag, value, _ := strings.Cut(m.Device, "=")
	value = strings.Trim(value, `"`)
	if value == "" {
		return false
	}
	switch tag {
	case "UUID":
		return strings.EqualFold(value, v.UUID())
	case "LABEL":
		return value == v.Label()
	case "PARTUUID":
		return strings.EqualFold(value, p.ID)
	case "PARTLABEL":
		return value == p.Name
	}
	return false
}
