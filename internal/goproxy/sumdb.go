package goproxy

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"sync"

	"github.com/gofrs/flock"
	"golang.org/x/mod/module"
	"golang.org/x/mod/sumdb"
	"golang.org/x/mod/sumdb/note"

	"nodesmith.dev/nodesmith/internal/fault"
)

// publicSumDB is the verifier key of sum.golang.org, as built into the go
// command (cmd/go/internal/modfetch/key.go).
const publicSumDB = "sum.golang.org+033de0ae+Ac4zctda0e5eza+HJyk9SxEdh+s3Ux18htTTAD8OuAn8"

// maxTile bounds an answer of a checksum database, in bytes; tiles and records
// are a few KiB.
const maxTile = 1 << 20

// database is a checksum database.
type database struct {
	name string // as in its signatures
	key  string // its verifier key
	url  string // where it answers itself, without a trailing slash
}

// parseSumDB reads a GOSUMDB value. It returns nil for "off".
func parseSumDB(value string) (*database, error) {
	fields := strings.Fields(value)
	switch {
	case len(fields) == 0:
		fields = []string{publicSumDB}
	case value == "off":
		return nil, nil
	case fields[0] == "sum.golang.org":
		fields[0] = publicSumDB
	case fields[0] == "sum.golang.google.cn": // the same database at another address
		fields = []string{publicSumDB, "https://sum.golang.google.cn"}
	}
	v, err := note.NewVerifier(fields[0])
	if err != nil || len(fields) > 2 {
		return nil, fault.New(fault.Usage, "give the verifier key of the database, or leave it out for sum.golang.org",
			"Go checksum database %q is neither known by name nor a verifier key", value)
	}
	db := &database{name: v.Name(), key: fields[0], url: "https://" + v.Name()}
	if len(fields) == 2 {
		db.url = strings.TrimRight(fields[1], "/")
	}
	return db, nil
}

// lookup returns the checksum that the database has for a line of go.sum, or ""
// if the configuration says not to ask.
func (c *Client) lookup(ctx context.Context, m module.Version, version string) (string, error) {
	if c.sums == nil {
		return "", nil
	}
	// The sumdb package takes no context, so its requests are left behind when
	// ctx ends; each of them ends at its own deadline.
	type answer struct {
		lines []string
		err   error
	}
	answers := make(chan answer, 1)
	go func() {
		lines, err := c.sums.Lookup(m.Path, version)
		answers <- answer{lines, err}
	}()
	var lines []string
	var err error
	select {
	case <-ctx.Done():
		return "", ctx.Err()
	case a := <-answers:
		lines, err = a.lines, a.err
	}
	if errors.Is(err, sumdb.ErrGONOSUMDB) {
		return "", nil
	}
	if err != nil {
		return "", c.lookupError(m, err)
	}
	prefix := m.Path + " " + version + " h1:"
	for _, line := range lines {
		if strings.HasPrefix(line, prefix) {
			return strings.TrimPrefix(line, m.Path+" "+version+" "), nil
		}
	}
	return "", c.lookupError(m, fmt.Errorf("its record has no line for %s", version))
}

func (c *Client) lookupError(m module.Version, err error) error {
	kind := fault.Unverifiable
	if fault.KindOf(err) == fault.Network {
		kind = fault.Network
	}
	return fault.New(kind, "allow the module by name in the spec if you trust the proxy for it",
		"%s@%s can't be verified: checksum database %s: %w", m.Path, m.Version, c.ops.db.name, err)
}

// sumOps is what golang.org/x/mod/sumdb needs: transport and storage.
type sumOps struct {
	client *Client
	db     database

	once sync.Once
	base string // what paths are appended to, once resolved
}

// ReadRemote asks the first proxy that mirrors the database, else the database.
func (o *sumOps) ReadRemote(p string) ([]byte, error) {
	o.once.Do(o.resolve)
	return o.read(o.base + p)
}

// resolve finds out who answers for the database (go.dev/ref/mod#checksum-database).
func (o *sumOps) resolve() {
	o.base = o.db.url
	for _, p := range o.client.proxies {
		base := p.url + "/sumdb/" + o.db.name
		if _, err := o.read(base + "/supported"); err == nil {
			o.base = base
			return
		}
	}
}

func (o *sumOps) read(url string) ([]byte, error) {
	var answer memorySink
	if err := o.client.fetchURL(context.Background(), url, maxTile, &answer); err != nil {
		return nil, err
	}
	return answer.Bytes(), nil
}

// ReadConfig returns the database's key, or the newest tree head that was seen.
func (o *sumOps) ReadConfig(file string) ([]byte, error) {
	if file == "key" {
		return []byte(o.db.key), nil
	}
	data, err := os.ReadFile(o.configFile(file))
	if errors.Is(err, fs.ErrNotExist) {
		return []byte{}, nil // the interface's way to say "none yet"
	}
	return data, err
}

// WriteConfig replaces a tree head unless another process did so first.
func (o *sumOps) WriteConfig(file string, old, fresh []byte) error {
	name := o.configFile(file)
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		return diskError(err)
	}
	lock := flock.New(name + ".nodesmith-lock")
	if err := lock.Lock(); err != nil {
		return err
	}
	defer lock.Close()
	now, err := os.ReadFile(name)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if string(now) != string(old) {
		return sumdb.ErrWriteConflict
	}
	return writeFile(name, fresh)
}

// ReadCache returns a tile or record that WriteCache kept.
func (o *sumOps) ReadCache(file string) ([]byte, error) { return os.ReadFile(o.cacheFile(file)) }

// WriteCache keeps a tile or record. It may fail: then it is fetched again.
func (o *sumOps) WriteCache(file string, data []byte) {
	name := o.cacheFile(file)
	if os.MkdirAll(filepath.Dir(name), 0o755) == nil {
		_ = writeFile(name, data)
	}
}

// Log is for the progress of lookups, which is not shown.
func (o *sumOps) Log(string) {}

// SecurityError is for programs that can't return errors: Lookup returns
// sumdb.ErrSecurity after it.
func (o *sumOps) SecurityError(string) {}

func (o *sumOps) configFile(file string) string {
	return filepath.Join(o.client.cfg.Dir, "nodesmith-sumdb", filepath.FromSlash(path.Clean("/"+file)))
}

func (o *sumOps) cacheFile(file string) string {
	return filepath.Join(o.client.cfg.Dir, "nodesmith-sumdb", "cache", filepath.FromSlash(path.Clean("/"+file)))
}

// writeFile writes a small file whole or not at all.
func writeFile(name string, data []byte) error {
	tmp, err := os.CreateTemp(filepath.Dir(name), "."+filepath.Base(name)+".tmp-")
	if err != nil {
		return diskError(err)
	}
	defer os.Remove(tmp.Name())
	_, err = tmp.Write(data)
	if err := errors.Join(err, tmp.Chmod(0o644), tmp.Close()); err != nil {
		return diskError(err)
	}
	return os.Rename(tmp.Name(), name)
}
