package format

import (
	"fmt"
	"io"
	"sync"
)

// Cache keeps the tables or blocks that a reader used last, at most Limit of
// them, each made by the first goroutine that asks for it. The zero value with
// a Limit is ready. What it returns is shared and must not be changed.
type Cache[V any] struct {
	Limit int

	mu      sync.Mutex
	entries map[int64]*cached[V]
	clock   uint64
}

type cached[V any] struct {
	once  sync.Once
	value V
	err   error
	used  uint64
}

// Get returns what make returned for key, from now or from before. An error is
// not kept.
func (c *Cache[V]) Get(key int64, load func() (V, error)) (V, error) {
	c.mu.Lock()
	entry := c.entries[key]
	if entry == nil {
		if c.entries == nil {
			c.entries = map[int64]*cached[V]{}
		}
		if len(c.entries) >= c.Limit {
			c.dropOldest()
		}
		entry = &cached[V]{}
		c.entries[key] = entry
	}
	c.clock++
	entry.used = c.clock
	c.mu.Unlock()

	entry.once.Do(func() { entry.value, entry.err = load() })
	if entry.err != nil {
		c.mu.Lock()
		if c.entries[key] == entry {
			delete(c.entries, key)
		}
		c.mu.Unlock()
	}
	return entry.value, entry.err
}

func (c *Cache[V]) dropOldest() {
	oldest, used := int64(0), ^uint64(0)
	for key, entry := range c.entries {
		if entry.used < used {
			oldest, used = key, entry.used
		}
	}
	delete(c.entries, oldest)
}

// ReadFull reads exactly len(p) bytes at offset of a file of size bytes. What
// lies behind the file's end is damage: tables name only what is there.
func ReadFull(r io.ReaderAt, size int64, p []byte, offset int64) error {
	if offset < 0 || offset > size || int64(len(p)) > size-offset {
		return fmt.Errorf("%d bytes at byte %d of a file of %d: %w", len(p), offset, size, ErrCorrupt)
	}
	n, err := r.ReadAt(p, offset)
	if n == len(p) {
		return nil
	}
	if err == nil || err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return fmt.Errorf("read %d bytes at byte %d: %w", len(p), offset, err)
}

// ReadPieces fills p from offset of a disk of size bytes, piece by piece: unit
// is the length of a piece in bytes, and read fills dst from the piece at
// start, beginning skip bytes into it. It is the ReadAt of formats that store
// pieces.
func ReadPieces(p []byte, offset, size, unit int64, read func(dst []byte, start, skip int64) error) (int, error) {
	if offset < 0 || offset > size {
		return 0, fmt.Errorf("read at byte %d of a disk of %d", offset, size)
	}
	var atEnd error
	if int64(len(p)) > size-offset {
		p, atEnd = p[:size-offset], io.EOF
	}
	for n := 0; n < len(p); {
		at := offset + int64(n)
		skip := at % unit
		dst := p[n:min(int64(len(p)), int64(n)+unit-skip)]
		if err := read(dst, at-skip, skip); err != nil {
			return n, fmt.Errorf("disk byte %d: %w", at, err)
		}
		n += len(dst)
	}
	return len(p), atEnd
}
