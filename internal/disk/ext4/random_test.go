package ext4_test

import (
	"bytes"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"path"
	"strings"
	"time"

	"nodesmith.dev/nodesmith/internal/disk/ext4"
)

// memory is Content in memory.
type memory []byte

func (m memory) Size() int64                      { return int64(len(m)) }
func (m memory) Open() (ext4.ReadAtCloser, error) { return file{bytes.NewReader(m)}, nil }

type file struct{ *bytes.Reader }

func (file) Close() error { return nil }

// sparse is Content with data of one block in every second one.
type sparse struct{ memory }

func (s sparse) Data() (data []ext4.Range) {
	for at := int64(0); at < s.Size(); at += 8192 {
		data = append(data, ext4.Range{Offset: at, Length: min(4096, s.Size()-at)})
	}
	return data
}

// newSparse makes a file of so many pieces.
func newSparse(pieces int) sparse {
	m := make(memory, pieces*8192-4096-100)
	for at := 0; at < len(m); at += 8192 {
		copy(m[at:], fmt.Sprint("piece at ", at))
	}
	return sparse{m}
}

// random makes trees.
type random struct {
	*rand.Rand
	entries []ext4.Entry
	dirs    []string
	files   []string
	classes int
}

func newRandom(seed uint64, classes int) *random {
	r := &random{Rand: rand.New(rand.NewPCG(seed, 1)), classes: classes}
	r.entries = []ext4.Entry{{Path: ".", Mode: fs.ModeDir | 0o755, ModTime: time.Unix(1_600_000_000, 0)}}
	r.dirs = []string{"."}
	return r
}

// add completes an entry with an owner, times and attributes.
func (r *random) add(e ext4.Entry) {
	e.UID, e.GID = r.Uint32N(200_000), r.Uint32N(3)*70_000
	e.ModTime = time.Unix(1_600_000_000-r.Int64N(3_000_000_000), r.Int64N(1e9))
	e.Mode |= fs.FileMode(r.Uint32N(0o1000))
	e.Class = r.IntN(r.classes)
	e.Group = []string{"", "", "one", "another"}[r.IntN(4)]
	if r.IntN(4) == 0 {
		e.Xattrs = r.xattrs(e.Mode)
	}
	r.entries = append(r.entries, e)
}

func (r *random) xattrs(mode fs.FileMode) map[string]string {
	all := map[string]string{}
	if r.IntN(2) == 0 {
		all["security.selinux"] = "system_u:object_r:etc_t:s0\x00"
	}
	if r.IntN(4) == 0 {
		all["trusted.overlay.opaque"] = "y"
	}
	if mode.IsRegular() || mode.IsDir() {
		for range r.IntN(3) {
			all["user."+r.name(40)] = strings.Repeat("v", r.IntN(1200))
		}
	}
	if mode.IsRegular() && r.IntN(4) == 0 {
		clear(all)
		all["user.full"] = strings.Repeat("x", 4096-32-4-16-4) // a whole block
	}
	return all
}

func (r *random) name(longest int) string {
	const letters = "abcdefghijklmnopqrstuvwxyzABC0123456789._-+äöü"
	length := 1 + r.IntN(longest)
	if r.IntN(20) == 0 {
		length = longest
	}
	name := make([]byte, length)
	for i := range name {
		name[i] = letters[r.IntN(len(letters))]
	}
	if name[0] == '.' {
		name[0] = 'd'
	}
	return string(name)
}

func (r *random) path(longest int) string {
	return path.Join(r.dirs[r.IntN(len(r.dirs))], fmt.Sprint(len(r.entries))+r.name(longest-7))
}

// grow adds n files of all kinds.
func (r *random) grow(n int) {
	for range n {
		switch r.IntN(12) {
		case 0, 1:
			p := r.path(255)
			r.add(ext4.Entry{Path: p, Mode: fs.ModeDir | fs.ModeSetgid})
			if len(p) < 3000 {
				r.dirs = append(r.dirs, p)
			}
		case 2:
			r.add(ext4.Entry{Path: r.path(100), Mode: fs.ModeSymlink, Target: strings.Repeat("t", 1+r.IntN(100))})
		case 3:
			kind := []fs.FileMode{fs.ModeNamedPipe, fs.ModeSocket, fs.ModeDevice, fs.ModeDevice | fs.ModeCharDevice}[r.IntN(4)]
			e := ext4.Entry{Path: r.path(50), Mode: kind}
			if kind&fs.ModeDevice != 0 {
				e.Major, e.Minor = r.Uint32N(4096), r.Uint32N(1<<20)
			}
			r.add(e)
		case 4:
			if len(r.files) > 0 {
				r.entries = append(r.entries, ext4.Entry{Path: r.path(30), Link: r.files[r.IntN(len(r.files))]})
			}
		case 5:
			r.file(newSparse(1 + r.IntN(800)))
		case 6:
			r.file(r.content(4 << 20))
		default:
			r.file(r.content(20_000))
		}
	}
}

func (r *random) file(c ext4.Content) {
	p := r.path(60)
	r.add(ext4.Entry{Path: p, Mode: fs.ModeSetuid, Content: c})
	r.files = append(r.files, p)
}

func (r *random) content(most int) memory {
	m := make(memory, r.IntN(most))
	for i := range m {
		m[i] = byte(i>>8) ^ byte(i)
	}
	if len(m) > 0 {
		m[0] = byte(r.Uint32())
	}
	return m
}

// wide adds a directory of n empty files.
func (r *random) wide(n, name int) {
	dir := r.path(20)
	r.add(ext4.Entry{Path: dir, Mode: fs.ModeDir})
	for i := range n {
		r.add(ext4.Entry{Path: fmt.Sprintf("%s/%s%d", dir, strings.Repeat("w", name), i)})
	}
}

// deep adds directories within each other.
func (r *random) deep(n int) {
	dir := "deep"
	for range n {
		r.add(ext4.Entry{Path: dir, Mode: fs.ModeDir})
		dir += "/d"
	}
}
