package engine

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/containerd/platforms"
	"github.com/moby/buildkit/client"
	_ "github.com/moby/buildkit/client/connhelper/dockercontainer" // registers docker-container://
	_ "github.com/moby/buildkit/client/connhelper/kubepod"         // registers kube-pod://
	_ "github.com/moby/buildkit/client/connhelper/npipe"           // registers npipe://
	_ "github.com/moby/buildkit/client/connhelper/podmancontainer" // registers podman-container://
	_ "github.com/moby/buildkit/client/connhelper/ssh"             // registers ssh://
	gateway "github.com/moby/buildkit/frontend/gateway/client"
	"github.com/moby/buildkit/solver/pb"
	"github.com/moby/buildkit/util/apicaps"
	"github.com/moby/buildkit/util/grpcerrors"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"
	"google.golang.org/grpc/codes"

	"nodesmith.dev/nodesmith/internal/fault"
)

// answerWithin is how long a remote engine may take to answer at all; a way
// through ssh or a cluster takes a few seconds.
const answerWithin = 30 * time.Second

// platform is what steps are compiled for.
var platform = platforms.MustParse("linux/amd64")

// Remote is a BuildKit daemon, used in place of the embedded engine.
type Remote struct {
	// Address is unix:///path, tcp://host:port, ssh://user@host,
	// docker-container://name, kube-pod://pod or the like; empty for none.
	Address string
	// TLS is for tcp:// alone.
	TLS TLS
}

// TLS names what both ends of a connection prove themselves with. With nothing
// set the connection is plain.
type TLS struct {
	// CA is the PEM file of who signed the daemon's certificate; empty for the
	// system's own.
	CA string
	// Certificate and Key are the client's PEM files; both or none.
	Certificate, Key string
	// ServerName is what the daemon's certificate names; empty for the host of
	// the address.
	ServerName string
}

// remedies has the kinds of addresses, and what to look at when nobody answers.
var remedies = map[string]string{
	"unix":             "start buildkitd there, and be a user who may open its socket",
	"npipe":            "start buildkitd there, and be a user who may open its pipe",
	"tcp":              "look whether buildkitd listens there, and whether its TLS files and yours (--engine-tls-*) belong together",
	"ssh":              "`ssh HOST buildctl debug workers` has to work without a question, with the same HOST",
	"docker-container": "`docker exec NAME buildctl debug workers` has to work",
	"podman-container": "`podman exec NAME buildctl debug workers` has to work",
	"kube-pod":         "`kubectl exec POD -- buildctl debug workers` has to work",
}

// needs are the features of a daemon that graphs use beyond the oldest ones;
// BuildKit has all of them since v0.11.
var needs = []apicaps.CapID{
	pb.CapSourceOCILayout, pb.CapMergeOp, pb.CapFileCopyIncludeExcludePatterns, pb.CapFileRmWildcard,
	pb.CapExecMountCacheSharing, pb.CapExecMountContentCache, pb.CapExecMetaNetwork,
}

// Validate says what is wrong with the address or the files' combination.
func (r Remote) Validate() error {
	if r == (Remote{}) {
		return nil
	}
	u, err := url.Parse(r.Address)
	if err != nil || remedies[u.Scheme] == "" || u.Host+u.Path == "" {
		return fault.New(fault.Usage, "addresses begin with "+strings.Join(slices.Sorted(maps.Keys(remedies)), "://, ")+"://",
			"%q is no address of an engine", r.Address)
	}
	switch {
	case r.TLS == TLS{}:
		return nil
	case u.Scheme != "tcp":
		return fault.New(fault.Usage, "", "engine %s: TLS is for tcp:// alone", r.Address)
	case (r.TLS.Certificate == "") != (r.TLS.Key == ""):
		return fault.New(fault.Usage, "", "engine %s: a client's certificate and its key go together", r.Address)
	}
	return nil
}

// dial connects to options.Remote and looks whether it can run what graphs ask.
func dial(ctx context.Context, options Options) (connection, error) {
	r := options.Remote
	if r.open() {
		options.Log("the connection to %s is not encrypted: whoever is on the way can change what is built", r.Address)
	}
	c, err := client.New(ctx, r.Address, append(r.TLS.options(r.host()), untilInterrupted(ctx.Done()))...)
	if err != nil {
		return connection{}, fault.New(fault.Usage, "", "engine %s: %w", r.Address, err)
	}
	if err := r.check(ctx, c); err != nil {
		return connection{}, errors.Join(err, c.Close())
	}
	return connection{client: c, remote: true, close: c.Close}, nil
}

// host is the host of a tcp:// address.
func (r Remote) host() string {
	u, err := url.Parse(r.Address)
	if err != nil {
		return ""
	}
	return u.Hostname()
}

// open says whether others can read and change what is sent.
func (r Remote) open() bool {
	if r.TLS != (TLS{}) || !strings.HasPrefix(r.Address, "tcp://") || r.host() == "localhost" {
		return false
	}
	ip := net.ParseIP(r.host())
	return ip == nil || !ip.IsLoopback()
}

// options returns the client's options for a daemon on host.
func (t TLS) options(host string) []client.ClientOpt {
	if t == (TLS{}) {
		return nil
	}
	name := t.ServerName
	if name == "" {
		name = host
	}
	options := []client.ClientOpt{client.WithServerConfigSystem(name)}
	if t.CA != "" {
		options[0] = client.WithServerConfig(name, t.CA)
	}
	if t.Certificate != "" {
		options = append(options, client.WithCredentials(t.Certificate, t.Key))
	}
	return options
}

// check asks the daemon who it is.
func (r Remote) check(ctx context.Context, c *client.Client) error {
	ctx, cancel := context.WithTimeoutCause(ctx, answerWithin, fmt.Errorf("no answer in %s", answerWithin))
	defer cancel()
	workers, err := c.ListWorkers(ctx)
	if err != nil {
		return r.refusal(ctx, err)
	}
	if len(workers) == 0 {
		return fault.New(fault.Engine, "give it a worker (buildkitd --oci-worker=true)", "engine %s has no worker", r.Address)
	}
	// The daemon runs a solve on its first worker.
	if err := r.runs(workers[0].Platforms); err != nil {
		return err
	}
	return r.checkFeatures(ctx, c)
}

// runs fails unless steps can run on one of the platforms.
func (r Remote) runs(has []ocispecs.Platform) error {
	if slices.ContainsFunc(has, platforms.OnlyStrict(platform).Match) {
		return nil
	}
	names := make([]string, len(has))
	for i, p := range has {
		names[i] = platforms.Format(p)
	}
	return fault.New(fault.Engine, "take an engine on amd64, or install QEMU's user emulation for amd64 there (binfmt)",
		"engine %s runs %s, not %s", r.Address, strings.Join(names, ", "), platforms.Format(platform))
}

// checkFeatures fails unless the daemon knows what graphs are made of.
func (r Remote) checkFeatures(ctx context.Context, c *client.Client) error {
	var missing error
	_, err := c.Build(ctx, client.SolveOpt{Internal: true}, "nodesmith", func(_ context.Context, c gateway.Client) (*gateway.Result, error) {
		known := c.BuildOpts().LLBCaps
		for _, need := range needs {
			missing = errors.Join(missing, known.Supports(need))
		}
		return gateway.NewResult(), nil
	}, nil)
	if missing != nil {
		version := "an unknown version"
		if info, err := c.Info(ctx); err == nil {
			version = info.BuildkitVersion.Version
		}
		return fault.New(fault.Engine, "update it to BuildKit v0.11 or newer", "engine %s is too old (%s): %w", r.Address, version, missing)
	}
	if err != nil {
		return r.refusal(ctx, err)
	}
	return nil
}

// refusal explains why there is no answer, or not the one of an engine.
func (r Remote) refusal(ctx context.Context, err error) error {
	if errors.Is(ctx.Err(), context.Canceled) {
		return fault.New(fault.Interrupted, "", "engine %s: %w", r.Address, context.Cause(ctx))
	}
	if ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	scheme, _, _ := strings.Cut(r.Address, ":")
	switch grpcerrors.Code(err) {
	case codes.Unimplemented:
		return fault.New(fault.Engine, "give the address of a buildkitd", "engine %s: what answers there is no BuildKit: %w", r.Address, rootCause(err))
	case codes.PermissionDenied, codes.Unauthenticated:
		return fault.New(fault.Engine, remedies[scheme], "engine %s refuses: %w", r.Address, rootCause(err))
	default:
		return fault.New(fault.Network, remedies[scheme], "engine %s does not answer: %w", r.Address, rootCause(err))
	}
}

// lost says that the daemon went away during a solve.
func (r Remote) lost(title string, failure error) error {
	return fault.New(fault.Network, "see that it runs, then run the same command again: what it had finished is in its cache",
		"%s: the connection to engine %s is lost: %w", title, r.Address, rootCause(failure))
}
