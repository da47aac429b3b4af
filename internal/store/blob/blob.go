// Package blob keeps content by its digest: the folder blobs/sha256 of an OCI
// image layout.
//
// What comes in is content, or a stream with the digest that it has to have;
// what goes out is the same content, checked. A blob gets its name when it is
// whole, and names are nothing but digests, so any number of processes write the
// same folder without a lock. What a killed process leaves lies in a folder of
// its own, which Sweep empties. Memory is that of one buffer a call.
package blob

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/opencontainers/go-digest"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"

	"nodesmith.dev/nodesmith/internal/fault"
)

// ErrDamaged is in the chain of every error that says that a blob is missing, or
// not what its name says.
var ErrDamaged = errors.New("the blob is damaged")

// Folder holds blobs.
type Folder struct {
	blobs   string
	arrival string // what is not whole yet
}

// Open makes the folders below root, if they are not there, and returns them.
func Open(root string) (*Folder, error) {
	f := &Folder{blobs: filepath.Join(root, "blobs", "sha256"), arrival: filepath.Join(root, "arrival")}
	for _, dir := range []string{f.blobs, f.arrival} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return nil, fault.NoSpaceOr(fmt.Errorf("store: %w", err))
		}
	}
	return f, nil
}

// Arrival is the folder of what is not whole yet, for the layout's other files.
func (f *Folder) Arrival() string { return f.arrival }

// path returns where the blob lies. Anything but a SHA-256 digest is an error,
// so no name leads out of the folder.
func (f *Folder) path(d digest.Digest) (string, error) {
	if err := d.Validate(); err != nil || d.Algorithm() != digest.SHA256 {
		return "", fmt.Errorf("%q is not a SHA-256 digest: %w", d, ErrDamaged)
	}
	return filepath.Join(f.blobs, d.Encoded()), nil
}

// Has reports whether the blob is there with the size that is told of it.
func (f *Folder) Has(blob ocispecs.Descriptor) bool {
	path, err := f.path(blob.Digest)
	if err != nil {
		return false
	}
	info, err := os.Lstat(path)
	return err == nil && info.Mode().IsRegular() && info.Size() == blob.Size
}

// Open opens a blob, unchecked.
func (f *Folder) Open(d digest.Digest) (*os.File, error) {
	path, err := f.path(d)
	if err != nil {
		return nil, err
	}
	file, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("blob %s is not in the store: %w", d, ErrDamaged)
	}
	return file, err
}

// ReadRaw appends the blob, whose size must be the one told of it, to dst,
// unchecked: for content that has a digest of its own.
func (f *Folder) ReadRaw(dst []byte, blob ocispecs.Descriptor) (_ []byte, err error) {
	file, err := f.Open(blob.Digest)
	if err != nil {
		return nil, err
	}
	defer func() { _ = file.Close() }() // only read
	info, err := file.Stat()
	if err != nil {
		return nil, err
	}
	if info.Size() != blob.Size {
		return nil, fmt.Errorf("blob %s has %d bytes, not %d: %w", blob.Digest, info.Size(), blob.Size, ErrDamaged)
	}
	begin := len(dst)
	dst = append(dst, make([]byte, blob.Size)...)
	if _, err := io.ReadFull(file, dst[begin:]); err != nil {
		return nil, fmt.Errorf("blob %s: %w", blob.Digest, err)
	}
	return dst, nil
}

// Read returns a document of at most limit bytes, checked.
func (f *Folder) Read(blob ocispecs.Descriptor, limit int64) ([]byte, error) {
	if blob.Size < 0 || blob.Size > limit {
		return nil, fmt.Errorf("blob %s is said to have %d bytes, more than the %d that are read: %w", blob.Digest, blob.Size, limit, ErrDamaged)
	}
	data, err := f.ReadRaw(nil, blob)
	if err == nil && digest.FromBytes(data) != blob.Digest {
		err = fmt.Errorf("blob %s has other content than its name says: %w", blob.Digest, ErrDamaged)
	}
	if errors.Is(err, ErrDamaged) {
		f.Discard(blob)
	}
	return data, err
}

// Write keeps data and returns its digest.
func (f *Folder) Write(data []byte) (digest.Digest, error) {
	blob := ocispecs.Descriptor{Digest: digest.FromBytes(data), Size: int64(len(data))}
	if f.Has(blob) {
		return blob.Digest, nil
	}
	return blob.Digest, f.create(blob, func(file *os.File) error {
		_, err := file.Write(data)
		return err
	})
}

// Receive keeps what r gives if that is the blob, and nothing otherwise.
func (f *Folder) Receive(ctx context.Context, blob ocispecs.Descriptor, r io.Reader) error {
	return f.create(blob, func(file *os.File) error {
		sum := sha256.New()
		content := readerFunc(func(p []byte) (int, error) {
			if err := ctx.Err(); err != nil {
				return 0, err
			}
			return r.Read(p)
		})
		n, err := io.Copy(io.MultiWriter(file, sum), io.LimitReader(content, blob.Size+1))
		if err != nil {
			return err
		}
		if got := digest.NewDigestFromEncoded(digest.SHA256, hex.EncodeToString(sum.Sum(nil))); n != blob.Size || got != blob.Digest {
			return fmt.Errorf("%d bytes of digest %s came instead of %d: %w", n, got, blob.Size, ErrDamaged)
		}
		return nil
	})
}

type readerFunc func(p []byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

// create writes a file and gives it the blob's name. It is not synced: Sync does
// that for all of them, before anything names them.
func (f *Folder) create(blob ocispecs.Descriptor, write func(*os.File) error) (err error) {
	path, err := f.path(blob.Digest)
	if err != nil {
		return err
	}
	file, err := os.CreateTemp(f.arrival, "blob-*")
	if err != nil {
		return fault.NoSpaceOr(fmt.Errorf("blob %s: %w", blob.Digest, err))
	}
	defer func() {
		if err != nil {
			_ = os.Remove(file.Name()) // Sweep removes it else
		}
	}()
	err = errors.Join(write(file), file.Chmod(0o644), file.Close())
	if err == nil {
		err = os.Rename(file.Name(), path)
	}
	if err != nil {
		return fault.NoSpaceOr(fmt.Errorf("blob %s: %w", blob.Digest, err))
	}
	return nil
}

// Discard removes a blob that is not what its name says, so that whoever has the
// content writes it anew; it reports whether it was so. A blob that is in order,
// or can't be read, stays.
func (f *Folder) Discard(blob ocispecs.Descriptor) bool {
	file, err := f.Open(blob.Digest)
	if err != nil {
		return false
	}
	defer func() { _ = file.Close() }() // only read
	sum, err := digest.SHA256.FromReader(file)
	if err != nil || sum == blob.Digest {
		return false
	}
	path, err := f.path(blob.Digest)
	return err == nil && os.Remove(path) == nil
}

// Info is a blob as it lies there.
type Info struct {
	Digest   digest.Digest
	Size     int64
	Modified time.Time
}

// All calls visit for every blob.
func (f *Folder) All(visit func(Info) error) error {
	dir, err := os.Open(f.blobs)
	if err != nil {
		return fmt.Errorf("store: %w", err)
	}
	defer func() { _ = dir.Close() }() // only read
	for {
		entries, err := dir.ReadDir(1024)
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return fmt.Errorf("store: %w", err)
		}
		for _, e := range entries {
			d := digest.NewDigestFromEncoded(digest.SHA256, e.Name())
			info, err := e.Info()
			if err != nil || d.Validate() != nil || !info.Mode().IsRegular() {
				continue // gone meanwhile, or not ours
			}
			if err := visit(Info{d, info.Size(), info.ModTime()}); err != nil {
				return err
			}
		}
	}
}

// Remove removes a blob.
func (f *Folder) Remove(d digest.Digest) error {
	path, err := f.path(d)
	if err != nil {
		return err
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("store: %w", err)
	}
	return nil
}

// Sweep removes what processes that are gone did not finish; the caller knows
// that no process writes now.
func (f *Folder) Sweep() (files int, bytes int64, err error) {
	entries, err := os.ReadDir(f.arrival)
	if err != nil {
		return 0, 0, fmt.Errorf("store: %w", err)
	}
	for _, e := range entries {
		info, err := e.Info()
		if err != nil {
			continue
		}
		if err := os.RemoveAll(filepath.Join(f.arrival, e.Name())); err != nil {
			return files, bytes, fmt.Errorf("store: %w", err)
		}
		files, bytes = files+1, bytes+info.Size()
	}
	return files, bytes, nil
}

// Sync returns when everything that was written before is on the disk.
func (f *Folder) Sync() error {
	if err := syncFileSystem(f.blobs); err != nil {
		return fault.NoSpaceOr(fmt.Errorf("store: %w", err))
	}
	return nil
}
