package transfer_test

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"nodesmith.dev/nodesmith/internal/transfer"
)

func TestTheBytesOfAnswersAreCountedForWhoeverAsked(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, strings.Repeat("x", len(r.URL.Path)*1000))
	}))
	defer server.Close()
	client := &http.Client{Transport: transfer.Transport(http.DefaultTransport)}
	get := func(ctx context.Context, path string) {
		t.Helper()
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, server.URL+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		response, err := client.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.Copy(io.Discard, response.Body); err != nil {
			t.Error(err)
		}
		if err := response.Body.Close(); err != nil {
			t.Error(err)
		}
	}
	var one, other atomic.Int64
	first := transfer.Count(t.Context(), func(n int64) { one.Add(n) })
	second := transfer.Count(first, func(n int64) { other.Add(n) })
	get(first, "/")
	get(first, "/ab")
	get(second, "/abc")
	get(t.Context(), "/abcd") // nobody asks
	transfer.Add(second, 7)
	transfer.Add(t.Context(), 7)
	if one.Load() != 4000 || other.Load() != 4007 {
		t.Errorf("%d and %d bytes", one.Load(), other.Load())
	}
}
