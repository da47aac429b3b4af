//go:build linux

package containerimage

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	bolt "go.etcd.io/bbolt"
)

// seal brings the store into its final form and closes it: nothing that no
// image needs, databases of the least size whose bytes follow from the inputs
// alone, and no time but the epoch outside of the layers' own files.
func (st *store) seal(ctx context.Context, output string) error {
	// What is not labelled as needed goes now, as it would on the node.
	if _, err := st.db.GarbageCollect(ctx); err != nil {
		return errors.Join(fmt.Errorf("remove what no image needs: %w", err), st.close())
	}
	if err := st.close(); err != nil {
		return fmt.Errorf("close databases: %w", err)
	}
	for _, name := range []string{
		filepath.Join(st.root, metadataDir, "meta.db"),
		filepath.Join(st.root, snapshotsDir, "metadata.db"),
	} {
		if err := st.rewriteDatabase(name); err != nil {
			return fmt.Errorf("rewrite %s: %w", name, err)
		}
	}
	if err := st.setTimes(); err != nil {
		return err
	}
	for dir := filepath.Dir(st.root); len(dir) > len(filepath.Clean(output)); dir = filepath.Dir(dir) {
		if err := setTime(dir, st.epoch); err != nil {
			return err
		}
	}
	return nil
}

// setTimes gives the epoch to everything outside of the snapshots' fs
// directories, whose times the applier has settled.
func (st *store) setTimes() error {
	snapshots := filepath.Join(st.root, snapshotsDir, "snapshots")
	return filepath.WalkDir(st.root, func(name string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if err := setTime(name, st.epoch); err != nil {
			return err
		}
		if d.Name() == "fs" && filepath.Dir(filepath.Dir(name)) == snapshots {
			return filepath.SkipDir
		}
		return nil
	})
}

// rewriteDatabase copies a bbolt file without its free pages, with the values
// that value gives, and puts the copy in its place.
//
// bbolt lays out the buckets that one transaction changed in the order of a Go
// map. So each bucket of the copy is filled by a transaction of its own, parent
// before child and in the order of keys: then the order of pages is always the
// same.
func (st *store) rewriteDatabase(name string) error {
	info, err := os.Stat(name)
	if err != nil {
		return err
	}
	old, err := bolt.Open(name, info.Mode().Perm(), &bolt.Options{ReadOnly: true})
	if err != nil {
		return err
	}
	defer old.Close()
	fresh := name + ".new"
	dst, err := bolt.Open(fresh, info.Mode().Perm(), &bolt.Options{NoFreelistSync: true, NoSync: true, PageSize: old.Info().PageSize})
	if err != nil {
		return err
	}
	err = old.View(func(tx *bolt.Tx) error {
		return tx.ForEach(func(key []byte, b *bolt.Bucket) error {
			return st.copyBucket(dst, b, [][]byte{key})
		})
	})
	// bbolt doubles its file as it grows; past this point nothing was written.
	var size int64
	if err == nil {
		err = dst.View(func(tx *bolt.Tx) error { size = tx.Size(); return nil })
	}
	if err := errors.Join(err, dst.Close()); err != nil {
		return err
	}
	if err := os.Truncate(fresh, size); err != nil {
		return err
	}
	if err := os.Chmod(fresh, info.Mode().Perm()); err != nil {
		return err
	}
	return os.Rename(fresh, name)
}

// copyBucket copies the bucket at path, and then those in it.
func (st *store) copyBucket(dst *bolt.DB, src *bolt.Bucket, path [][]byte) error {
	usage, err := st.usage(src, path)
	if err != nil {
		return err
	}
	err = dst.Update(func(tx *bolt.Tx) error {
		b, err := tx.CreateBucketIfNotExists(path[0])
		for _, key := range path[1:] {
			if err != nil {
				return err
			}
			b, err = b.CreateBucketIfNotExists(key)
		}
		if err != nil {
			return err
		}
		b.FillPercent = 1
		if err := b.SetSequence(src.Sequence()); err != nil {
			return err
		}
		return src.ForEach(func(key, value []byte) error {
			if value == nil {
				return nil // a bucket
			}
			value, err := st.value(path, key, value, usage)
			if err != nil {
				return err
			}
			return b.Put(key, value)
		})
	})
	if err != nil {
		return fmt.Errorf("bucket %s: %w", bytes.Join(path, []byte("/")), err)
	}
	return src.ForEachBucket(func(key []byte) error {
		return st.copyBucket(dst, src.Bucket(key), append(path[:len(path):len(path)], key))
	})
}

// value returns what the copy has for a key: the epoch instead of the wall
// clock's time, and for a snapshot's disk usage what follows from its files
// instead of what this machine's file system allocated for them. The keys are
// those of containerd/core/metadata/buckets.go and
// containerd/core/snapshots/storage/bolt.go.
func (st *store) value(path [][]byte, key, value []byte, usage map[string]int64) ([]byte, error) {
	if string(path[len(path)-1]) == "labels" {
		return value, nil
	}
	switch string(key) {
	case "createdat", "updatedat":
		var t time.Time
		if err := t.UnmarshalBinary(value); err != nil {
			return nil, fmt.Errorf("%s is not a time: %w", key, err)
		}
		return st.epoch.MarshalBinary()
	}
	if n, ok := usage[string(key)]; ok {
		return binary.AppendVarint(nil, n), nil
	}
	return value, nil
}

// usage sums up the files of the snapshot that the bucket at path describes
// (v1/snapshots/NAME of the snapshotter's database), under the keys that it
// has for them; it returns nothing for another bucket.
func (st *store) usage(b *bolt.Bucket, path [][]byte) (map[string]int64, error) {
	if len(path) != 3 || string(path[1]) != "snapshots" || b.Get([]byte("inodes")) == nil {
		return nil, nil
	}
	id, n := binary.Uvarint(b.Get([]byte("id")))
	if n <= 0 {
		return nil, errors.New("a snapshot has no number")
	}
	var inodes, size int64
	seen := map[inode]bool{}
	dir := filepath.Join(st.root, snapshotsDir, "snapshots", strconv.FormatUint(id, 10), "fs")
	err := filepath.WalkDir(dir, func(name string, _ os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		var s unix.Stat_t
		if err := unix.Lstat(name, &s); err != nil {
			return &os.PathError{Op: "lstat", Path: name, Err: err}
		}
		if file := (inode{s.Dev, s.Ino}); !seen[file] {
			seen[file] = true
			inodes++
			size += blocks(s)
		}
		return nil
	})
	return map[string]int64{"inodes": inodes, "size": size}, err
}

// blocks is what ext4 with blocks of 4 KiB allocates for a file: symbolic links
// shorter than 60 bytes lie in the inode, and a directory takes a block at
// least.
func blocks(s unix.Stat_t) int64 {
	const block = 4096
	switch s.Mode & unix.S_IFMT {
	case unix.S_IFREG:
		return (s.Size + block - 1) / block * block
	case unix.S_IFDIR:
		return block
	case unix.S_IFLNK:
		if s.Size >= 60 {
			return block
		}
	}
	return 0
}
