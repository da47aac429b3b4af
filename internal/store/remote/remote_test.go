package remote_test

import (
	"encoding/json"
	"fmt"
	"io"
	"log"
	"maps"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/registry"

	"nodesmith.dev/nodesmith/internal/fault"
	"nodesmith.dev/nodesmith/internal/format"
	"nodesmith.dev/nodesmith/internal/format/formattest"
	"nodesmith.dev/nodesmith/internal/format/known"
	"nodesmith.dev/nodesmith/internal/proof"
	"nodesmith.dev/nodesmith/internal/store"
	"nodesmith.dev/nodesmith/internal/store/remote"
	"nodesmith.dev/nodesmith/internal/testenv"
)

const mib = 1 << 20

var now = time.Date(2026, 11, 26, 1, 2, 3, 0, time.UTC)

func newStore(t testing.TB) *store.Store {
	t.Helper()
	s, err := store.Open(filepath.Join(t.TempDir(), "store"))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// build puts an image with those disks into a store.
func build(t testing.TB, s *store.Store, tag string, disks map[string]format.Source) store.Image {
	t.Helper()
	session, err := s.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = session.Close() }()
	b := store.Build{Name: "node", Tag: tag, Lock: []byte("lock\n"), Spec: []byte("spec\n"), Stored: now}
	for _, infrastructure := range slices.Sorted(maps.Keys(disks)) {
		w, err := session.Writer(t.Context(), disks[infrastructure].Size(), nil)
		if err != nil {
			t.Fatal(err)
		}
		defer w.Close()
		if _, err := (format.Converter{}).Convert(t.Context(), disks[infrastructure], []format.Target{{Sink: w}}); err != nil {
			t.Fatal(err)
		}
		b.Disks = append(b.Disks, store.NewDisk{
			About: store.About{Image: "node", Infrastructure: infrastructure, Architecture: "amd64", Distro: "debian", DistroVersion: "12", Kubernetes: "v1.34.0", Built: now},
			Table: w.Table(), Contents: []byte("{}"),
		})
	}
	image, err := session.Commit(t.Context(), b)
	if err != nil {
		t.Fatal(err)
	}
	return image
}

func disk(seed uint64) *formattest.Disk {
	d := formattest.NewDisk(16 * mib)
	d.Random(rand.New(rand.NewPCG(1, 1)), 0, 4*mib)
	d.Random(rand.New(rand.NewPCG(seed, 2)), 9*mib, 300)
	return d
}

func disks(seed uint64) map[string]format.Source {
	return map[string]format.Source{"qemu": disk(seed), "vsphere": disk(seed + 1000)}
}

// counted is a server that counts requests and bytes of blobs.
type counted struct {
	next http.Handler

	mu       sync.Mutex
	requests map[string]int // method and kind
	received int64
	sent     int64
	refuse   func(r *http.Request) bool
}

func (c *counted) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c.mu.Lock()
	refused := c.refuse != nil && c.refuse(r)
	kind := "manifests"
	if strings.Contains(r.URL.Path, "/blobs/") {
		kind = "blobs"
		c.received += max(r.ContentLength, 0)
	}
	c.requests[r.Method+" "+kind]++
	c.mu.Unlock()
	if refused {
		http.Error(w, "refused", http.StatusInternalServerError)
		return
	}
	c.next.ServeHTTP(&countedWriter{w, c, kind == "blobs" && r.Method == http.MethodGet}, r)
}

type countedWriter struct {
	http.ResponseWriter
	of    *counted
	count bool
}

func (w *countedWriter) Write(p []byte) (int, error) {
	if w.count {
		w.of.mu.Lock()
		w.of.sent += int64(len(p))
		w.of.mu.Unlock()
	}
	return w.ResponseWriter.Write(p)
}

func (c *counted) reset() { c.requests, c.received, c.sent = map[string]int{}, 0, 0 }

// registries are servers of others: go-containerregistry's with and without the
// referrers API, and CNCF Distribution, a process of its own.
var registries = map[string]func(t *testing.T) http.Handler{
	"go-containerregistry": func(*testing.T) http.Handler {
		return registry.New(registry.Logger(log.New(io.Discard, "", 0)), registry.WithReferrersSupport(true))
	},
	"go-containerregistry without referrers": func(*testing.T) http.Handler {
		return registry.New(registry.Logger(log.New(io.Discard, "", 0)))
	},
	"distribution": distribution,
}

func each(t *testing.T, test func(t *testing.T, server *counted, address string)) {
	for _, name := range slices.Sorted(maps.Keys(registries)) {
		t.Run(name, func(t *testing.T) {
			server := &counted{next: registries[name](t), requests: map[string]int{}}
			listening := httptest.NewServer(server)
			t.Cleanup(listening.Close)
			test(t, server, strings.TrimPrefix(listening.URL, "http://")+"/team")
		})
	}
}

// distribution starts CNCF Distribution on a folder, and returns a handler that
// passes requests on to it.
func distribution(t *testing.T) http.Handler {
	cache, err := os.UserCacheDir()
	if err != nil {
		t.Fatal(err)
	}
	program := filepath.Join(cache, "nodesmith-test", "distribution-v3.1.1", "registry")
	if _, err := os.Stat(program); err != nil {
		testenv.Lacks(t, program)
	}
	dir := t.TempDir()
	config := fmt.Sprintf("version: 0.1\nlog: {level: error}\nstorage: {filesystem: {rootdirectory: %q}, delete: {enabled: true}}\nhttp: {addr: %q, net: unix}\n",
		filepath.Join(dir, "data"), filepath.Join(dir, "s"))
	path := filepath.Join(dir, "config.yml")
	if err := os.WriteFile(path, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	server := exec.Command(program, "serve", path)
	server.Stderr = os.Stderr
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = server.Process.Kill()
		_ = server.Wait()
	})
	return proxyTo(t, filepath.Join(dir, "s"))
}

func TestAnImageArrivesWithItsReports(t *testing.T) {
	each(t, func(t *testing.T, _ *counted, address string) {
		from, to := newStore(t), newStore(t)
		image := build(t, from, "t1", disks(1))
		qemu, err := from.Disk(t.Context(), image, "qemu")
		if err != nil {
			t.Fatal(err)
		}
		for level, firmware := range map[proof.Level][]string{proof.Contract: nil, proof.Boot: {"bios", "uefi-secure"}} {
			if err := from.Attach(t.Context(), qemu, proof.Result{Level: level, Passed: true, Firmware: firmware, At: now}, []byte(level.String())); err != nil {
				t.Fatal(err)
			}
		}
		options := remote.Options{Registry: address}
		if _, err := remote.Push(t.Context(), from, image, image.Tags, options); err != nil {
			t.Fatal(err)
		}
		pulled, sum, err := remote.Pull(t.Context(), to, store.Reference{Name: "node", Tag: store.Latest}, now, options)
		if err != nil {
			t.Fatal(err)
		}
		if pulled.Digest != image.Digest || !slices.Equal(pulled.Tags, []string{"t1", "latest"}) || sum.Sent.Blobs == 0 {
			t.Errorf("pulled %+v, %+v", pulled, sum)
		}
		want := proof.Proof{Level: proof.Boot, SecureBoot: true}
		if found, err := to.Find(t.Context(), store.Reference{Name: "node", Tag: "t1"}); err != nil || found.Proven["qemu"] != want {
			t.Errorf("proven %+v (%v)", found.Proven, err)
		}
		for infrastructure, want := range disks(1) {
			d, err := to.Disk(t.Context(), pulled, infrastructure)
			if err != nil {
				t.Fatal(err)
			}
			content, err := d.Open(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			formattest.Equal(t, content, want.(*formattest.Disk))
			_ = content.Close()
			reports, err := to.Reports(t.Context(), d)
			if err != nil || infrastructure == "qemu" && len(reports) != 2 {
				t.Errorf("%d reports on %s (%v)", len(reports), infrastructure, err)
			}
		}
		byDigest, _, err := remote.Pull(t.Context(), newStore(t), store.Reference{Name: "node", Digest: image.Digest.String()}, now, options)
		if err != nil || byDigest.Digest != image.Digest {
			t.Errorf("by digest: %+v, %v", byDigest, err)
		}
	})
}

func TestOnlyWhatIsMissingIsCopied(t *testing.T) {
	each(t, func(t *testing.T, server *counted, address string) {
		from, to := newStore(t), newStore(t)
		options := remote.Options{Registry: address}
		push := func(image store.Image) remote.Summary {
			t.Helper()
			server.reset()
			sum, err := remote.Push(t.Context(), from, image, image.Tags, options)
			if err != nil {
				t.Fatal(err)
			}
			return sum
		}
		pull := func() remote.Summary {
			t.Helper()
			server.reset()
			_, sum, err := remote.Pull(t.Context(), to, store.Reference{Name: "node", Tag: store.Latest}, now, options)
			if err != nil {
				t.Fatal(err)
			}
			return sum
		}
		first := build(t, from, "t1", disks(1))
		push(first)
		pull()
		// Once more: nothing.
		if sum := push(first); sum.Sent.Blobs != 0 || server.received != 0 {
			t.Errorf("pushed again: %+v, %d bytes arrived", sum, server.received)
		}
		if sum := pull(); sum.Sent.Blobs > 1 || server.sent != 0 { // the manifest that the tag names
			t.Errorf("pulled again: %+v, %d bytes left", sum, server.sent)
		}
		// One chunk of each disk differs: two chunks, two configurations.
		second := build(t, from, "t2", disks(2))
		if sum := push(second); sum.Sent.Blobs != 4 || server.received > 20_000 || server.requests["HEAD blobs"] > 8 {
			t.Errorf("pushed the second: %+v, %d bytes arrived, %v", sum, server.received, server.requests)
		}
		if sum := pull(); server.requests["GET blobs"] != 4 || server.sent > 20_000 {
			t.Errorf("pulled the second: %+v, %d bytes left, %v", sum, server.sent, server.requests)
		}
	})
}

func TestAPullGoesOnWhereItStopped(t *testing.T) {
	server := &counted{next: registry.New(registry.Logger(log.New(io.Discard, "", 0))), requests: map[string]int{}}
	listening := httptest.NewServer(server)
	defer listening.Close()
	options := remote.Options{Registry: strings.TrimPrefix(listening.URL, "http://"), Jobs: 1}
	from, to := newStore(t), newStore(t)
	image := build(t, from, "t1", disks(1))
	if _, err := remote.Push(t.Context(), from, image, image.Tags, options); err != nil {
		t.Fatal(err)
	}
	allowed := 6
	server.refuse = func(r *http.Request) bool {
		if r.Method == http.MethodGet && strings.Contains(r.URL.Path, "/blobs/") {
			allowed--
		}
		return allowed < 0
	}
	if _, _, err := remote.Pull(t.Context(), to, store.Reference{Name: "node", Tag: "t1"}, now, options); fault.KindOf(err) != fault.Network {
		t.Fatalf("%s: %v", fault.KindOf(err), err)
	}
	if images, err := to.Images(); err != nil || len(images) != 0 {
		t.Errorf("listed before it was whole: %v (%v)", images, err)
	}
	server.refuse = nil
	server.reset()
	_, sum, err := remote.Pull(t.Context(), to, store.Reference{Name: "node", Tag: "t1"}, now, options)
	if err != nil || sum.There.Blobs < 6 {
		t.Errorf("%+v, %v", sum, err)
	}
}

func TestABlobThatTheRegistryLostIsSentAgain(t *testing.T) {
	handler := registry.New(registry.Logger(log.New(io.Discard, "", 0)))
	first := httptest.NewServer(handler)
	defer first.Close()
	options := remote.Options{Registry: strings.TrimPrefix(first.URL, "http://")}
	s := newStore(t)
	one := build(t, s, "t1", disks(1))
	if _, err := remote.Push(t.Context(), s, one, one.Tags, options); err != nil {
		t.Fatal(err)
	}
	// A registry that has the manifests, but none of the blobs, and says so when the
	// next manifest names them.
	lost := true
	lossy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if lost && r.Method == http.MethodPut && strings.Contains(r.URL.Path, "/manifests/") {
			lost = false
			w.WriteHeader(http.StatusNotFound)
			_ = json.NewEncoder(w).Encode(map[string]any{"errors": []any{map[string]string{"code": "MANIFEST_BLOB_UNKNOWN", "message": "gone"}}})
			return
		}
		if r.Method == http.MethodHead && strings.Contains(r.URL.Path, "/blobs/") {
			w.WriteHeader(http.StatusNotFound)
			return
		}
		handler.ServeHTTP(w, r)
	}))
	defer lossy.Close()
	options.Registry = strings.TrimPrefix(lossy.URL, "http://")
	two := build(t, s, "t2", disks(2))
	sum, err := remote.Push(t.Context(), s, two, two.Tags, options)
	if err != nil || sum.There.Bytes > 10_000 { // but what the first try sent
		t.Errorf("%+v, %v", sum, err)
	}
}

func TestWhatIsNoNodeImageIsRefused(t *testing.T) {
	server := httptest.NewServer(registry.New(registry.Logger(log.New(io.Discard, "", 0))))
	defer server.Close()
	put := func(tag, mediaType, body string) {
		t.Helper()
		r, err := http.NewRequest(http.MethodPut, server.URL+"/v2/node/manifests/"+tag, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Content-Type", mediaType)
		answer, err := http.DefaultClient.Do(r)
		if err != nil || answer.StatusCode != http.StatusCreated {
			t.Fatal(answer.Status, err)
		}
		_ = answer.Body.Close()
	}
	const index, manifest = "application/vnd.oci.image.index.v1+json", "application/vnd.oci.image.manifest.v1+json"
	put("container", manifest, `{"schemaVersion":2,"mediaType":"`+manifest+`","config":{"mediaType":"x","size":2,"digest":"sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"},"layers":[]}`)
	put("index", index, `{"schemaVersion":2,"mediaType":"`+index+`","manifests":[]}`)
	put("empty", index, `{"schemaVersion":2,"mediaType":"`+index+`","artifactType":"`+store.ImageType+`","manifests":[]}`)
	s := newStore(t)
	for _, tag := range []string{"container", "index", "empty", "absent"} {
		_, _, err := remote.Pull(t.Context(), s, store.Reference{Name: "node", Tag: tag}, now, remote.Options{Registry: strings.TrimPrefix(server.URL, "http://")})
		if err == nil || fault.KindOf(err) == fault.Internal {
			t.Errorf("%s: %s: %v", tag, fault.KindOf(err), err)
		}
	}
	if images, err := s.Images(); err != nil || len(images) != 0 {
		t.Errorf("%v, %v", images, err)
	}
}

func TestVersionTwoTakesUnderFivePercentOfVersionOne(t *testing.T) {
	testenv.Need(t, "mke2fs")
	server := &counted{next: registry.New(registry.Logger(log.New(io.Discard, "", 0))), requests: map[string]int{}}
	listening := httptest.NewServer(server)
	defer listening.Close()
	options := remote.Options{Registry: strings.TrimPrefix(listening.URL, "http://")}
	from, to := newStore(t), newStore(t)
	tree := t.TempDir()
	r := rand.New(rand.NewPCG(1, 1))
	for i := range 600 { // like a node's: many files, some large
		content := make([]byte, 1000+r.IntN(200_000))
		for at := range content {
			content[at] = byte(r.Uint32())
		}
		if err := os.WriteFile(filepath.Join(tree, fmt.Sprintf("file-%03d", i)), content, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	pull := func(tag string) int64 {
		t.Helper()
		source := ext4(t, tree)
		image := build(t, from, tag, map[string]format.Source{"qemu": source})
		if _, err := remote.Push(t.Context(), from, image, image.Tags, options); err != nil {
			t.Fatal(err)
		}
		server.reset()
		if _, _, err := remote.Pull(t.Context(), to, store.Reference{Name: "node", Tag: tag}, now, options); err != nil {
			t.Fatal(err)
		}
		return server.sent
	}
	first := pull("v1")
	changed := filepath.Join(tree, "file-300")
	content, err := os.ReadFile(changed)
	if err != nil {
		t.Fatal(err)
	}
	copy(content, "changed") // mke2fs moves what is behind a file that grows
	if err := os.WriteFile(changed, content, 0o644); err != nil {
		t.Fatal(err)
	}
	second := pull("v2")
	t.Logf("version 1: %d bytes, version 2: %d bytes, %.2f%%", first, second, 100*float64(second)/float64(first))
	if second*20 >= first {
		t.Errorf("version 2 took %d bytes of %d", second, first)
	}
}

// ext4 makes a file system of a tree.
func ext4(t *testing.T, tree string) format.Source {
	t.Helper()
	path := filepath.Join(t.TempDir(), "disk.raw")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(path, 256*mib); err != nil {
		t.Fatal(err)
	}
	make := exec.Command("mke2fs", "-q", "-t", "ext4", "-U", "11111111-2222-8333-8444-555555555555", "-E", "hash_seed=11111111-2222-8333-8444-666666666666", "-d", tree, path)
	make.Env = append(os.Environ(), "SOURCE_DATE_EPOCH=1750000000")
	if out, err := make.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	disk, err := known.OpenFile(path, "raw")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = disk.Close() })
	return disk
}
