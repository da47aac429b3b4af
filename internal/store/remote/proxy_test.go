package remote_test

import (
	"context"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"testing"
	"time"

	"nodesmith.dev/nodesmith/internal/testenv"
)

// proxyTo passes requests on to a server on a unix socket, as soon as that listens.
func proxyTo(t *testing.T, socket string) http.Handler {
	t.Helper()
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", socket)
	}
	testenv.Eventually(t, time.Minute, func() error {
		conn, err := dial(t.Context(), "", "")
		if err == nil {
			_ = conn.Close()
		}
		return err
	})
	return &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(&url.URL{Scheme: "http", Host: r.In.Host}) // which answers name
			r.Out.Host = r.In.Host
		},
		Transport: &http.Transport{DialContext: dial},
	}
}
