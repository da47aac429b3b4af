package blockcache

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"
)

// block returns the i-th of many blocks.
func block(i int) Key {
	return Key{sha256.Sum256(binary.LittleEndian.AppendUint64(nil, uint64(i/8))), uint8(i % 8)}
}

// encoded is what the codec of these tests makes of it; of every tenth, nothing.
func encoded(i int) []byte {
	if i%10 == 0 {
		return nil
	}
	b := block(i)
	return bytes.Repeat(append(b.Chunk[:31], b.Block), 100)
}

// fill keeps the blocks from first to before last.
func fill(dir string, limit int64, first, last int) {
	c := Open(dir, limit)
	for i := first; i < last; i++ {
		c.Put("x-1.1", block(i), encoded(i))
	}
	c.Close()
}

// hits counts the blocks that a new cache has, and fails if one is wrong.
func hits(t *testing.T, dir string, count int) int {
	t.Helper()
	c := Open(dir, 1<<30)
	defer c.Close()
	n := 0
	for i := range count {
		got, ok := c.Get("x-1.1", block(i), []byte("before"))
		if ok != (len(got) > len("before") || i%10 == 0 && ok) || !bytes.HasPrefix(got, []byte("before")) {
			t.Fatalf("block %d: %d bytes, %v", i, len(got), ok)
		}
		if ok {
			n++
			if !bytes.Equal(got[len("before"):], encoded(i)) {
				t.Fatalf("block %d is another", i)
			}
		}
	}
	return n
}

func segments(t *testing.T, dir string) (paths []string, total int64) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err == nil && e.Type().IsRegular() {
			info, err := e.Info()
			if err != nil {
				return err
			}
			paths, total = append(paths, path), total+info.Size()
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return paths, total
}

func TestBlocksComeBackFromEarlierConversions(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "new", "blocks")
	if n := hits(t, dir, 10); n != 0 {
		t.Errorf("%d blocks in an empty cache", n)
	}
	fill(dir, 1<<30, 0, 500)
	fill(dir, 1<<30, 400, 1000)
	if n := hits(t, dir, 1200); n != 1000 {
		t.Errorf("%d blocks, want 1000", n)
	}
	c := Open(dir, 1<<30)
	defer c.Close()
	if _, ok := c.Get("x-1.2", block(1), nil); ok {
		t.Error("another codec has the block")
	}
}

func TestACacheWithoutNewBlocksLeavesNoFile(t *testing.T) {
	dir := t.TempDir()
	fill(dir, 1<<30, 0, 5)
	before, _ := segments(t, dir)
	hits(t, dir, 5)
	if after, _ := segments(t, dir); len(before) != 1 || len(after) != 1 {
		t.Errorf("files %v, then %v", before, after)
	}
}

func TestDamageCountsAsMissing(t *testing.T) {
	const count = 200
	for name, damage := range map[string]func(file []byte) []byte{
		"a flipped bit in a block":  func(f []byte) []byte { f[5000] ^= 4; return f },
		"a flipped bit in an index": func(f []byte) []byte { f[len(f)-300] ^= 4; return f },
		"a flipped bit in a footer": func(f []byte) []byte { f[len(f)-18] ^= 4; return f },
		"a block of zeros":          func(f []byte) []byte { clear(f[4096:8192]); return f },
		"cut":                       func(f []byte) []byte { return f[:len(f)/2] },
		"empty":                     func([]byte) []byte { return nil },
		"another file":              func([]byte) []byte { return bytes.Repeat([]byte("hello"), 1000) },
		"a footer that lies": func(f []byte) []byte {
			binary.LittleEndian.PutUint32(f[len(f)-20:], 1<<32-1)
			return f
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			fill(dir, 1<<30, 0, count)
			paths, _ := segments(t, dir)
			content, err := os.ReadFile(paths[0])
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(paths[0], damage(content), 0o600); err != nil {
				t.Fatal(err)
			}
			if n := hits(t, dir, count); n == count { // hits compares what it gets
				t.Error("nothing is missing")
			}
			fill(dir, 1<<30, 0, count) // as who misses them does
			if n := hits(t, dir, count); n != count {
				t.Errorf("%d blocks after they were made again, want %d", n, count)
			}
		})
	}
}

func TestTheFolderIsBoundedAndKeepsWhatIsUsed(t *testing.T) {
	dir := t.TempDir()
	const limit = 1 << 20
	for i := range 10 {
		fill(dir, limit, i*100, i*100+100) // 290 KB each
		time.Sleep(10 * time.Millisecond)  // file times are that fine
		c := Open(dir, limit)
		if _, ok := c.Get("x-1.1", block(1), nil); !ok {
			t.Fatalf("the first segment, in use, went after %d more", i)
		}
		c.Close()
	}
	if _, total := segments(t, dir); total > limit {
		t.Errorf("%d bytes, the limit is %d", total, limit)
	}
	fill(dir, limit, 2000, 4000) // more than fits
	if _, total := segments(t, dir); total > limit {
		t.Errorf("%d bytes after one large conversion, the limit is %d", total, limit)
	}
	for i := range maxSegments + 5 {
		fill(dir, 1<<30, 10000+i, 10001+i)
	}
	if paths, _ := segments(t, dir); len(paths) > maxSegments {
		t.Errorf("%d segments", len(paths))
	}
}

func TestManyProcessesShareAFolder(t *testing.T) {
	dir := t.TempDir()
	var all sync.WaitGroup
	for process := range 8 {
		all.Go(func() {
			for range 5 {
				c := Open(dir, 1<<20)
				for i := process * 50; i < process*50+100; i++ {
					if got, ok := c.Get("x-1.1", block(i), nil); !ok {
						c.Put("x-1.1", block(i), encoded(i))
					} else if !bytes.Equal(got, encoded(i)) {
						t.Errorf("block %d is another", i)
					}
				}
				c.Close()
			}
		})
	}
	all.Wait()
	hits(t, dir, 500)
	paths, _ := segments(t, dir)
	for _, path := range paths {
		if filepath.Ext(path) != suffix {
			t.Errorf("%s is left", path)
		}
	}
}

func TestAFolderThatCannotBeWrittenIsNoCache(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	fill(filepath.Join(file, "blocks"), 1<<30, 0, 10)
	if n := hits(t, filepath.Join(file, "blocks"), 10); n != 0 {
		t.Errorf("%d blocks", n)
	}
}

func TestWhatAKilledProcessLeftGoesAfterADay(t *testing.T) {
	dir := t.TempDir()
	old, young := filepath.Join(dir, unfinished+"1"), filepath.Join(dir, unfinished+"2")
	for _, path := range []string{old, young} {
		if err := os.WriteFile(path, []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	yesterday := time.Now().Add(-25 * time.Hour)
	if err := os.Chtimes(old, yesterday, yesterday); err != nil {
		t.Fatal(err)
	}
	fill(dir, 1<<30, 0, 3)
	if _, err := os.Stat(old); err == nil {
		t.Error("it is still there")
	}
	if _, err := os.Stat(young); err != nil {
		t.Error("one that may be in use is gone")
	}
}

func FuzzOpenSegment(f *testing.F) {
	dir := f.TempDir()
	fill(dir, 1<<20, 0, 5)
	var good []byte
	_ = filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err == nil && e.Type().IsRegular() {
			good, err = os.ReadFile(path)
		}
		return err
	})
	f.Add(good)
	f.Add([]byte(nil))
	path := filepath.Join(dir, "fuzzed")
	f.Fuzz(func(t *testing.T, content []byte) {
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
		s, err := openSegment(path)
		if err != nil {
			return
		}
		defer s.close()
		for i := range 5 {
			s.get(block(i), nil)
		}
		for _, e := range s.index {
			s.get(e.Key, nil)
		}
	})
}
