// Package goproxy fetches Go modules from module proxies and verifies them.
//
// What comes in is a module version, what goes out is the path of its zip file
// or go.mod in a local module cache, after its checksum was compared with a
// known one or with the checksum database's. Files appear in the cache whole or
// not at all; several processes may share one cache. No file is ever held in
// memory as a whole but a go.mod.
//
// The cache is laid out as a GOPATH, so that the go command can use it too.
package goproxy

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/mod/module"
	"golang.org/x/mod/sumdb"
	"golang.org/x/mod/sumdb/dirhash"

	"nodesmith.dev/nodesmith/internal/fault"
)

// DefaultProxy is the go command's own default for GOPROXY, without "direct".
const DefaultProxy = "https://proxy.golang.org"

// maxMod is the go command's limit for a go.mod file (golang.org/x/mod/zip.MaxGoMod), in bytes.
const maxMod = 16 << 20

// Config says where modules come from and who vouches for them.
type Config struct {
	// Proxy is a list as in GOPROXY: URLs separated by "," (try the next one if
	// this one does not have the module) or "|" (try the next one after any
	// error). Version control ("direct") is not supported and is passed over if
	// a URL stands before it. Empty means DefaultProxy.
	Proxy string
	// SumDB is the checksum database as in GOSUMDB: a name, a verifier key, or
	// a key and a URL. Empty means sum.golang.org; "off" verifies nothing that
	// has no pinned checksum.
	SumDB string
	// NoSumDB lists module path patterns, as in GONOSUMDB, that the checksum
	// database is not asked about.
	NoSumDB string
	// Dir is the cache directory. It is created when it is needed.
	Dir string
	// HTTP makes the requests; nil means a client that honours the proxy
	// variables of the process.
	HTTP *http.Client
}

// Client fetches modules. It may be used by several goroutines.
type Client struct {
	cfg     Config
	proxies []proxy
	http    *http.Client
	sums    *sumdb.Client // nil when cfg.SumDB is off
	ops     *sumOps
	// pause is the delay before the second attempt of a request.
	pause time.Duration
}

// New checks cfg and returns a client for it. Nothing is fetched yet.
func New(cfg Config) (*Client, error) {
	if cfg.Dir == "" {
		return nil, errors.New("goproxy: no cache directory")
	}
	proxies, err := parseProxyList(cfg.Proxy)
	if err != nil {
		return nil, err
	}
	c := &Client{cfg: cfg, proxies: proxies, http: cfg.HTTP, pause: time.Second}
	if c.http == nil {
		c.http = newHTTPClient()
	}
	db, err := parseSumDB(cfg.SumDB)
	if err != nil {
		return nil, err
	}
	if db != nil {
		c.ops = &sumOps{client: c, db: *db}
		c.sums = sumdb.NewClient(c.ops)
		c.sums.SetGONOSUMDB(cfg.NoSumDB)
	}
	return c, nil
}

// ModCache is the directory to give to the go command as GOMODCACHE.
func (c *Client) ModCache() string { return filepath.Join(c.cfg.Dir, "pkg", "mod") }

// Zip returns the path of m's zip file in the cache and its h1 checksum, after
// fetching it if needed. Its checksum must be sum or, if sum is empty, the
// checksum database's; a mismatch is a fault.Unverifiable, and so is a module
// that the database does not know. A module that no proxy has is an error for
// which errors.Is(err, fs.ErrNotExist) holds.
func (c *Client) Zip(ctx context.Context, m module.Version, sum string) (path, got string, err error) {
	return c.get(ctx, m, "zip", m.Version, sum, func(file string) (string, error) {
		h, err := dirhash.HashZip(file, dirhash.Hash1)
		if err != nil {
			return "", fault.New(fault.Unverifiable, "", "the zip file of %s can't be read: %w", m, err)
		}
		return h, nil
	})
}

// Mod is Zip for the go.mod file of m.
func (c *Client) Mod(ctx context.Context, m module.Version, sum string) (path, got string, err error) {
	return c.get(ctx, m, "mod", m.Version+"/go.mod", sum, HashMod)
}

// HashMod returns the h1 checksum of a go.mod file as go.sum has it.
func HashMod(file string) (string, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return "", err
	}
	return dirhash.Hash1([]string{"go.mod"}, func(string) (io.ReadCloser, error) {
		return io.NopCloser(bytes.NewReader(data)), nil
	})
}

// path is where the cache has the file that a proxy serves under that name.
func (c *Client) path(name string) string {
	return filepath.Join(c.ModCache(), "cache", "download", filepath.FromSlash(name))
}

// Holds says whether the cache has the file that a proxy serves under that name.
func (c *Client) Holds(name string) bool {
	_, err := os.Stat(c.path(name))
	return err == nil
}

// get is what Zip and Mod have in common: ext is the file's extension on a
// proxy, version is the second field of its go.sum line.
func (c *Client) get(ctx context.Context, m module.Version, ext, version, want string, hash func(file string) (string, error)) (path, got string, err error) {
	name, err := Escape(m, ext)
	if err != nil {
		return "", "", err
	}
	path = c.path(name)
	if want == "" {
		if want, err = c.lookup(ctx, m, version); err != nil {
			return "", "", err
		}
	}
	check := func(file string) error {
		if got, err = hash(file); err != nil {
			return err
		}
		if want != "" && got != want {
			return fault.New(fault.Unverifiable, "do not use this proxy until it is known why it serves other content",
				"%s %s has checksum %s, expected %s", m.Path, version, got, want)
		}
		return nil
	}
	// A file in the cache is checked like one from the network: disks fail, and
	// the cache is shared with the go command.
	if _, err := os.Stat(path); err == nil {
		if check(path) == nil {
			return path, got, nil
		}
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return "", "", err
		}
	}
	limit := int64(0)
	if ext == "mod" {
		limit = maxMod
	}
	if err := c.download(ctx, name, path, limit, check); err != nil {
		return "", "", fmt.Errorf("fetching %s@%s: %w", m.Path, m.Version, err)
	}
	return path, got, nil
}

// download fetches the file name of a proxy to path: into a temporary file
// beside it, which takes the name path after check accepted it.
func (c *Client) download(ctx context.Context, name, path string, limit int64, check func(file string) error) (err error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return diskError(err)
	}
	tmp, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".tmp-")
	if err != nil {
		return diskError(err)
	}
	defer os.Remove(tmp.Name()) // fails after the rename, as it should
	defer tmp.Close()
	if err := c.fetch(ctx, name, limit, fileSink{tmp}); err != nil {
		return err
	}
	if err := errors.Join(tmp.Chmod(0o644), tmp.Close()); err != nil {
		return diskError(err)
	}
	if err := check(tmp.Name()); err != nil {
		return err
	}
	return os.Rename(tmp.Name(), path)
}

// Escape returns the name of a module's file on a proxy: the escaped module
// path, "/@v/", the escaped version and the extension ext without its dot.
func Escape(m module.Version, ext string) (string, error) {
	if err := module.Check(m.Path, m.Version); err != nil {
		return "", err
	}
	p, err := module.EscapePath(m.Path)
	if err != nil {
		return "", err
	}
	v, err := module.EscapeVersion(m.Version)
	if err != nil {
		return "", err
	}
	return p + "/@v/" + v + "." + ext, nil
}

// diskError names the kind of an error of the file system.
func diskError(err error) error {
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		return fault.New(fault.NoSpace, "free some space or choose another cache directory", "%w", err)
	}
	return err
}
