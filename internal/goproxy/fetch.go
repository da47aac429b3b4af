package goproxy

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"nodesmith.dev/nodesmith/internal/fault"
	"nodesmith.dev/nodesmith/internal/transfer"
)

const (
	attempts = 4                // of one request, before the next proxy or giving up
	stall    = 60 * time.Second // without a byte, after which an attempt has failed
)

// proxy is an element of a GOPROXY list.
type proxy struct {
	url string // without a trailing slash
	// fallThrough: after any error the next proxy is tried, not only when this
	// one does not have the file.
	fallThrough bool
}

// parseProxyList reads a GOPROXY list (go.dev/ref/mod#environment-variables).
func parseProxyList(list string) ([]proxy, error) {
	if list == "" {
		list = DefaultProxy
	}
	const remedy = "set the Go proxy to the URL of a module proxy, such as " + DefaultProxy
	var out []proxy
	for rest := list; rest != ""; {
		item, after := rest, ""
		var sep byte
		if i := strings.IndexAny(rest, ",|"); i >= 0 {
			item, sep, after = rest[:i], rest[i], rest[i+1:]
		}
		rest = after
		item = strings.TrimRight(strings.TrimSpace(item), "/")
		if item == "direct" || item == "off" {
			break // nothing behind either is ever used
		}
		if item == "" {
			continue
		}
		if !strings.Contains(item, "://") {
			item = "https://" + item // as the go command does
		}
		u, err := url.Parse(item)
		if err != nil {
			return nil, fault.New(fault.Usage, remedy, "Go proxy %q: %w", item, err)
		}
		if u.Scheme != "https" && u.Scheme != "http" && u.Scheme != "file" {
			return nil, fault.New(fault.Usage, remedy, "Go proxy %q: scheme %q is not https, http or file", item, u.Scheme)
		}
		out = append(out, proxy{url: item, fallThrough: sep == '|'})
	}
	if len(out) == 0 {
		return nil, fault.New(fault.Usage, remedy,
			"Go proxy list %q names no proxy: modules are not fetched from version control", list)
	}
	return out, nil
}

// ProxyList returns the client's proxies in GOPROXY syntax, without "direct".
func (c *Client) ProxyList() string {
	var b strings.Builder
	for i, p := range c.proxies {
		b.WriteString(p.url)
		switch {
		case i == len(c.proxies)-1:
		case p.fallThrough:
			b.WriteByte('|')
		default:
			b.WriteByte(',')
		}
	}
	return b.String()
}

// newHTTPClient returns a client for long downloads: no limit on the whole
// request, but on the silence before the answer. It serves file:// too.
func newHTTPClient() *http.Client {
	t := http.DefaultTransport.(*http.Transport).Clone()
	t.ResponseHeaderTimeout = stall
	t.RegisterProtocol("file", http.NewFileTransport(http.Dir("/")))
	return &http.Client{Transport: transfer.Transport(t)}
}

// fetch writes the file name of the first proxy that has it to w. limit is the
// largest size in bytes, 0 for any. w is reset before each attempt.
func (c *Client) fetch(ctx context.Context, name string, limit int64, w sink) error {
	var errs []error
	for _, p := range c.proxies {
		err := c.fetchURL(ctx, p.url+"/"+name, limit, w)
		if err == nil || ctx.Err() != nil {
			return err
		}
		errs = append(errs, err)
		if !p.fallThrough && !errors.Is(err, fs.ErrNotExist) {
			break
		}
	}
	return errors.Join(errs...)
}

// Size asks for the size in bytes of the file that a proxy serves under that
// name, -1 if none says.
func (c *Client) Size(ctx context.Context, name string) int64 {
	for _, p := range c.proxies {
		req, err := http.NewRequestWithContext(ctx, http.MethodHead, p.url+"/"+name, nil)
		if err != nil {
			return -1
		}
		// As it is sent for a file: a transport that asks for gzip drops the length.
		req.Header.Set("Accept-Encoding", "identity")
		resp, err := c.http.Do(req)
		if err != nil {
			continue
		}
		resp.Body.Close()
		if resp.StatusCode == http.StatusOK && resp.ContentLength >= 0 {
			return resp.ContentLength
		}
	}
	return -1
}

// sink takes a download, and drops what it took when an attempt failed halfway.
type sink interface {
	io.Writer
	reset() error
}

type fileSink struct{ *os.File }

func (f fileSink) reset() error {
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return err
	}
	return f.Truncate(0)
}

type memorySink struct{ bytes.Buffer }

func (m *memorySink) reset() error { m.Reset(); return nil }

// statusError is an answer of a server other than 200.
type statusError struct {
	url  string
	code int
	body string // the beginning of what the server said about it
}

func (e *statusError) Error() string {
	msg := fmt.Sprintf("%s: %d %s", e.url, e.code, http.StatusText(e.code))
	if e.body != "" {
		msg += ": " + e.body
	}
	return msg
}

// Is makes "this proxy does not have it" recognizable (go.dev/ref/mod#goproxy-protocol).
func (e *statusError) Is(target error) bool {
	return target == fs.ErrNotExist && (e.code == http.StatusNotFound || e.code == http.StatusGone)
}

// fetchURL writes what url answers to w, with repeated attempts when the
// network or the server fails for a reason that may pass.
func (c *Client) fetchURL(ctx context.Context, url string, limit int64, w sink) error {
	var err error
	for i := range attempts {
		if i > 0 {
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-time.After(c.pause << (i - 1)):
			}
		}
		if err = c.attempt(ctx, url, limit, w); err == nil {
			return nil
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		var status *statusError
		if errors.As(err, &status) && status.code < 500 && status.code != http.StatusTooManyRequests {
			return err // the answer will not change
		}
		if fault.KindOf(err) == fault.NoSpace {
			return err
		}
	}
	return fault.New(fault.Network, "check the network and the Go proxy that is configured", "%w (tried %d times)", err, attempts)
}

// attempt is one request.
func (c *Client) attempt(ctx context.Context, url string, limit int64, w sink) error {
	if err := w.reset(); err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		said, _ := io.ReadAll(io.LimitReader(resp.Body, 300))
		return &statusError{url: url, code: resp.StatusCode, body: strings.Join(strings.Fields(string(said)), " ")}
	}
	body := io.Reader(resp.Body)
	if limit > 0 {
		body = io.LimitReader(body, limit+1)
	}
	silence := time.AfterFunc(stall, func() { cancel(fmt.Errorf("%s: no data for %v", url, stall)) })
	defer silence.Stop()
	n, err := io.Copy(w, &watched{body, silence})
	if err != nil {
		if cause := context.Cause(ctx); cause != nil {
			err = cause
		}
		return diskError(fmt.Errorf("%s: after %d bytes: %w", url, n, err))
	}
	if limit > 0 && n > limit {
		return fault.New(fault.Unverifiable, "", "%s is larger than %d bytes", url, limit)
	}
	return nil
}

// watched puts a timer off at each read.
type watched struct {
	io.Reader
	silence *time.Timer
}

func (w *watched) Read(p []byte) (int, error) {
	n, err := w.Reader.Read(p)
	if n > 0 {
		w.silence.Reset(stall)
	}
	return n, err
}
