package goproxy

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/mod/module"
	"golang.org/x/mod/sumdb"
	"golang.org/x/mod/sumdb/dirhash"
	"golang.org/x/mod/sumdb/note"
	modzip "golang.org/x/mod/zip"

	"nodesmith.dev/nodesmith/internal/fault"
)

var rocket = module.Version{Path: "example.com/Rocket", Version: "v1.2.3"}

const rocketMod = "module example.com/Rocket\n\ngo 1.24.0\n"

// memFile is a file of a module zip.
type memFile struct{ name, content string }

func (f memFile) Path() string                { return f.name }
func (f memFile) Lstat() (fs.FileInfo, error) { return memInfo{f}, nil }
func (f memFile) Open() (io.ReadCloser, error) {
	return io.NopCloser(strings.NewReader(f.content)), nil
}

type memInfo struct{ f memFile }

func (i memInfo) Name() string       { return filepath.Base(i.f.name) }
func (i memInfo) Size() int64        { return int64(len(i.f.content)) }
func (i memInfo) Mode() fs.FileMode  { return 0o644 }
func (i memInfo) ModTime() time.Time { return time.Time{} }
func (i memInfo) IsDir() bool        { return false }
func (i memInfo) Sys() any           { return nil }

// makeZip returns a zip file of rocket and its checksum.
func makeZip(t *testing.T, content string) ([]byte, string) {
	t.Helper()
	var buf bytes.Buffer
	if err := modzip.Create(&buf, rocket, []modzip.File{memFile{"go.mod", rocketMod}, memFile{"main.go", content}}); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "z.zip")
	if err := os.WriteFile(file, buf.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	sum, err := dirhash.HashZip(file, dirhash.Hash1)
	if err != nil {
		t.Fatal(err)
	}
	return buf.Bytes(), sum
}

// fakeProxy is a module proxy with one module, which also mirrors a checksum
// database that knows that module.
type fakeProxy struct {
	*httptest.Server
	sumDB    string // as in GOSUMDB
	zip      []byte
	zipSum   string
	modSum   string
	requests atomic.Int32
	// spoil, if set, answers instead and reports whether it did.
	spoil func(w http.ResponseWriter, r *http.Request) bool
}

const (
	zipPath = "/example.com/!rocket/@v/v1.2.3.zip"
	modPath = "/example.com/!rocket/@v/v1.2.3.mod"
)

func newFakeProxy(t *testing.T) *fakeProxy {
	t.Helper()
	p := &fakeProxy{}
	p.zip, p.zipSum = makeZip(t, "package main\n")
	mod := filepath.Join(t.TempDir(), "go.mod")
	if err := os.WriteFile(mod, []byte(rocketMod), 0o600); err != nil {
		t.Fatal(err)
	}
	var err error
	if p.modSum, err = HashMod(mod); err != nil {
		t.Fatal(err)
	}
	signer, verifier, err := note.GenerateKey(rand.Reader, "sum.example.com")
	if err != nil {
		t.Fatal(err)
	}
	p.sumDB = verifier
	db := sumdb.NewServer(sumdb.NewTestServer(signer, func(path, version string) ([]byte, error) {
		if path != rocket.Path || version != rocket.Version {
			return nil, fmt.Errorf("%s@%s: %w", path, version, fs.ErrNotExist)
		}
		return fmt.Appendf(nil, "%s %s %s\n%s %s/go.mod %s\n", path, version, p.zipSum, path, version, p.modSum), nil
	}))
	mux := http.NewServeMux()
	mux.Handle("/sumdb/sum.example.com/", http.StripPrefix("/sumdb/sum.example.com", db))
	mux.HandleFunc("/sumdb/sum.example.com/supported", func(http.ResponseWriter, *http.Request) {})
	mux.HandleFunc(zipPath, func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(p.zip) })
	mux.HandleFunc(modPath, func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, rocketMod) })
	p.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p.requests.Add(1)
		if p.spoil != nil && p.spoil(w, r) {
			return
		}
		mux.ServeHTTP(w, r)
	}))
	t.Cleanup(p.Close)
	return p
}

// client returns a client that does not wait between attempts.
func client(t *testing.T, cfg Config) *Client {
	t.Helper()
	if cfg.Dir == "" {
		cfg.Dir = t.TempDir()
	}
	c, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	c.pause = time.Millisecond
	return c
}

// assertCacheHolds fails if there is any file of the module in the cache but want.
func assertCacheHolds(t *testing.T, c *Client, want ...string) {
	t.Helper()
	var got []string
	entries, _ := os.ReadDir(filepath.Join(c.ModCache(), "cache/download/example.com/!rocket/@v"))
	for _, e := range entries {
		got = append(got, e.Name())
	}
	if strings.Join(got, " ") != strings.Join(want, " ") {
		t.Errorf("cache holds %q, want %q", got, want)
	}
}

func TestFilesAreVerifiedByTheChecksumDatabase(t *testing.T) {
	p := newFakeProxy(t)
	c := client(t, Config{Proxy: p.URL, SumDB: p.sumDB})
	file, sum, err := c.Zip(t.Context(), rocket, "")
	if err != nil || sum != p.zipSum {
		t.Fatalf("Zip: %v, sum %q, want %q", err, sum, p.zipSum)
	}
	if data, err := os.ReadFile(file); err != nil || !bytes.Equal(data, p.zip) {
		t.Errorf("the file differs from the proxy's (%v)", err)
	}
	if _, sum, err = c.Mod(t.Context(), rocket, ""); err != nil || sum != p.modSum {
		t.Fatalf("Mod: %v, sum %q, want %q", err, sum, p.modSum)
	}
	assertCacheHolds(t, c, "v1.2.3.mod", "v1.2.3.zip")

	// A second client, as in the next run, asks the network for nothing.
	p.requests.Store(0)
	c2 := client(t, Config{Proxy: p.URL, SumDB: p.sumDB, Dir: c.cfg.Dir})
	if _, _, err := c2.Zip(t.Context(), rocket, p.zipSum); err != nil {
		t.Fatal(err)
	}
	if n := p.requests.Load(); n != 0 {
		t.Errorf("%d requests for a file in the cache", n)
	}
}

func TestContentThatIsNotTheExpectedIsRefused(t *testing.T) {
	other, otherSum := makeZip(t, "package main // and a back door\n")
	for name, tc := range map[string]struct {
		body   []byte
		pinned string
	}{
		"other content, checksum database": {body: other},
		"other content, pinned":            {body: other, pinned: "right"},
		"pinned to something else":         {pinned: otherSum},
		"not a zip file":                   {body: []byte("<html>log in</html>")},
		"empty":                            {body: []byte{}},
	} {
		t.Run(name, func(t *testing.T) {
			p := newFakeProxy(t)
			if tc.pinned == "right" {
				tc.pinned = p.zipSum
			}
			if tc.body != nil {
				p.zip = tc.body
			}
			c := client(t, Config{Proxy: p.URL, SumDB: p.sumDB})
			_, _, err := c.Zip(t.Context(), rocket, tc.pinned)
			if fault.KindOf(err) != fault.Unverifiable {
				t.Errorf("error %v, want unverifiable", err)
			}
			assertCacheHolds(t, c)
		})
	}
}

func TestTruncatedBodiesAreFetchedAgain(t *testing.T) {
	p := newFakeProxy(t)
	fails := 2
	p.spoil = func(w http.ResponseWriter, r *http.Request) bool {
		if r.URL.Path != zipPath || fails == 0 {
			return false
		}
		fails--
		w.Header().Set("Content-Length", fmt.Sprint(len(p.zip)))
		_, _ = w.Write(p.zip[:len(p.zip)/2])
		return true
	}
	c := client(t, Config{Proxy: p.URL, SumDB: p.sumDB})
	if _, _, err := c.Zip(t.Context(), rocket, ""); err != nil {
		t.Fatal(err)
	}
	fails = attempts
	c = client(t, Config{Proxy: p.URL, SumDB: p.sumDB})
	_, _, err := c.Zip(t.Context(), rocket, "")
	if fault.KindOf(err) != fault.Network || !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("error %v, want a network fault for an unexpected EOF", err)
	}
	assertCacheHolds(t, c)
}

func TestProxiesAreTriedInOrder(t *testing.T) {
	good := newFakeProxy(t)
	answering := func(code int) string {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "no", code) }))
		t.Cleanup(s.Close)
		return s.URL
	}
	missing, broken := answering(http.StatusNotFound), answering(http.StatusForbidden)
	for list, ok := range map[string]bool{
		missing + "," + good.URL:             true,
		missing + "," + good.URL + ",direct": true,
		broken + "," + good.URL:              false,
		broken + "|" + good.URL:              true,
		"off," + good.URL:                    false,
		missing + ",direct," + good.URL:      false,
	} {
		c, err := New(Config{Proxy: list, SumDB: "off", Dir: t.TempDir()})
		if err == nil {
			_, _, err = c.Zip(t.Context(), rocket, good.zipSum)
		}
		if (err == nil) != ok {
			t.Errorf("%s: error %v, want success %v", list, err, ok)
		}
	}
	c := client(t, Config{Proxy: missing, SumDB: "off"})
	if _, _, err := c.Zip(t.Context(), rocket, ""); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a module that no proxy has: %v, want fs.ErrNotExist", err)
	}
}

func TestModulesUnknownToTheDatabaseNeedPermission(t *testing.T) {
	p := newFakeProxy(t)
	stranger := module.Version{Path: rocket.Path, Version: "v1.2.4"}
	p.spoil = func(w http.ResponseWriter, r *http.Request) bool {
		if strings.HasSuffix(r.URL.Path, "/v1.2.4.mod") {
			_, _ = io.WriteString(w, rocketMod)
			return true
		}
		return false
	}
	c := client(t, Config{Proxy: p.URL, SumDB: p.sumDB})
	_, _, err := c.Mod(t.Context(), stranger, "")
	if fault.KindOf(err) != fault.Unverifiable || fault.RemedyOf(err) == "" {
		t.Errorf("error %v, want unverifiable with a remedy", err)
	}
	for _, cfg := range []Config{
		{Proxy: p.URL, SumDB: p.sumDB, NoSumDB: "other.org,example.com/*"},
		{Proxy: p.URL, SumDB: "off"},
	} {
		if _, sum, err := client(t, cfg).Mod(t.Context(), stranger, ""); err != nil || sum != p.modSum {
			t.Errorf("%+v: %v, sum %q", cfg, err, sum)
		}
	}
}

func TestDamagedCacheFilesAreFetchedAgain(t *testing.T) {
	p := newFakeProxy(t)
	c := client(t, Config{Proxy: p.URL, SumDB: p.sumDB})
	file, _, err := c.Zip(t.Context(), rocket, "")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(file, 10); err != nil {
		t.Fatal(err)
	}
	if _, sum, err := c.Zip(t.Context(), rocket, p.zipSum); err != nil || sum != p.zipSum {
		t.Errorf("Zip: %v, sum %q", err, sum)
	}
}

func TestFetchingEndsWithItsContext(t *testing.T) {
	p := newFakeProxy(t)
	ctx, cancel := context.WithCancel(t.Context())
	p.spoil = func(w http.ResponseWriter, r *http.Request) bool {
		w.WriteHeader(http.StatusOK)
		w.(http.Flusher).Flush()
		cancel()
		<-r.Context().Done()
		return true
	}
	c := client(t, Config{Proxy: p.URL, SumDB: p.sumDB})
	if _, _, err := c.Zip(ctx, rocket, p.zipSum); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v, want context.Canceled", err)
	}
	assertCacheHolds(t, c)
}

func TestConfigurationThatCannotWorkIsRefused(t *testing.T) {
	for name, cfg := range map[string]Config{
		"only direct":      {Proxy: "direct"},
		"off":              {Proxy: "off"},
		"separators only":  {Proxy: ",|,"},
		"scheme":           {Proxy: "ftp://example.com"},
		"unknown database": {SumDB: "sum.example.com"},
		"broken key":       {SumDB: "sum.example.com+zzz+"},
		"too many fields":  {SumDB: publicSumDB + " https://a https://b"},
	} {
		cfg.Dir = t.TempDir()
		if _, err := New(cfg); fault.KindOf(err) != fault.Usage || fault.RemedyOf(err) == "" {
			t.Errorf("%s: error %v, want a usage fault with a remedy", name, err)
		}
	}
}

func FuzzProxyListIsReadAndWrittenAlike(f *testing.F) {
	for _, s := range []string{"", "https://a,https://b|direct", "a|b", "file:///tmp/x", "off", ",,"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		list, err := parseProxyList(s)
		if err != nil {
			return
		}
		again, err := parseProxyList((&Client{proxies: list}).ProxyList())
		if err != nil {
			t.Fatalf("%q: %v", s, err)
		}
		if len(again) != len(list) {
			t.Fatalf("%q: %v became %v", s, list, again)
		}
	})
}
