// Package boltread reads bbolt databases that may be hostile.
//
// What comes in is an io.ReaderAt of a database that nobody has open; what goes
// out are its buckets and values. bbolt itself maps the file and trusts what it
// finds there: a damaged page is a panic, a fault or an endless recursion that
// nothing recovers from. Here every offset is checked, every descent has a
// bound, and a database needs no file of its own. Names are those of bbolt's
// internal/common/{page,meta,bucket}.go.
package boltread

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"io/fs"
)

const (
	magic   = 0xED0CDAED
	version = 2

	pageHeader = 16
	metaSize   = 64
	element    = 16 // of a branch or a leaf
	bucketSize = 16

	branchPage = 0x01
	metaPage   = 0x04
	leafPage   = 0x02

	bucketLeaf = 0x01

	// maxDepth is more than any tree of 4 KiB pages on a disk can have.
	maxDepth = 24
	// maxPage bounds the memory for a page with its overflow.
	maxPage = 64 << 20
	// maxVisits bounds how many pages are read of one database in all, so that
	// branches which lead back to each other come to an end.
	maxVisits = 1 << 18
)

var (
	le         = binary.LittleEndian
	errDamaged = errors.New("the database is damaged")
)

// DB is an open database. It is not safe for concurrent use.
type DB struct {
	r        io.ReaderAt
	pageSize int64
	root     Bucket
	visits   int
}

// Bucket is a set of keys with values or further buckets.
type Bucket struct {
	db     *DB
	root   uint64
	inline []byte // the page of a bucket that has none of its own
}

// Open reads the newer of the two metas that is valid.
func Open(r io.ReaderAt) (*DB, error) {
	var best *DB
	var bestTx uint64
	// The second meta is in the second page, whatever the size of pages.
	for _, at := range []int64{0, 1 << 10, 1 << 11, 1 << 12, 1 << 13, 1 << 14, 1 << 15, 1 << 16} {
		page := make([]byte, pageHeader+metaSize)
		if _, err := r.ReadAt(page, at); err != nil || le.Uint16(page[8:])&metaPage == 0 {
			continue
		}
		m := page[pageHeader:]
		sum := fnv.New64a()
		sum.Write(m[:metaSize-8])
		if le.Uint32(m) != magic || le.Uint32(m[4:]) != version || le.Uint64(m[metaSize-8:]) != sum.Sum64() {
			continue
		}
		size, tx := int64(le.Uint32(m[8:])), le.Uint64(m[48:])
		if size < 512 || size > 1<<16 || size&(size-1) != 0 || at != 0 && at != size {
			continue
		}
		if best == nil || tx > bestTx {
			best, bestTx = &DB{r: r, pageSize: size}, tx
			best.root = Bucket{db: best, root: le.Uint64(m[16:])}
		}
	}
	if best == nil {
		return nil, errors.New("not a bbolt database, or its metadata is damaged")
	}
	return best, nil
}

// Root is the bucket that holds the others.
func (db *DB) Root() Bucket { return db.root }

// page reads a page with its overflow.
func (db *DB) page(id uint64) ([]byte, error) {
	if db.visits++; id > 1<<40 || db.visits > maxVisits {
		return nil, errDamaged
	}
	at := int64(id) * db.pageSize
	header := make([]byte, pageHeader)
	if _, err := db.r.ReadAt(header, at); err != nil {
		return nil, fmt.Errorf("page %d: %w", id, err)
	}
	size := (int64(le.Uint32(header[12:])) + 1) * db.pageSize
	if size > maxPage || le.Uint64(header) != id {
		return nil, fmt.Errorf("page %d: %w", id, errDamaged)
	}
	page := make([]byte, size)
	if _, err := db.r.ReadAt(page, at); err != nil {
		return nil, fmt.Errorf("page %d: %w", id, err)
	}
	return page, nil
}

// Each calls visit for every key in order. value is nil for a bucket, which is
// then nested. What visit gets stays valid.
func (b Bucket) Each(visit func(key, value []byte, nested *Bucket) error) error {
	return b.each(b.root, 0, visit)
}

func (b Bucket) each(id uint64, depth int, visit func(key, value []byte, nested *Bucket) error) error {
	if depth > maxDepth {
		return errDamaged
	}
	page := b.inline
	if page == nil {
		var err error
		if page, err = b.db.page(id); err != nil {
			return err
		}
	}
	if len(page) < pageHeader {
		return errDamaged
	}
	flags, count := le.Uint16(page[8:]), int(le.Uint16(page[10:]))
	if flags != branchPage && flags != leafPage || pageHeader+count*element > len(page) || flags == branchPage && b.inline != nil {
		return errDamaged
	}
	for n := range count {
		at := pageHeader + n*element
		e := page[at : at+element]
		if flags == branchPage {
			if err := b.each(le.Uint64(e[8:]), depth+1, visit); err != nil {
				return err
			}
			continue
		}
		if err := b.leaf(e, page[at:], visit); err != nil {
			return err
		}
	}
	return nil
}

// leaf decodes one element of a leaf; rest is the page from the element on.
func (b Bucket) leaf(e, rest []byte, visit func(key, value []byte, nested *Bucket) error) error {
	start, keySize, valueSize := uint64(le.Uint32(e[4:])), uint64(le.Uint32(e[8:])), uint64(le.Uint32(e[12:]))
	if start+keySize+valueSize > uint64(len(rest)) {
		return errDamaged
	}
	key, value := rest[start:start+keySize], rest[start+keySize:start+keySize+valueSize]
	if le.Uint32(e)&bucketLeaf == 0 {
		return visit(key, value, nil)
	}
	if len(value) < bucketSize {
		return errDamaged
	}
	nested := &Bucket{db: b.db, root: le.Uint64(value)}
	if nested.root == 0 {
		nested.inline = value[bucketSize:]
	}
	return visit(key, nil, nested)
}

// errFound ends a listing early.
var errFound = errors.New("found")

// Bucket returns a bucket by the names that lead to it. A missing one is an
// fs.ErrNotExist.
func (b Bucket) Bucket(names ...string) (Bucket, error) {
	for _, name := range names {
		var found *Bucket
		err := b.Each(func(key, _ []byte, nested *Bucket) error {
			if nested != nil && string(key) == name {
				found = nested
				return errFound
			}
			return nil
		})
		if err != nil && !errors.Is(err, errFound) {
			return Bucket{}, err
		}
		if found == nil {
			return Bucket{}, fmt.Errorf("bucket %q: %w", name, fs.ErrNotExist)
		}
		b = *found
	}
	return b, nil
}

// Values returns the keys of a bucket that have values.
func (b Bucket) Values() (map[string][]byte, error) {
	out := map[string][]byte{}
	err := b.Each(func(key, value []byte, nested *Bucket) error {
		if nested == nil {
			out[string(key)] = value
		}
		return nil
	})
	return out, err
}
