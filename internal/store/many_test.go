package store_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"

	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"

	"nodesmith.dev/nodesmith/internal/store"
)

// many fills a store with count images: ten that were built, listed under count/10
// names each. A build takes its turn on the disk, and listing reads no blob.
func many(t testing.TB, count int) *store.Store {
	t.Helper()
	s := newStore(t)
	for n := range 10 {
		build(t, s, "node", fmt.Sprintf("tag-%d", n), one(uint64(n)))
	}
	path := filepath.Join(s.Dir(), ocispecs.ImageIndexFile)
	data, err := os.ReadFile(path)
	var built, index ocispecs.Index
	if err == nil {
		err = json.Unmarshal(data, &built)
	}
	for n := range count / 10 {
		for _, d := range built.Manifests {
			d.Annotations = maps.Clone(d.Annotations)
			for key, value := range d.Annotations {
				if name, tag, _ := strings.Cut(value, ":"); name == "node" {
					d.Annotations[key] = strings.TrimSuffix(fmt.Sprintf("node-%d:%s", n, tag), ":")
				}
			}
			index.Manifests = append(index.Manifests, d)
		}
	}
	if err == nil {
		data, err = json.Marshal(index)
	}
	if err == nil {
		err = os.WriteFile(path, data, 0o644)
	}
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestAThousandImagesAreListed(t *testing.T) {
	s := many(t, 1000)
	images, err := s.Images()
	if err != nil || len(images) != 1000 {
		t.Fatalf("%d images, %v", len(images), err)
	}
	for i := 1; i < len(images); i++ {
		if images[i].Stored.After(images[i-1].Stored) {
			t.Fatalf("image %d was stored after the one before it", i)
		}
	}
}

func BenchmarkImages(b *testing.B) {
	s := many(b, 1000)
	for b.Loop() {
		if images, err := s.Images(); err != nil || len(images) != 1000 {
			b.Fatal(len(images), err)
		}
	}
}

// endless is an index that no memory holds.
const endless = "an index without end"

func TestAHostileLayoutIsRefused(t *testing.T) {
	for name, damage := range map[string]func(t *testing.T, s *store.Store, index *ocispecs.Index) (raw []byte){
		"an index that is cut short": func(t *testing.T, _ *store.Store, index *ocispecs.Index) []byte {
			whole, err := json.Marshal(index)
			if err != nil {
				t.Fatal(err)
			}
			return whole[:len(whole)/2]
		},
		"an index of another kind": func(*testing.T, *store.Store, *ocispecs.Index) []byte { return []byte(`["manifests"]`) },
		endless:                    func(*testing.T, *store.Store, *ocispecs.Index) []byte { return []byte("{") },
		"a digest of other content": func(t *testing.T, s *store.Store, index *ocispecs.Index) []byte {
			path := filepath.Join(s.Dir(), "blobs", "sha256", index.Manifests[0].Digest.Encoded())
			data, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			data[len(data)/2] ^= 1
			if err := os.WriteFile(path, data, 0o644); err != nil {
				t.Fatal(err)
			}
			return nil
		},
		"a digest that leads out of the folder": func(_ *testing.T, _ *store.Store, index *ocispecs.Index) []byte {
			for i := range index.Manifests {
				index.Manifests[i].Digest = "sha256:../../../../../../etc/passwd"
			}
			return nil
		},
		"a digest that is an absolute path": func(_ *testing.T, _ *store.Store, index *ocispecs.Index) []byte {
			for i := range index.Manifests {
				index.Manifests[i].Digest = "/etc/passwd"
			}
			return nil
		},
		"another algorithm": func(_ *testing.T, _ *store.Store, index *ocispecs.Index) []byte {
			for i := range index.Manifests {
				index.Manifests[i].Digest = "md5:d41d8cd98f00b204e9800998ecf8427e"
			}
			return nil
		},
		"a size that no memory holds": func(_ *testing.T, _ *store.Store, index *ocispecs.Index) []byte {
			for i := range index.Manifests {
				index.Manifests[i].Size = 1 << 62
			}
			return nil
		},
		"a size below nothing": func(_ *testing.T, _ *store.Store, index *ocispecs.Index) []byte {
			for i := range index.Manifests {
				index.Manifests[i].Size = -1
			}
			return nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStore(t)
			build(t, s, "node", "one", one(1))
			path := filepath.Join(s.Dir(), ocispecs.ImageIndexFile)
			var index ocispecs.Index
			data, err := os.ReadFile(path)
			if err == nil {
				err = json.Unmarshal(data, &index)
			}
			if err != nil {
				t.Fatal(err)
			}
			raw := damage(t, s, &index)
			if raw == nil {
				if raw, err = json.Marshal(index); err != nil {
					t.Fatal(err)
				}
			}
			if err := os.WriteFile(path, raw, 0o644); err != nil {
				t.Fatal(err)
			}
			if name == endless {
				if err := os.Truncate(path, 1<<40); err != nil { // a hole
					t.Fatal(err)
				}
			}
			image, err := find(t, s, "node:one")
			if err == nil {
				_, err = s.Disk(t.Context(), image, "qemu")
			}
			if err == nil {
				t.Error("it was read")
			}
			// Nothing that is done with such a store may panic, or reach outside of it.
			_, _ = s.KeepNewest(t.Context(), 1, false)
			_, _ = s.Unused(t.Context())
			_, _, _ = s.Collect(t.Context())
		})
	}
}
