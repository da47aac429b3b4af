package boltread

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	bolt "go.etcd.io/bbolt"
)

// write makes a database with bbolt: small and large buckets, nested and
// inline ones, values that overflow a page.
func write(t testing.TB, count int) []byte {
	t.Helper()
	name := filepath.Join(t.TempDir(), "db")
	db, err := bolt.Open(name, 0o600, &bolt.Options{NoSync: true})
	if err != nil {
		t.Fatal(err)
	}
	err = db.Update(func(tx *bolt.Tx) error {
		v1, err := tx.CreateBucket([]byte("v1"))
		if err != nil {
			return err
		}
		for i := range count {
			b, err := v1.CreateBucket([]byte(fmt.Sprintf("bucket-%05d", i)))
			if err != nil {
				return err
			}
			if err := b.Put([]byte("key"), []byte(fmt.Sprint(i))); err != nil {
				return err
			}
		}
		return v1.Put([]byte("large"), bytes.Repeat([]byte("x"), 20_000))
	})
	if closed := db.Close(); err != nil || closed != nil {
		t.Fatal(err, closed)
	}
	content, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return content
}

func TestBucketsAreReadAsBboltWroteThem(t *testing.T) {
	for _, count := range []int{0, 1, 3000} {
		t.Run(fmt.Sprint(count), func(t *testing.T) {
			db, err := Open(bytes.NewReader(write(t, count)))
			if err != nil {
				t.Fatal(err)
			}
			v1, err := db.Root().Bucket("v1")
			if err != nil {
				t.Fatal(err)
			}
			n := 0
			err = v1.Each(func(key, value []byte, nested *Bucket) error {
				if nested == nil {
					if string(key) != "large" || string(value) != strings.Repeat("x", 20_000) {
						t.Errorf("%s has %d bytes", key, len(value))
					}
					return nil
				}
				values, err := nested.Values()
				if err != nil || string(key) != fmt.Sprintf("bucket-%05d", n) || string(values["key"]) != fmt.Sprint(n) {
					t.Errorf("bucket %d is %s with %q, %v", n, key, values, err)
				}
				n++
				return nil
			})
			if err != nil || n != count {
				t.Errorf("%d buckets, %v", n, err)
			}
			if _, err := v1.Bucket("bucket-99999", "x"); !errors.Is(err, fs.ErrNotExist) {
				t.Error(err)
			}
		})
	}
}

func TestTheNewerMetaIsTaken(t *testing.T) {
	content := write(t, 1) // creating the file and the update leave different metas
	broken := bytes.Clone(content)
	for _, page := range []int{0, 1} {
		copy(broken, content)
		broken[page*os.Getpagesize()+20] ^= 1
		if _, err := Open(bytes.NewReader(broken)); err != nil {
			t.Errorf("with meta %d errDamaged: %v", page, err)
		}
	}
	broken[20] ^= 1
	if _, err := Open(bytes.NewReader(broken)); err == nil {
		t.Error("opened with both metas errDamaged")
	}
}

func FuzzDamagedDatabase(f *testing.F) {
	base := write(f, 300)
	f.Add(uint32(16384), []byte{0xFF})
	f.Add(uint32(8), []byte{0})
	f.Fuzz(func(_ *testing.T, at uint32, with []byte) {
		b := bytes.Clone(base)
		copy(b[int(at)%len(b):], with)
		db, err := Open(bytes.NewReader(b))
		if err != nil {
			return
		}
		budget := 20_000
		walk(db.Root(), 0, &budget)
	})
}

func walk(b Bucket, depth int, budget *int) {
	_ = b.Each(func(_, _ []byte, nested *Bucket) error {
		if *budget--; *budget < 0 || depth > 8 {
			return errDamaged
		}
		if nested != nil {
			walk(*nested, depth+1, budget)
		}
		return nil
	})
}
