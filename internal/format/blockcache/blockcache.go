// Package blockcache keeps compressed blocks of disks from one conversion to the
// next, so that of a changed disk only what changed is compressed.
//
// What comes in is a block's key and the name of the codec; what goes out is what
// that codec once made of that block. A key says which block of which chunk of a
// disk it is, by the chunk's digest: who reads a disk by chunks needs the digests
// anyway, and digests of blocks would be as much work again. Blocks lie in segments: immutable
// files, one for each codec and conversion, with an index and checksums. A
// segment gets its name when it is whole, so any number of processes share a
// folder without locks. What is damaged counts as missing. The folder is bounded:
// the segments that were not used for longest go first. Losing it costs time only,
// so no error of the file system reaches the caller.
package blockcache

import (
	"bytes"
	"cmp"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"
)

// Bounds of a folder: the bytes of its segments, and how many there may be, each
// an open file and an index in memory.
const (
	DefaultLimit = 4 << 30
	maxSegments  = 64
)

// Key names the content of a block.
type Key struct {
	Chunk [32]byte // SHA-256 of the chunk that the block lies in
	Block uint8    // which of the chunk's blocks it is, from 0
}

// compare orders keys.
func (k Key) compare(other Key) int {
	return cmp.Or(bytes.Compare(k.Chunk[:], other.Chunk[:]), cmp.Compare(k.Block, other.Block))
}

// Cache is a folder of segments. Its methods are safe for several goroutines.
type Cache struct {
	dir   string
	limit int64 // of all segments together, in bytes

	mu     sync.Mutex
	codecs map[string]*codec
}

// codec is what a Cache holds of one codec.
type codec struct {
	once   sync.Once
	old    []*segment // newest first; read when the first block is asked for
	growth *writer    // blocks that are new; nil if they can't be kept
}

// Open makes a cache of the segments in dir and below, which need not exist,
// with at most limit bytes. Nothing is read until the first Get.
func Open(dir string, limit int64) *Cache {
	return &Cache{dir: dir, limit: limit, codecs: map[string]*codec{}}
}

// Get appends what the codec made of the block to dst. Nothing appended, with
// true, means that the codec had returned nothing.
func (c *Cache) Get(codecID string, block Key, dst []byte) ([]byte, bool) {
	for _, s := range c.codec(codecID).old {
		if out, ok := s.get(block, dst); ok {
			return out, true
		}
	}
	return dst, false
}

// Put keeps what the codec made of the block for later caches.
func (c *Cache) Put(codecID string, block Key, encoded []byte) {
	if w := c.codec(codecID).growth; w != nil {
		w.put(block, encoded)
	}
}

// codec returns what there is of a codec, opened at first use.
func (c *Cache) codec(id string) *codec {
	c.mu.Lock()
	k := c.codecs[id]
	if k == nil {
		k = &codec{}
		c.codecs[id] = k
	}
	c.mu.Unlock()
	k.once.Do(func() {
		dir := filepath.Join(c.dir, id)
		k.old = openSegments(dir)
		k.growth = create(dir, c.limit/2) // so that one conversion can't drive out all others
	})
	return k
}

// Close gives the new segments their names and removes what is too much. The
// Cache must not be used after it.
func (c *Cache) Close() {
	for _, k := range c.codecs {
		for _, s := range k.old {
			s.close()
		}
		if k.growth != nil {
			k.growth.finish()
		}
	}
	c.prune()
}

// suffix ends the names of segments, unfinished begins those of files that no
// process has finished yet, and abandoned is the age at which none will.
const (
	suffix     = ".blocks"
	unfinished = ".new-"
	abandoned  = 24 * time.Hour
)

// openSegments opens what is whole in dir, newest first.
func openSegments(dir string) []*segment {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil
	}
	var found []*segment
	for _, e := range entries {
		if !strings.HasSuffix(e.Name(), suffix) {
			continue
		}
		path := filepath.Join(dir, e.Name())
		s, err := openSegment(path)
		if errors.Is(err, errDamaged) {
			_ = os.Remove(path) // by whichever process comes first
		}
		if err == nil {
			found = append(found, s)
		}
	}
	slices.SortFunc(found, func(a, b *segment) int { return b.modified.Compare(a.modified) })
	return found
}

// prune removes the segments that were not used for longest, until the bounds
// hold, and what killed processes left.
func (c *Cache) prune() {
	type file struct {
		path string
		info fs.FileInfo
	}
	var files []file
	var newest time.Time
	_ = filepath.WalkDir(c.dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return nil //nolint:nilerr // what can't be read is not counted
		}
		if info, err := e.Info(); err == nil {
			files = append(files, file{path, info})
			if info.ModTime().After(newest) {
				newest = info.ModTime()
			}
		}
		return nil
	})
	slices.SortFunc(files, func(a, b file) int { return b.info.ModTime().Compare(a.info.ModTime()) })
	var total int64
	var count int
	for _, f := range files {
		if strings.HasPrefix(filepath.Base(f.path), unfinished) {
			if newest.Sub(f.info.ModTime()) > abandoned {
				_ = os.Remove(f.path)
			}
			continue
		}
		total += f.info.Size()
		if count++; total > c.limit || count > maxSegments {
			_ = os.Remove(f.path)
		}
	}
}
