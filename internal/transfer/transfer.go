// Package transfer counts what HTTP requests bring.
//
// What comes in are requests whose context has a counter; what goes out are the same
// answers, whose bodies tell the counter how many bytes were read. Who shows bytes
// and who asks for them are several packages apart: as with net/http/httptrace, the
// context carries the counter, and it changes nothing of what is asked. A request
// that is repeated counts again.
package transfer

import (
	"context"
	"io"
	"net/http"
)

type key struct{}

// Count returns a context whose requests tell add, from several goroutines at once,
// how many bytes more have come.
func Count(ctx context.Context, add func(n int64)) context.Context {
	return context.WithValue(ctx, key{}, add)
}

// Add tells the context's counter, if it has one, of bytes that need not come: they
// are here.
func Add(ctx context.Context, n int64) {
	if add, ok := ctx.Value(key{}).(func(int64)); ok {
		add(n)
	}
}

// Transport returns a transport that counts what next brings.
func Transport(next http.RoundTripper) http.RoundTripper { return transport{next} }

type transport struct{ next http.RoundTripper }

func (t transport) RoundTrip(r *http.Request) (*http.Response, error) {
	response, err := t.next.RoundTrip(r)
	if err == nil && r.Context().Value(key{}) != nil {
		response.Body = &body{response.Body, r.Context()}
	}
	return response, err
}

// body is an answer's body that is counted.
type body struct {
	io.ReadCloser
	request context.Context // of this one request, for its counter
}

func (b *body) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	Add(b.request, int64(n))
	return n, err
}
