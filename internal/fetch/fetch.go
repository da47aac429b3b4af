// Package fetch brings files named by digest from publishers or their mirrors.
//
// What comes in is a URL as its publisher names it, a SHA-256 and a size; what
// goes out is a path in a cache that holds exactly that content. Downloads run
// in parallel, are hashed as they arrive and get their final name only when
// the digest holds; memory is bounded by the number of parallel downloads.
package fetch

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/cenkalti/backoff/v5"
	"golang.org/x/sync/errgroup"

	"nodesmith.dev/nodesmith/internal/atomicfile"
	"nodesmith.dev/nodesmith/internal/fault"
	"nodesmith.dev/nodesmith/internal/lru"
	"nodesmith.dev/nodesmith/internal/transfer"
)

const (
	// attempts is how often each mirror is asked before the next one is.
	attempts = 3
	// parallel is how many downloads run at once: enough to hide round trips
	// for files of some 100 KiB, few enough for a public mirror.
	parallel = 8
	// responseTimeout bounds the wait for a response's first byte, and
	// stallTimeout the wait between two reads of its body.
	responseTimeout = 60 * time.Second
	stallTimeout    = 60 * time.Second
)

// File is a file to fetch.
type File struct {
	URL    string // as its publisher names it
	SHA256 string // hex
	Size   int64  // bytes, or UnknownSize
}

// UnknownSize is the size of a file of which the digest alone is known. Its download
// is bounded by what the disk holds.
const UnknownSize = -1

// Cache is a directory of verified files and the mirrors that fill it. It is
// safe for several processes at once.
type Cache struct {
	dir     string
	mirrors map[string][]string
	client  *http.Client
	stall   time.Duration // stallTimeout, but in tests
}

// New returns the cache in dir. Mirrors maps an archive's URL to the URLs to
// try in its place, in order; an archive without an entry is asked itself.
func New(dir string, mirrors map[string][]string) *Cache {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.ResponseHeaderTimeout = responseTimeout
	transport.MaxIdleConnsPerHost = parallel
	// A digest is of the file as it is published: a server that marks a .gz
	// file as encoded must not get it decoded on the way.
	transport.DisableCompression = true
	return &Cache{dir: dir, mirrors: mirrors, client: &http.Client{Transport: transfer.Transport(transport)}, stall: stallTimeout}
}

// Path returns where a file of that digest lies once it is fetched.
func (c *Cache) Path(sha256hex string) string {
	return filepath.Join(c.dir, "sha256", sha256hex[:2], sha256hex)
}

// All fetches every file that the cache lacks and stops at the first failure. The
// context's counter (internal/transfer) is told of the bytes of all of them.
func (c *Cache) All(ctx context.Context, files []File) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(parallel)
	for _, file := range files {
		group.Go(func() error {
			_, err := c.Fetch(ctx, file)
			return err
		})
	}
	return group.Wait()
}

// Fetch returns the path of the file, downloading it unless the cache has it.
func (c *Cache) Fetch(ctx context.Context, file File) (string, error) {
	if sum, err := hex.DecodeString(file.SHA256); err != nil || len(sum) != sha256.Size {
		return "", fault.New(fault.Unverifiable, "", "%s: %q is not a SHA-256 digest", redacted(file.URL), file.SHA256)
	}
	path := c.Path(file.SHA256)
	if holds(path, file) {
		lru.Touch(path)
		transfer.Add(ctx, file.Size)
		return path, nil
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return "", err
	}
	err := c.tryMirrors(ctx, file.URL, func(url string) error { return c.download(ctx, url, file, path) })
	return path, err
}

// Holds reports whether Fetch would find the file in the cache, and whole.
func (c *Cache) Holds(file File) bool { return holds(c.Path(file.SHA256), file) }

// holds reports whether the file at path is the one that is named. It is read
// whole: a disk or a copy of the cache may have changed it since it was fetched,
// and what is made of it would carry the change on.
func holds(path string, file File) bool {
	info, err := os.Stat(path)
	if err != nil || file.Size != UnknownSize && info.Size() != file.Size {
		return false
	}
	f, err := os.Open(path)
	if err != nil {
		return false
	}
	defer f.Close()
	hash := sha256.New()
	_, err = io.Copy(hash, f)
	return err == nil && hex.EncodeToString(hash.Sum(nil)) == file.SHA256
}

// Get returns a small file whose digest is not known beforehand (a signed
// index): the caller verifies it. More than limit bytes are an error.
func (c *Cache) Get(ctx context.Context, url string, limit int64) ([]byte, error) {
	var data []byte
	err := c.tryMirrors(ctx, url, func(url string) error {
		body, err := c.open(ctx, url)
		if err != nil {
			return err
		}
		defer body.Close()
		data, err = io.ReadAll(io.LimitReader(body, limit+1))
		if err == nil && int64(len(data)) > limit {
			return backoff.Permanent(fault.New(fault.Unverifiable, "", "%s: larger than %d bytes", redacted(url), limit))
		}
		return err
	})
	return data, err
}

// tryMirrors calls attempt with the file's URL on each mirror in turn.
func (c *Cache) tryMirrors(ctx context.Context, url string, attempt func(url string) error) error {
	var failures []error
	for _, candidate := range c.candidates(url) {
		policy := backoff.NewExponentialBackOff()
		policy.InitialInterval = 250 * time.Millisecond
		_, err := backoff.Retry(ctx, func() (struct{}, error) { return struct{}{}, attempt(candidate) },
			backoff.WithBackOff(policy), backoff.WithMaxTries(attempts))
		if err == nil {
			return nil
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err = fault.NoSpaceOr(err); fault.KindOf(err) == fault.NoSpace {
			return fmt.Errorf("download of %s: %w", redacted(url), err)
		}
		failures = append(failures, err)
	}
	err := errors.Join(failures...)
	if fault.KindOf(err) != fault.Internal {
		return err
	}
	return fault.New(fault.Network, "check the network and the mirrors in nodesmith's configuration", "download of %s: %w", redacted(url), err)
}

func (c *Cache) candidates(url string) []string {
	longest := ""
	for archive := range c.mirrors {
		if strings.HasPrefix(url, archive+"/") && len(archive) > len(longest) {
			longest = archive
		}
	}
	if longest == "" || len(c.mirrors[longest]) == 0 {
		return []string{url}
	}
	var urls []string
	for _, mirror := range c.mirrors[longest] {
		urls = append(urls, strings.TrimSuffix(mirror, "/")+strings.TrimPrefix(url, longest))
	}
	return urls
}

func (c *Cache) open(ctx context.Context, address string) (io.ReadCloser, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		cancel(nil)
		return nil, backoff.Permanent(err)
	}
	response, err := c.client.Do(request)
	if err != nil {
		cancel(nil)
		if failed := (*url.Error)(nil); errors.As(err, &failed) { // it has the whole address
			err = fmt.Errorf("%s: %w", redacted(address), failed.Err)
		}
		return nil, err
	}
	if response.StatusCode != http.StatusOK {
		response.Body.Close()
		cancel(nil)
		err := fmt.Errorf("%s: %s", redacted(address), response.Status)
		if permanent(response.StatusCode) {
			return nil, backoff.Permanent(err)
		}
		return nil, err
	}
	stalled := time.AfterFunc(c.stall, func() { cancel(fmt.Errorf("%s: no data for %s", redacted(address), c.stall)) })
	return &body{ReadCloser: response.Body, ctx: ctx, cancel: cancel, stalled: stalled, stall: c.stall}, nil
}

// redacted returns an address without the password that a mirror's may have.
func redacted(address string) string {
	parsed, err := url.Parse(address)
	if err != nil {
		return "a mirror whose address can't be read"
	}
	return Redacted(parsed)
}

// Redacted is an address to be shown or kept: without its password, and without its
// query, which may hold a signature that is as good as one.
func Redacted(address *url.URL) string {
	shown := *address
	if shown.RawQuery != "" {
		shown.RawQuery = "..."
	}
	return shown.Redacted()
}

// permanent says whether asking again is useless: the server understood and
// refused. A timeout and too many requests are worth another try (RFC 9110
// section 15.5.9, RFC 6585 section 4).
func permanent(status int) bool {
	return status >= 400 && status < 500 && status != http.StatusRequestTimeout && status != http.StatusTooManyRequests
}

// body is a response's body that ends when no data comes for stall.
type body struct {
	io.ReadCloser
	ctx     context.Context // of this one request, for the cause of its end
	cancel  context.CancelCauseFunc
	stalled *time.Timer
	stall   time.Duration
}

func (b *body) Read(p []byte) (int, error) {
	b.stalled.Reset(b.stall)
	n, err := b.ReadCloser.Read(p)
	if err != nil && !errors.Is(err, io.EOF) && b.ctx.Err() != nil {
		err = context.Cause(b.ctx)
	}
	return n, err
}

func (b *body) Close() error {
	b.stalled.Stop()
	defer b.cancel(nil)
	return b.ReadCloser.Close()
}

// download writes url to path if it holds what file names.
func (c *Cache) download(ctx context.Context, url string, file File, path string) error {
	body, err := c.open(ctx, url)
	if err != nil {
		return err
	}
	defer body.Close()
	pending, err := atomicfile.New(path, "", 0o644)
	if err != nil {
		return backoff.Permanent(err)
	}
	defer func() { _ = pending.Cleanup() }() // does nothing once the file has its name
	hash := sha256.New()
	content, of := io.Reader(body), ""
	if file.Size != UnknownSize {
		content, of = io.LimitReader(body, file.Size+1), fmt.Sprintf(" of %d", file.Size)
	}
	n, err := io.Copy(io.MultiWriter(pending, hash), content)
	if err != nil {
		return fmt.Errorf("%s: after %d%s bytes: %w", redacted(url), n, of, err)
	}
	got := hex.EncodeToString(hash.Sum(nil))
	if got != file.SHA256 && file.Size == UnknownSize {
		return fault.New(fault.Unverifiable, "", "%s: SHA-256 is %s (%d bytes), not %s", redacted(url), got, n, file.SHA256)
	}
	if got != file.SHA256 {
		return fault.New(fault.Unverifiable, "the mirror is broken, out of date or hostile: use another, or lock again",
			"%s: SHA-256 is %s (%d bytes), the lock says %s (%d bytes)", redacted(url), got, n, file.SHA256, file.Size)
	}
	return pending.CloseAtomicallyReplace()
}
