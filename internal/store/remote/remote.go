// Package remote copies images between a store and OCI registries.
//
// What comes in is an image of the store, or the name of one in a registry; what
// goes out is the same image on the other side, with the reports on its disks.
// Only blobs that the other side lacks are sent, several at a time, streamed: a
// copy that was interrupted goes on with the blob where it stopped. An image gets
// its name when all of it is there. What arrives is checked against its digest,
// and manifests against the bounds of the store. Credentials are those of the
// machine's container tools (docker login, podman login); none is kept.
package remote

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"

	"nodesmith.dev/nodesmith/internal/fault"
	"nodesmith.dev/nodesmith/internal/store"
)

// Options say where images are and how to get there.
type Options struct {
	// Registry is where repositories are: registry.example.com/team. An image's
	// repository is its name below that.
	Registry string
	// PlainHTTP allows a registry without TLS that is not on this machine.
	PlainHTTP bool
	// Jobs is how many blobs are on their way at once; 0 means 8.
	Jobs int
	// Log takes a line for what takes a while; nil for none.
	Log func(format string, args ...any)
}

// Summary is what was copied, and what was there.
type Summary struct{ Sent, There store.Usage }

// client is a repository of a registry.
type client struct {
	repository name.Repository
	jobs       int
	log        func(format string, args ...any)
	pusher     *remote.Pusher
	puller     *remote.Puller
	options    []remote.Option
}

// defaultJobs is enough to fill a link whose answers take a while.
const defaultJobs = 8

func connect(ctx context.Context, image string, o Options) (*client, error) {
	var names []name.Option
	if o.PlainHTTP {
		names = append(names, name.Insecure)
	}
	repository, err := name.NewRepository(strings.TrimSuffix(o.Registry, "/")+"/"+image, append(names, name.StrictValidation)...)
	if err != nil {
		return nil, fault.New(fault.Usage, "give it as in registry.example.com/team", "registry %q: %w", o.Registry, err)
	}
	c := &client{repository: repository, jobs: o.Jobs, log: o.Log}
	if c.jobs <= 0 {
		c.jobs = defaultJobs
	}
	if c.log == nil {
		c.log = func(string, ...any) {}
	}
	options := []remote.Option{
		remote.WithContext(ctx), remote.WithAuthFromKeychain(authn.DefaultKeychain), remote.WithUserAgent("nodesmith"), remote.WithJobs(c.jobs),
		remote.WithTransport(guard{remote.DefaultTransport, o.PlainHTTP}), remote.WithReferrersTagFallback(true),
	}
	if c.pusher, err = remote.NewPusher(options...); err != nil {
		return nil, err
	}
	if c.puller, err = remote.NewPuller(options...); err != nil {
		return nil, err
	}
	c.options = options
	return c, nil
}

// guard keeps images and credentials off networks in plain text.
type guard struct {
	next  http.RoundTripper
	plain bool
}

var errPlain = errors.New("it does not speak TLS")

// RoundTrip refuses requests without TLS to other machines.
func (g guard) RoundTrip(r *http.Request) (*http.Response, error) {
	host := r.URL.Hostname()
	ip := net.ParseIP(host)
	if r.URL.Scheme == "http" && !g.plain && host != "localhost" && (ip == nil || !ip.IsLoopback()) {
		return nil, fmt.Errorf("registry %s: %w", host, errPlain)
	}
	return g.next.RoundTrip(r)
}

// failed says what the registry's answer means for the user.
func (c *client) failed(image string, err error) error {
	host := c.repository.RegistryStr()
	answer, answered := errors.AsType[*transport.Error](err)
	switch {
	case errors.Is(err, context.Canceled), fault.KindOf(err) != fault.Internal:
		return err
	case errors.Is(err, errPlain):
		return fault.New(fault.Network, "--plain-http allows that, for a network that you trust", "%s: %w", image, err)
	case answered && (answer.StatusCode == http.StatusUnauthorized || answer.StatusCode == http.StatusForbidden):
		return fault.New(fault.Network, fmt.Sprintf("log in with docker login %s or podman login %s", host, host),
			"%s: registry %s refuses access: %w", image, host, err)
	case answered && answer.StatusCode == http.StatusNotFound:
		return fault.New(fault.Usage, "check the name and the registry", "%s is not in %s: %w", image, c.repository, err)
	}
	return fault.New(fault.Network, "run it again: what has arrived stays", "%s: registry %s: %w", image, host, err)
}
