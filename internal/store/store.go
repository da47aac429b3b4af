// Package store keeps images in an OCI image layout.
//
// What comes in are disks (as internal/format's blocks), documents and reports;
// what goes out are images that are found by NAME:TAG, and disks that open as
// internal/format's sources. An image is an OCI index: one manifest for each
// infrastructure and architecture, the lock, the spec, and what went into each
// disk. Reports of verify refer to a disk's manifest and come and go without it.
// The same image has the same digest, whenever and wherever it was stored.
//
// Any number of processes may use a store. index.json, the only file that
// changes, is replaced whole under a lock; blobs are named by their digest. Who
// reads or writes blobs holds a Session, and only while nobody does are blobs
// removed, so what a killed process leaves is never named, and is removed by the
// next Collect. Memory is bounded by a disk's table of chunks.
package store

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/gofrs/flock"
	specs "github.com/opencontainers/image-spec/specs-go"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"

	"nodesmith.dev/nodesmith/internal/atomicfile"
	"nodesmith.dev/nodesmith/internal/fault"
	"nodesmith.dev/nodesmith/internal/store/blob"
)

// Store is a folder of images. Its methods are safe for several goroutines.
type Store struct {
	dir   string
	blobs *blob.Folder
}

// Open opens the store in dir, and makes it if there is none.
func Open(dir string) (*Store, error) {
	blobs, err := blob.Open(dir)
	if err != nil {
		return nil, err
	}
	s := &Store{dir: dir, blobs: blobs}
	layout, err := json.Marshal(ocispecs.ImageLayout{Version: ocispecs.ImageLayoutVersion})
	if err != nil {
		return nil, err
	}
	path := filepath.Join(dir, ocispecs.ImageLayoutFile)
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		if err := atomicfile.WriteFile(path, blobs.Arrival(), layout, 0o644); err != nil {
			return nil, fault.NoSpaceOr(fmt.Errorf("store: %w", err))
		}
	}
	return s, nil
}

// Dir is the store's folder.
func (s *Store) Dir() string { return s.dir }

// retry is how often a lock that another process holds is asked for.
const retry = 20 * time.Millisecond

// Session keeps blobs from being removed. Close ends it.
type Session struct {
	store *Store
	lock  *flock.Flock
}

// Begin begins a session; it waits while another process removes blobs.
func (s *Store) Begin(ctx context.Context) (*Session, error) {
	lock := flock.New(filepath.Join(s.dir, "use.lock"), flock.SetPermissions(0o644))
	if _, err := lock.TryRLockContext(ctx, retry); err != nil {
		return nil, fmt.Errorf("store %s: lock: %w", s.dir, err)
	}
	return &Session{s, lock}, nil
}

// Close ends the session.
func (x *Session) Close() error { return x.lock.Close() }

// exclusively runs do while no process has a session; it reports whether it ran.
func (s *Store) exclusively(do func() error) (bool, error) {
	lock := flock.New(filepath.Join(s.dir, "use.lock"), flock.SetPermissions(0o644))
	ok, err := lock.TryLock()
	if err != nil || !ok {
		return false, errors.Join(err, lock.Close())
	}
	return true, errors.Join(do(), lock.Close())
}

// index reads index.json; a store without one is empty.
func (s *Store) index() (ocispecs.Index, error) {
	index := ocispecs.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispecs.MediaTypeImageIndex}
	path := filepath.Join(s.dir, ocispecs.ImageIndexFile)
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return index, nil
	}
	var data []byte
	if err == nil && info.Size() > maxIndex {
		err = fmt.Errorf("it has %d bytes", info.Size())
	}
	if err == nil {
		data, err = os.ReadFile(path)
	}
	if err == nil {
		err = json.Unmarshal(data, &index)
	}
	if err != nil {
		return index, fault.New(fault.Unverifiable, "remove or repair it; the images can be built or pulled again", "store: %s: %w", path, err)
	}
	return index, nil
}

// update changes index.json: change gets what it lists and returns what it shall
// list. It is not written if that is the same. Who made blobs that it names syncs
// them before.
func (s *Store) update(ctx context.Context, change func([]ocispecs.Descriptor) ([]ocispecs.Descriptor, error)) error {
	return s.locked(ctx, func() error { return s.rewrite(change) })
}

// locked runs do while no other process changes index.json.
func (s *Store) locked(ctx context.Context, do func() error) error {
	lock := flock.New(filepath.Join(s.dir, "index.lock"), flock.SetPermissions(0o644))
	if _, err := lock.TryLockContext(ctx, retry); err != nil {
		return fmt.Errorf("store %s: lock: %w", s.dir, err)
	}
	return errors.Join(do(), lock.Close())
}

func (s *Store) rewrite(change func([]ocispecs.Descriptor) ([]ocispecs.Descriptor, error)) error {
	index, err := s.index()
	if err != nil {
		return err
	}
	before, err := json.Marshal(index)
	if err != nil {
		return err
	}
	if index.Manifests, err = change(index.Manifests); err != nil {
		return err
	}
	after, err := json.Marshal(index)
	if err != nil || string(before) == string(after) {
		return err
	}
	path := filepath.Join(s.dir, ocispecs.ImageIndexFile)
	if err := atomicfile.WriteFile(path, s.blobs.Arrival(), after, 0o644); err != nil {
		return fault.NoSpaceOr(fmt.Errorf("store: %w", err))
	}
	return nil
}

// writeJSON keeps a document and describes it.
func (s *Store) writeJSON(mediaType string, v any) (ocispecs.Descriptor, error) {
	data, err := json.Marshal(v)
	if err != nil {
		return ocispecs.Descriptor{}, fmt.Errorf("store: %w", err)
	}
	return s.write(mediaType, data)
}

func (s *Store) write(mediaType string, data []byte) (ocispecs.Descriptor, error) {
	digest, err := s.blobs.Write(data)
	return ocispecs.Descriptor{MediaType: mediaType, Digest: digest, Size: int64(len(data))}, err
}

// readJSON reads a document of at most limit bytes.
func (s *Store) readJSON(blob ocispecs.Descriptor, limit int64, v any) error {
	data, err := s.blobs.Read(blob, limit)
	if err != nil {
		return damaged(err)
	}
	if err := json.Unmarshal(data, v); err != nil {
		return fmt.Errorf("store: %s %s: %w", blob.MediaType, blob.Digest, err)
	}
	return nil
}

// damaged says what to do about a blob that is not what it should be.
func damaged(err error) error {
	if errors.Is(err, blob.ErrDamaged) {
		return fault.New(fault.Unverifiable, "build or pull the image again: what is missing is made anew", "store: %w", err)
	}
	return err
}
