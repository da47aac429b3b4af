// Package faultproxy is an HTTP server that stands before a real one and does to
// its clients what networks and busy services do.
//
// What comes in is the handler that answers (a reverse proxy to an emulator, a
// recorder before it), a link with a rate and a delay, and faults; what goes out
// is an address. Every fault is counted, so a test can say that it was met.
package faultproxy

import (
	"crypto/tls"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"
)

// Proxy is a running proxy; it ends with the test.
type Proxy struct {
	// URL is where it answers.
	URL string
	// Server is the server itself: its certificate, its client.
	Server *httptest.Server

	next http.Handler

	mu       sync.Mutex
	faults   []*Fault
	watch    func(*http.Request)
	requests int
	active   int
	settled  *sync.Cond // active is 0
}

// Options are what the proxy is like; the zero value is a fast one over HTTP.
type Options struct {
	// TLS makes it speak HTTPS, with a certificate that Server.Client() trusts.
	TLS bool
	// Link is what lies between it and its clients.
	Link Link
}

// Start starts a proxy before next.
func Start(t testing.TB, next http.Handler, o Options) *Proxy {
	t.Helper()
	p := &Proxy{next: next}
	p.settled = sync.NewCond(&p.mu)
	p.Server = httptest.NewUnstartedServer(p)
	p.Server.Config.ErrorLog = log.New(io.Discard, "", 0)
	if o.TLS {
		p.Server.StartTLS()
	} else {
		p.Server.Start()
	}
	p.URL = p.Server.URL
	t.Cleanup(func() {
		p.Server.CloseClientConnections()
		p.Server.Close()
	})
	if o.Link != (Link{}) {
		scheme, address, _ := strings.Cut(p.URL, "://")
		p.URL = scheme + "://" + o.Link.Start(t, address)
	}
	return p
}

// Forward returns a handler that asks the server at target, whose certificate it
// does not verify. transport may be nil. The Host header stays as the client sent
// it. When the server can't be asked, or the client's request breaks off, the
// connection ends.
func Forward(t testing.TB, target string, transport http.RoundTripper) http.Handler {
	t.Helper()
	u, err := url.Parse(target)
	if err != nil {
		t.Fatal(err)
	}
	u.Path = ""
	if transport == nil {
		own := &http.Transport{
			TLSClientConfig:    &tls.Config{InsecureSkipVerify: true}, //nolint:gosec // of the test's own server
			DisableCompression: true, MaxIdleConnsPerHost: 128,
		}
		t.Cleanup(own.CloseIdleConnections)
		transport = own
	}
	return &httputil.ReverseProxy{
		Transport: transport,
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(u)
			r.Out.Host = r.In.Host
		},
		// A client that goes away is what many tests are about: no log.
		ErrorHandler: func(http.ResponseWriter, *http.Request, error) { panic(http.ErrAbortHandler) },
		ErrorLog:     log.New(io.Discard, "", 0),
	}
}

// Fault is something that happens to some requests.
type Fault struct {
	// Match picks the requests; nil for all.
	Match func(*http.Request) bool
	// Skip is how many of those pass before, Times how many are hit; 0 means one,
	// less than 0 all.
	Skip, Times int
	// Do is what happens.
	Do Effect

	met int // requests that matched
	hit int
}

// Effect answers a request in place of next, or lets next answer.
type Effect func(w http.ResponseWriter, r *http.Request, next http.Handler)

// Add adds a fault; of several that fit a request the first counts.
func (p *Proxy) Add(f Fault) *Fault {
	p.mu.Lock()
	defer p.mu.Unlock()
	if f.Times == 0 {
		f.Times = 1
	}
	added := &f
	p.faults = append(p.faults, added)
	return added
}

// Clear takes all faults back.
func (p *Proxy) Clear() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.faults = nil
}

// Hits is how many requests the fault has hit.
func (p *Proxy) Hits(f *Fault) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return f.hit
}

// Watch has fn called with every request before it meets a fault. fn may wrap the
// body.
func (p *Proxy) Watch(fn func(*http.Request)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.watch = fn
}

// Requests is how many came in so far.
func (p *Proxy) Requests() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.requests
}

// Settle waits until the server is done with what came in: a client that was killed
// does not stop what it asked for.
func (p *Proxy) Settle() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for p.active > 0 {
		p.settled.Wait()
	}
}

// enter counts a request that came in, and done one that is answered or broken off.
func (p *Proxy) enter() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.active++
}

func (p *Proxy) done() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.active--; p.active == 0 {
		p.settled.Broadcast()
	}
}

// ServeHTTP lets the request meet the faults.
func (p *Proxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	p.enter()
	defer p.done()
	if effect := p.pick(r); effect != nil {
		effect(w, r, p.next)
		return
	}
	p.next.ServeHTTP(w, r)
}

func (p *Proxy) pick(r *http.Request) Effect {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.requests++
	if p.watch != nil {
		p.watch(r)
	}
	for _, f := range p.faults {
		if f.Match != nil && !f.Match(r) {
			continue
		}
		f.met++
		if f.met > f.Skip && (f.Times < 0 || f.hit < f.Times) {
			f.hit++
			return f.Do
		}
	}
	return nil
}

// Answer answers without asking the server: a storm of 503, a throttled or
// expired client. body may be empty.
func Answer(status int, header http.Header, body string) Effect {
	return func(w http.ResponseWriter, r *http.Request, _ http.Handler) {
		// The client sends all it has: a server that answers and closes in the
		// middle would make two faults of one.
		_, _ = io.Copy(io.Discard, r.Body)
		for key, values := range header {
			w.Header()[key] = values
		}
		w.Header().Set("Content-Length", fmt.Sprint(len(body)))
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	}
}

// CutRequest breaks the connection after n bytes of the request's body, before
// the server has heard of it.
func CutRequest(n int64) Effect {
	return func(_ http.ResponseWriter, r *http.Request, _ http.Handler) {
		_, _ = io.CopyN(io.Discard, r.Body, n)
		panic(http.ErrAbortHandler)
	}
}

// CutMidway breaks the connections of both sides after n bytes of the request's
// body: the server has heard of it, and hears no end.
func CutMidway(n int64) Effect {
	return func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		r.Body = &cut{r.Body, n}
		next.ServeHTTP(w, r)
	}
}

// cut is a body that breaks off.
type cut struct {
	io.ReadCloser
	left int64
}

func (c *cut) Read(b []byte) (int, error) {
	if c.left <= 0 {
		return 0, io.ErrUnexpectedEOF
	}
	n, err := c.ReadCloser.Read(b[:min(int64(len(b)), c.left)])
	c.left -= int64(n)
	return n, err
}

// Flip inverts a byte of the request's body, counted from 1.
func Flip(at int64) Effect {
	return func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		r.Body = &flip{r.Body, at}
		next.ServeHTTP(w, r)
	}
}

// flip is a body with a damaged byte.
type flip struct {
	io.ReadCloser
	left int64
}

func (f *flip) Read(b []byte) (int, error) {
	n, err := f.ReadCloser.Read(b)
	if f.left > 0 && f.left <= int64(n) {
		b[f.left-1] ^= 0xff
	}
	f.left -= int64(n)
	return n, err
}

// CutAnswer lets the server do what was asked, and breaks the connection after n
// bytes of its answer's body; with 0 the client hears nothing.
func CutAnswer(n int) Effect {
	return func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		answer := httptest.NewRecorder()
		next.ServeHTTP(answer, r)
		if n > 0 {
			body := answer.Body.Bytes()
			for key, values := range answer.Header() {
				w.Header()[key] = values
			}
			w.Header().Set("Content-Length", fmt.Sprint(len(body)))
			w.WriteHeader(answer.Code)
			_, _ = w.Write(body[:min(n, len(body))])
			_ = http.NewResponseController(w).Flush()
			if n >= len(body) {
				return
			}
		}
		panic(http.ErrAbortHandler)
	}
}

// Slow asks the server after a while.
func Slow(d time.Duration) Effect {
	return func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		select {
		case <-time.After(d):
			next.ServeHTTP(w, r)
		case <-r.Context().Done():
		}
	}
}
