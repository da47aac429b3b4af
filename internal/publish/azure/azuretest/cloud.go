package azuretest

import (
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"testing"
)

// Subscription is the one that Resources has.
const Subscription = "6ba7b810-9dad-11d1-80b4-00c04fd430c8"

// Start starts a server that answers for Resource Manager and, below the account's
// name, for Azurite. It has a certificate that httptest makes.
func Start(t testing.TB, resources *Resources, azurite *Azurite) *httptest.Server {
	t.Helper()
	target, err := url.Parse(azurite.Endpoint)
	if err != nil {
		t.Fatal(err)
	}
	blobs := &httputil.ReverseProxy{
		Transport: azurite.Client.Transport,
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(target)
			r.Out.Host = r.In.Host
		},
		// A client that goes away is what many tests are about: no log.
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, _ error) { panic(http.ErrAbortHandler) },
	}
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.URL.Path, "/"+Account+"/") {
			resources.pages(r)
			blobs.ServeHTTP(w, r)
			return
		}
		resources.ServeHTTP(w, r)
	}))
	server.Config.ErrorLog = quiet
	server.StartTLS()
	t.Cleanup(func() {
		server.CloseClientConnections()
		server.Close()
	})
	return server
}
