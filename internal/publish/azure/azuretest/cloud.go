package azuretest

import (
	"net/http"
	"strings"
	"testing"

	"nodesmith.dev/nodesmith/internal/publish/publishtest/faultproxy"
)

// Subscription is the one that Resources has.
const Subscription = "6ba7b810-9dad-11d1-80b4-00c04fd430c8"

// Handler answers for Resource Manager and, below the account's name, for Azurite.
func Handler(t testing.TB, resources *Resources, azurite *Azurite) http.Handler {
	t.Helper()
	blobs := faultproxy.Forward(t, azurite.Endpoint, azurite.Client.Transport)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.URL.Path, "/"+Account+"/") {
			resources.pages(r)
			blobs.ServeHTTP(w, r)
			return
		}
		resources.ServeHTTP(w, r)
	})
}
