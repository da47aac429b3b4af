package fetch

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/klauspost/compress/gzip"

	"nodesmith.dev/nodesmith/internal/fault"
)

// content is what the publisher's file holds.
var content = bytes.Repeat([]byte("nodesmith "), 20_000)

// fileAt is that file under a publisher's URL.
func fileAt(url string) File {
	sum := sha256.Sum256(content)
	return File{URL: url + "/pool/x.deb", SHA256: hex.EncodeToString(sum[:]), Size: int64(len(content))}
}

// serve answers the nth request (from 1) with answers[n-1], later ones with the
// last of them, and counts them.
func serve(t *testing.T, answers ...http.HandlerFunc) (url string, requests *atomic.Int32) {
	t.Helper()
	requests = &atomic.Int32{}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n := int(requests.Add(1))
		answers[min(n, len(answers))-1](w, r)
	}))
	t.Cleanup(server.Close)
	return server.URL, requests
}

func whole(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(content) }

func status(code int) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "no", code) }
}

func altered(w http.ResponseWriter, _ *http.Request) {
	_, _ = w.Write(append([]byte("X"), content[1:]...))
}

// cut promises the whole file and closes the connection halfway.
func cut(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Length", fmt.Sprint(len(content)))
	_, _ = w.Write(content[:len(content)/2])
}

// short ends cleanly halfway.
func short(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(content[:len(content)/2]) }

// secret answers who knows the password.
func secret(w http.ResponseWriter, r *http.Request) {
	if user, password, _ := r.BasicAuth(); user != "me" || password != "hush" {
		http.Error(w, "no", http.StatusUnauthorized)
		return
	}
	whole(w, r)
}

// A mirror's address may have a password, which no message repeats.
func TestAMirrorMayAskForAPassword(t *testing.T) {
	const publisher = "http://publisher.invalid"
	url, _ := serve(t, secret)
	for password, works := range map[string]bool{"hush": true, "guessed": false} {
		mirror := strings.Replace(url, "http://", "http://me:"+password+"@", 1)
		_, err := New(t.TempDir(), map[string][]string{publisher: {mirror}}).Fetch(t.Context(), fileAt(publisher))
		if works != (err == nil) {
			t.Errorf("with the password %q: %v", password, err)
		}
		if err != nil && (strings.Contains(err.Error(), password) || !strings.Contains(err.Error(), "401")) {
			t.Errorf("the error is %v", err)
		}
	}
}

func long(w http.ResponseWriter, _ *http.Request) {
	_, _ = w.Write(content)
	_, _ = w.Write(content)
}

// files lists what lies in a cache's directory.
func files(t *testing.T, dir string) []string {
	t.Helper()
	var names []string
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			names = append(names, path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return names
}

func TestFetch(t *testing.T) {
	tests := map[string]struct {
		answers  []http.HandlerFunc
		requests int32
		kind     fault.Kind // of the failure
		fails    string     // what its message has
	}{
		"the file":                           {answers: []http.HandlerFunc{whole}, requests: 1},
		"a connection that breaks, then not": {answers: []http.HandlerFunc{cut, whole}, requests: 2},
		"half a file, then all of it":        {answers: []http.HandlerFunc{short, whole}, requests: 2},
		"503, then the file":                 {answers: []http.HandlerFunc{status(503), whole}, requests: 2},
		"429, then the file":                 {answers: []http.HandlerFunc{status(429), whole}, requests: 2},
		"408 twice, then the file":           {answers: []http.HandlerFunc{status(408), status(408), whole}, requests: 3},
		"404 is for good":                    {answers: []http.HandlerFunc{status(404), whole}, requests: 1, kind: fault.Network, fails: "404 Not Found"},
		"403 is for good":                    {answers: []http.HandlerFunc{status(403), whole}, requests: 1, kind: fault.Network, fails: "403 Forbidden"},
		"503 for ever":                       {answers: []http.HandlerFunc{status(503)}, requests: attempts, kind: fault.Network, fails: "503 Service Unavailable"},
		"a connection that always breaks":    {answers: []http.HandlerFunc{cut}, requests: attempts, kind: fault.Network, fails: "after 100000 of 200000 bytes"},
		"another file of that size":          {answers: []http.HandlerFunc{altered}, requests: attempts, kind: fault.Unverifiable, fails: "the lock says"},
		"a file that goes on":                {answers: []http.HandlerFunc{long}, requests: attempts, kind: fault.Unverifiable, fails: "(200001 bytes)"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			url, requests := serve(t, test.answers...)
			dir := t.TempDir()
			path, err := New(dir, nil).Fetch(t.Context(), fileAt(url))
			if got := requests.Load(); got != test.requests {
				t.Errorf("%d requests, want %d", got, test.requests)
			}
			if test.fails != "" {
				if err == nil || fault.KindOf(err) != test.kind || !strings.Contains(err.Error(), test.fails) {
					t.Errorf("%v error %v, want %v error with %q", fault.KindOf(err), err, test.kind, test.fails)
				}
				if left := files(t, dir); len(left) > 0 {
					t.Errorf("left in the cache: %q", left)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if got, err := os.ReadFile(path); err != nil || !bytes.Equal(got, content) {
				t.Errorf("%s differs from what was published (%v)", path, err)
			}
			if left := files(t, dir); len(left) != 1 || left[0] != path {
				t.Errorf("in the cache: %q, want only %s", left, path)
			}
		})
	}
}

func TestAFileOfUnknownSizeIsKnownByItsDigest(t *testing.T) {
	url, requests := serve(t, altered, altered, altered, short, whole)
	cache, file := New(t.TempDir(), nil), fileAt(url)
	file.Size = UnknownSize
	if _, err := cache.Fetch(t.Context(), file); fault.KindOf(err) != fault.Unverifiable || strings.Contains(err.Error(), "lock") {
		t.Errorf("of altered content: %v", err)
	}
	for range 2 {
		path, err := cache.Fetch(t.Context(), file)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := os.ReadFile(path); err != nil || !bytes.Equal(got, content) {
			t.Errorf("%s differs from what was published (%v)", path, err)
		}
	}
	if requests.Load() != 5 {
		t.Errorf("%d requests, want 5: what is cached is not fetched again", requests.Load())
	}
}

func TestFetchRefusesWhatIsNoDigest(t *testing.T) {
	url, requests := serve(t, whole)
	for _, digest := range []string{"", "abc", strings.Repeat("x", 64), strings.Repeat("../", 21) + "x", strings.Repeat("a", 66)} {
		file := fileAt(url)
		file.SHA256 = digest
		if _, err := New(t.TempDir(), nil).Fetch(t.Context(), file); fault.KindOf(err) != fault.Unverifiable {
			t.Errorf("digest %q: error %v, want an unverifiable input", digest, err)
		}
	}
	if requests.Load() > 0 {
		t.Error("asked for it all the same")
	}
}

func TestFetchDoesNotAskForWhatIsCached(t *testing.T) {
	url, requests := serve(t, whole)
	cache := New(t.TempDir(), nil)
	for range 3 {
		if _, err := cache.Fetch(t.Context(), fileAt(url)); err != nil {
			t.Fatal(err)
		}
	}
	if got := requests.Load(); got != 1 {
		t.Errorf("%d requests, want 1", got)
	}
	// A file of another size under that name is none of ours.
	if err := os.Truncate(cache.Path(fileAt(url).SHA256), 7); err != nil {
		t.Fatal(err)
	}
	path, err := cache.Fetch(t.Context(), fileAt(url))
	if err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(path); err != nil || !bytes.Equal(got, content) {
		t.Errorf("a truncated file stayed in the cache (%v)", err)
	}
}

// A server that takes a .gz file for an encoding must not change its bytes.
func TestFetchKeepsContentEncoded(t *testing.T) {
	var packed bytes.Buffer
	z := gzip.NewWriter(&packed)
	_, _ = z.Write(content)
	_ = z.Close()
	url, _ := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Encoding", "gzip")
		_, _ = w.Write(packed.Bytes())
	})
	sum := sha256.Sum256(packed.Bytes())
	file := File{URL: url + "/Packages.gz", SHA256: hex.EncodeToString(sum[:]), Size: int64(packed.Len())}
	if _, err := New(t.TempDir(), nil).Fetch(t.Context(), file); err != nil {
		t.Error(err)
	}
}

// stalling sends half of the content, and then nothing for as long as it is asked.
func stalling(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Length", fmt.Sprint(len(content)))
	_, _ = w.Write(content[:len(content)/2])
	_ = http.NewResponseController(w).Flush()
	<-r.Context().Done()
}

func TestADownloadThatStallsIsTriedAgain(t *testing.T) {
	url, requests := serve(t, stalling, whole)
	cache := New(t.TempDir(), nil)
	cache.stall = 200 * time.Millisecond
	if _, err := cache.Fetch(t.Context(), fileAt(url)); err != nil || requests.Load() != 2 {
		t.Errorf("%v after %d requests", err, requests.Load())
	}
	url, _ = serve(t, stalling)
	_, err := cache.Fetch(t.Context(), File{URL: url + "/other", SHA256: strings.Repeat("a", 64), Size: int64(len(content))})
	if fault.KindOf(err) != fault.Network || !strings.Contains(err.Error(), "no data for 200ms") {
		t.Errorf("%v (%v)", err, fault.KindOf(err))
	}
}

func TestADamagedFileOfTheCacheIsFetchedAgain(t *testing.T) {
	url, requests := serve(t, whole)
	cache := New(t.TempDir(), nil)
	path, err := cache.Fetch(t.Context(), fileAt(url))
	if err != nil {
		t.Fatal(err)
	}
	damaged := bytes.Clone(content)
	damaged[len(damaged)/2] ^= 1
	if err := os.WriteFile(path, damaged, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := cache.Fetch(t.Context(), fileAt(url)); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(path); err != nil || !bytes.Equal(got, content) || requests.Load() != 2 {
		t.Errorf("the damaged file stayed (%v), %d requests", err, requests.Load())
	}
}

func TestMirrorsAreTriedInOrder(t *testing.T) {
	const archive = "http://publisher.invalid/debian"
	gone := httptest.NewServer(nil)
	gone.Close()
	for name, bad := range map[string]http.HandlerFunc{
		"lacks it": status(404), "is ill": status(500), "is hostile": altered, "breaks off": cut, "stalls": stalling,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			first, asked := serve(t, bad)
			second, _ := serve(t, func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path != "/mirror/pool/x.deb" {
					http.NotFound(w, r)
					return
				}
				whole(w, r)
			})
			cache := New(t.TempDir(), map[string][]string{archive: {first, gone.URL, second + "/mirror/"}})
			cache.stall = 200 * time.Millisecond
			if _, err := cache.Fetch(t.Context(), fileAt(archive)); err != nil {
				t.Fatal(err)
			}
			if asked.Load() == 0 {
				t.Error("the first mirror was not asked")
			}
		})
	}
	t.Run("all fail", func(t *testing.T) {
		t.Parallel()
		hostile, _ := serve(t, altered)
		cache := New(t.TempDir(), map[string][]string{archive: {hostile, gone.URL}})
		_, err := cache.Fetch(t.Context(), fileAt(archive))
		if fault.KindOf(err) != fault.Unverifiable || !strings.Contains(err.Error(), hostile) || !strings.Contains(err.Error(), gone.URL) {
			t.Errorf("error %v, want an unverifiable input that names both mirrors", err)
		}
	})
}

func TestCandidates(t *testing.T) {
	cache := New("", map[string][]string{
		"http://p/debian":          {"http://m1/debian/", "http://m2/d"},
		"http://p/debian-security": {"http://m3"},
		"http://p/debian/special":  {"http://m4"},
		"http://p/off":             nil,
	})
	for url, want := range map[string]string{
		"http://p/debian/pool/x":          "http://m1/debian/pool/x http://m2/d/pool/x",
		"http://p/debian-security/pool/x": "http://m3/pool/x",
		"http://p/debian/special/x":       "http://m4/x",
		"http://p/off/x":                  "http://p/off/x",
		"http://p/debianish/x":            "http://p/debianish/x",
		"http://q/debian/x":               "http://q/debian/x",
	} {
		if got := strings.Join(cache.candidates(url), " "); got != want {
			t.Errorf("%s is asked at %s, want %s", url, got, want)
		}
	}
}

func TestCancelMidBodyLeavesNothing(t *testing.T) {
	halfway := make(chan struct{})
	url, _ := serve(t, func(w http.ResponseWriter, r *http.Request) {
		_, _ = w.Write(content[:len(content)/2])
		w.(http.Flusher).Flush()
		close(halfway)
		<-r.Context().Done()
	})
	dir := t.TempDir()
	ctx, cancel := context.WithCancelCause(t.Context())
	stop := errors.New("Ctrl-C")
	go func() { <-halfway; cancel(stop) }()
	started := time.Now()
	_, err := New(dir, nil).Fetch(ctx, fileAt(url))
	if !errors.Is(err, stop) {
		t.Errorf("error %v, want the cause of the end", err)
	}
	if took := time.Since(started); took > 10*time.Second {
		t.Errorf("took %s to stop", took)
	}
	if left := files(t, dir); len(left) > 0 {
		t.Errorf("left in the cache: %q", left)
	}
}

func TestTwoCachesFetchTheSameFileIntoOneDirectory(t *testing.T) {
	url, _ := serve(t, whole)
	dir := t.TempDir()
	var group sync.WaitGroup
	for range 2 {
		cache := New(dir, nil)
		group.Go(func() {
			var same []File
			for range 10 {
				same = append(same, fileAt(url))
			}
			if err := cache.All(t.Context(), same); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	left := files(t, dir)
	if len(left) != 1 {
		t.Fatalf("in the cache: %q, want one file", left)
	}
	if got, err := os.ReadFile(left[0]); err != nil || !bytes.Equal(got, content) {
		t.Errorf("%s differs from what was published (%v)", left[0], err)
	}
}

func TestAllStopsAtTheFirstFailure(t *testing.T) {
	url, requests := serve(t, status(404))
	var many []File
	for i := range 200 {
		file := fileAt(url)
		file.SHA256 = fmt.Sprintf("%064x", i)
		many = append(many, file)
	}
	err := New(t.TempDir(), nil).All(t.Context(), many)
	if fault.KindOf(err) != fault.Network || !strings.Contains(err.Error(), "404") {
		t.Errorf("error %v, want the server's", err)
	}
	if got := requests.Load(); got > 100 {
		t.Errorf("%d requests after the first failed", got)
	}
}

func TestGet(t *testing.T) {
	url, requests := serve(t, status(503), whole)
	cache := New(t.TempDir(), nil)
	data, err := cache.Get(t.Context(), url, int64(len(content)))
	if err != nil || !bytes.Equal(data, content) {
		t.Errorf("%d bytes, %v", len(data), err)
	}
	requests.Store(1)
	if _, err := cache.Get(t.Context(), url, int64(len(content))-1); fault.KindOf(err) != fault.Unverifiable {
		t.Errorf("over the limit: error %v, want an unverifiable input", err)
	}
	if got := requests.Load(); got != 2 {
		t.Errorf("a file over the limit was asked for %d times", got-1)
	}
	if _, err := cache.Get(t.Context(), "http://%zz/", 1); err == nil {
		t.Error("no error for what is no URL")
	}
}
