package blockcache

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/cespare/xxhash/v2"

	"nodesmith.dev/nodesmith/internal/lru"
)

// A segment is: magic; the blocks, one behind the other; the index, an entry for
// each block in the order of their keys; the footer. Numbers are little endian.
const magic = "nsblock2"

// entry is a block in an index.
type entry struct {
	Key      Key
	Offset   uint64 // of the encoded block in the file
	Length   uint32 // of the encoded block, in bytes
	Checksum uint64 // xxHash of the encoded block
}

// footer ends a segment.
type footer struct {
	Entries  uint32
	Checksum uint64 // xxHash of the index
	Magic    [len(magic)]byte
}

var (
	entrySize  = int64(binary.Size(entry{}))
	footerSize = int64(binary.Size(footer{}))
)

// Bounds of what is believed: no encoded block is longer than twice a block, and
// no index takes more than 27 MiB.
const (
	maxEncoded = 128 << 10
	maxEntries = 1 << 19
)

// errDamaged says that a file is no whole segment.
var errDamaged = errors.New("the segment is damaged")

// segment is a segment that can be read.
type segment struct {
	file     *os.File
	modified time.Time
	index    []entry
	used     sync.Once
}

// openSegment reads the index of a segment.
func openSegment(path string) (_ *segment, err error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			_ = file.Close() // the first error counts
		}
	}()
	info, err := file.Stat()
	if err != nil {
		return nil, err
	}
	index, err := readIndex(file, info.Size())
	if err != nil {
		return nil, err
	}
	return &segment{file: file, modified: info.ModTime(), index: index}, nil
}

// readIndex reads the footer and the index that it names.
func readIndex(file *os.File, size int64) ([]entry, error) {
	var f footer
	end := make([]byte, footerSize)
	if size < int64(len(magic))+footerSize {
		return nil, errDamaged
	}
	if _, err := file.ReadAt(end, size-footerSize); err != nil {
		return nil, err
	}
	if _, err := binary.Decode(end, binary.LittleEndian, &f); err != nil {
		return nil, err
	}
	begin := size - footerSize - int64(f.Entries)*entrySize
	if string(f.Magic[:]) != magic || f.Entries > maxEntries || begin < int64(len(magic)) {
		return nil, errDamaged
	}
	raw := make([]byte, int64(f.Entries)*entrySize)
	if _, err := file.ReadAt(raw, begin); err != nil {
		return nil, err
	}
	if xxhash.Sum64(raw) != f.Checksum {
		return nil, errDamaged
	}
	index := make([]entry, f.Entries)
	if _, err := binary.Decode(raw, binary.LittleEndian, index); err != nil {
		return nil, err
	}
	for _, e := range index {
		if e.Length > maxEncoded || e.Offset > uint64(begin) || uint64(e.Length) > uint64(begin)-e.Offset {
			return nil, errDamaged
		}
	}
	return index, nil
}

// get appends the block to dst if the segment has it, whole.
func (s *segment) get(block Key, dst []byte) ([]byte, bool) {
	i, ok := slices.BinarySearchFunc(s.index, block, func(e entry, k Key) int { return e.Key.compare(k) })
	if !ok {
		return dst, false
	}
	e := s.index[i]
	begin := len(dst)
	out := slices.Grow(dst, int(e.Length))[:begin+int(e.Length)]
	if _, err := s.file.ReadAt(out[begin:], int64(e.Offset)); err != nil || xxhash.Sum64(out[begin:]) != e.Checksum {
		return dst, false
	}
	s.used.Do(func() { lru.Touch(s.file.Name()) })
	return out, true
}

func (s *segment) close() { _ = s.file.Close() } // only read

// writer makes a segment. After the first error it takes nothing more.
type writer struct {
	limit int64

	mu     sync.Mutex
	file   *os.File
	out    *bufio.Writer
	size   int64
	index  []entry
	known  map[Key]bool
	failed bool
}

// create begins a segment of at most limit bytes in dir; nil if it can't be.
func create(dir string, limit int64) *writer {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil
	}
	file, err := os.CreateTemp(dir, unfinished)
	if err != nil {
		return nil
	}
	w := &writer{limit: limit, file: file, out: bufio.NewWriterSize(file, 1<<20), known: map[Key]bool{}}
	w.write([]byte(magic))
	return w
}

func (w *writer) write(p []byte) {
	if w.failed {
		return
	}
	n, err := w.out.Write(p)
	w.size += int64(n)
	w.failed = err != nil
}

// put adds a block. A segment that is full stays as it is.
func (w *writer) put(block Key, encoded []byte) {
	if len(encoded) > maxEncoded {
		return
	}
	checksum := xxhash.Sum64(encoded)
	w.mu.Lock()
	defer w.mu.Unlock()
	full := w.size+int64(len(encoded)) > w.limit || len(w.index) == maxEntries
	if w.failed || full || w.known[block] {
		return
	}
	w.known[block] = true
	w.index = append(w.index, entry{block, uint64(w.size), uint32(len(encoded)), checksum})
	w.write(encoded)
}

// finish writes the index and gives the segment its name, or removes it if it
// is empty or could not be written.
func (w *writer) finish() {
	w.mu.Lock()
	defer w.mu.Unlock()
	path := w.file.Name()
	slices.SortFunc(w.index, func(a, b entry) int { return a.Key.compare(b.Key) })
	index, err := binary.Append(nil, binary.LittleEndian, w.index)
	if err == nil {
		f := footer{Entries: uint32(len(w.index)), Checksum: xxhash.Sum64(index), Magic: [len(magic)]byte([]byte(magic))}
		index, err = binary.Append(index, binary.LittleEndian, f)
	}
	w.write(index)
	if flushed := errors.Join(err, w.out.Flush(), w.file.Close()); flushed != nil || w.failed || len(w.index) == 0 {
		_ = os.Remove(path)
		return
	}
	name := fmt.Sprintf("%016x%s", xxhash.Sum64(index), suffix)
	if err := os.Rename(path, filepath.Join(filepath.Dir(path), name)); err != nil {
		_ = os.Remove(path)
	}
}
