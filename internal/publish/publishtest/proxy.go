package publishtest

import (
	"crypto/tls"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"sync"
	"testing"
	"time"
)

// Proxy stands in front of a server and spoils what passes through it.
type Proxy struct {
	// URL is the proxy's address, with the path of the server's.
	URL *url.URL
	// Certificate is what it shows, if the server has TLS.
	Server *httptest.Server

	mu       sync.Mutex
	faults   []*Fault
	watch    func(*http.Request)
	requests int
}

// Fault is one way to spoil requests.
type Fault struct {
	// Match chooses requests; nil for all.
	Match func(*http.Request) bool
	// Skip lets so many of them pass first, Times spoils so many; 0 means one.
	Skip, Times int
	// Status is answered in the server's place, with Header, if it is not 0.
	Status int
	Header http.Header
	// Body is answered with Status.
	Body string
	// Cut ends the connection when the request's body has sent so many bytes, if
	// it is not 0; less than 0 means at once.
	Cut int64
	// Flip inverts the request body's byte at this offset, from 1.
	Flip int64
	// LoseAnswer lets the server carry out the request, and ends the connection
	// in the place of the answer.
	LoseAnswer bool
	// Delay is a wait before the request goes on.
	Delay time.Duration
}

// errSpoiled is what a spoiled request ends with.
var errSpoiled = errors.New("spoiled by the test")

// NewProxy starts a proxy in front of the server at target, with TLS if it has.
func NewProxy(t testing.TB, target *url.URL) *Proxy {
	t.Helper()
	p := &Proxy{}
	transport := &http.Transport{
		TLSClientConfig:    &tls.Config{InsecureSkipVerify: true}, //nolint:gosec // of the test's own server
		DisableCompression: true, MaxIdleConnsPerHost: 64,
	}
	t.Cleanup(transport.CloseIdleConnections)
	forward := &httputil.ReverseProxy{
		Transport: transport,
		Rewrite: func(r *httputil.ProxyRequest) {
			r.Out.URL.Scheme, r.Out.URL.Host = target.Scheme, target.Host
			r.Out.Host = r.In.Host
		},
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, _ error) { end(w) },
		ModifyResponse: func(r *http.Response) error {
			if f, ok := r.Request.Context().Value(faultKey{}).(*Fault); ok && f.LoseAnswer {
				return errSpoiled
			}
			return nil
		},
	}
	p.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { p.serve(forward, w, r) }))
	if target.Scheme == "https" {
		p.Server.StartTLS()
	} else {
		p.Server.Start()
	}
	t.Cleanup(p.Server.Close)
	address, err := url.Parse(p.Server.URL)
	if err != nil {
		t.Fatal(err)
	}
	p.URL = target.ResolveReference(&url.URL{})
	p.URL.Host = address.Host
	return p
}

// Spoil adds a fault.
func (p *Proxy) Spoil(f Fault) {
	if f.Times == 0 {
		f.Times = 1
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.faults = append(p.faults, &f)
}

// Heal takes all faults away.
func (p *Proxy) Heal() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.faults = nil
}

// Watch has fn called with every request, before it is spoiled or forwarded. fn
// may read the body if it puts it back.
func (p *Proxy) Watch(fn func(*http.Request)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.watch = fn
}

// Requests is how many requests came in so far.
func (p *Proxy) Requests() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.requests
}

// next returns the fault of a request, nil for none.
func (p *Proxy) next(r *http.Request) *Fault {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.requests++
	if p.watch != nil {
		p.watch(r)
	}
	for _, f := range p.faults {
		if f.Times <= 0 || f.Match != nil && !f.Match(r) {
			continue
		}
		if f.Skip > 0 {
			f.Skip--
			continue
		}
		f.Times--
		return f
	}
	return nil
}

type faultKey struct{}

func (p *Proxy) serve(forward http.Handler, w http.ResponseWriter, r *http.Request) {
	f := p.next(r)
	if f == nil {
		forward.ServeHTTP(w, r)
		return
	}
	if f.Delay > 0 {
		select {
		case <-time.After(f.Delay):
		case <-r.Context().Done():
		}
	}
	switch {
	case f.Status != 0:
		for name, values := range f.Header {
			w.Header()[name] = values
		}
		w.WriteHeader(f.Status)
		_, _ = io.WriteString(w, f.Body)
	case f.Cut < 0:
		end(w)
	default:
		if f.Cut > 0 {
			r.Body = &cut{r.Body, f.Cut}
		}
		if f.Flip > 0 {
			r.Body = &flip{r.Body, f.Flip}
		}
		forward.ServeHTTP(w, r.WithContext(contextWith(r, f)))
	}
}

// end breaks the connection off.
func end(w http.ResponseWriter) {
	if h, ok := w.(http.Hijacker); ok {
		if c, _, err := h.Hijack(); err == nil {
			_ = c.Close()
			return
		}
	}
	panic(http.ErrAbortHandler) // HTTP/2
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

// cut is a body that breaks off.
type cut struct {
	io.ReadCloser
	left int64
}

func (c *cut) Read(b []byte) (int, error) {
	if c.left <= 0 {
		return 0, errSpoiled
	}
	n, err := c.ReadCloser.Read(b[:min(int64(len(b)), c.left)])
	c.left -= int64(n)
	return n, err
}
