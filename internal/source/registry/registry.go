// Package registry is the source of container images that are published.
//
// What comes in is an image's full name, perhaps with the digest that it has to
// have; what goes out is a lock.PulledImage, and later the same image as an OCI
// layout in a folder. Every blob is checked against its digest as it arrives,
// and a folder gets its name only when it is whole. Credentials are those of
// the machine's container tools (docker login, podman login); none is kept.
package registry

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"

	"nodesmith.dev/nodesmith/internal/bundle"
	"nodesmith.dev/nodesmith/internal/fault"
	"nodesmith.dev/nodesmith/internal/lock"
	"nodesmith.dev/nodesmith/internal/lru"
	"nodesmith.dev/nodesmith/internal/transfer"
)

// options are those of every call to a registry.
func options(ctx context.Context, architecture string) []remote.Option {
	return []remote.Option{
		remote.WithContext(ctx), remote.WithAuthFromKeychain(authn.DefaultKeychain), remote.WithUserAgent("nodesmith"),
		remote.WithPlatform(v1.Platform{OS: "linux", Architecture: architecture}), remote.WithTransport(transfer.Transport(remote.DefaultTransport)),
	}
}

// Lock asks the registry what the image of that name is now, for one
// architecture. It fails with fault.Unverifiable unless that has the digest
// want, which may be the manifest's or that of the list it stands in.
func Lock(ctx context.Context, image, want, architecture string) (lock.PulledImage, error) {
	reference, err := name.ParseReference(image)
	if err != nil {
		return lock.PulledImage{}, fault.New(fault.BadSpec, "", "container image %s: %w", image, err)
	}
	pointsAt, err := remote.Get(reference, options(ctx, architecture)...)
	if err != nil {
		return lock.PulledImage{}, failed(image, reference, err)
	}
	manifest, err := pointsAt.Image()
	if err != nil {
		return lock.PulledImage{}, failed(image, reference, err)
	}
	digest, err := manifest.Digest()
	if err != nil {
		return lock.PulledImage{}, failed(image, reference, err)
	}
	if want != "" && want != digest.String() && want != pointsAt.Digest.String() {
		return lock.PulledImage{}, fault.New(fault.Unverifiable, "set the digest to the new one if the change is wanted",
			"container image %s is %s now, not %s", image, pointsAt.Digest, want)
	}
	size, err := pullSize(manifest)
	if err != nil {
		return lock.PulledImage{}, failed(image, reference, err)
	}
	return lock.PulledImage{Name: image, Digest: digest.String(), Size: size}, nil
}

// pullSize adds up the blobs that an image's manifest names, in bytes.
func pullSize(image v1.Image) (int64, error) {
	manifest, err := image.Manifest()
	if err != nil {
		return 0, err
	}
	size := manifest.Config.Size
	for _, layer := range manifest.Layers {
		size += layer.Size
	}
	return size, nil
}

// Fetch returns the folder below dir that holds the locked image as an OCI
// layout; it pulls what is not there yet.
func Fetch(ctx context.Context, dir string, image lock.PulledImage, architecture string) (string, error) {
	digest, err := v1.NewHash(image.Digest)
	if err != nil {
		return "", fault.New(fault.BadSpec, "run nodesmith lock", "locked container image %s: %w", image.Name, err)
	}
	final := filepath.Join(dir, digest.Algorithm, digest.Hex)
	if _, err := os.Stat(final); err == nil {
		lru.Touch(final)
		return final, nil
	}
	reference, err := name.ParseReference(image.Name)
	if err != nil {
		return "", fault.New(fault.BadSpec, "", "container image %s: %w", image.Name, err)
	}
	manifest, err := remote.Image(reference.Context().Digest(image.Digest), options(ctx, architecture)...)
	if err != nil {
		return "", failed(image.Name, reference, err)
	}
	if err := os.MkdirAll(filepath.Dir(final), 0o755); err != nil {
		return "", fault.NoSpaceOr(err)
	}
	pending, err := os.MkdirTemp(filepath.Dir(final), pulling+"*")
	if err != nil {
		return "", fault.NoSpaceOr(err)
	}
	defer os.RemoveAll(pending) // does nothing once the folder has its name
	target, err := layout.Write(pending, empty.Index)
	if err != nil {
		return "", fault.NoSpaceOr(err)
	}
	if err := target.AppendImage(manifest); err != nil {
		return "", fault.NoSpaceOr(failed(image.Name, reference, err))
	}
	if err := os.Chmod(pending, 0o755); err != nil {
		return "", err
	}
	err = os.Rename(pending, final)
	if _, there := os.Stat(final); err != nil && there == nil {
		return final, nil // another process was faster, with the same image
	}
	return final, err
}

// Missing returns what Fetch would pull.
func Missing(dir string, image lock.PulledImage) ([]bundle.Download, error) {
	digest, err := v1.NewHash(image.Digest)
	if err != nil {
		return nil, fault.New(fault.BadSpec, "run nodesmith lock", "locked container image %s: %w", image.Name, err)
	}
	if _, err := os.Stat(filepath.Join(dir, digest.Algorithm, digest.Hex)); err == nil {
		return nil, nil
	}
	return []bundle.Download{{Name: image.Name + "@" + image.Digest, SizeBytes: image.Size}}, nil
}

// failed says what the registry's answer means for the user.
func failed(image string, reference name.Reference, err error) error {
	answer, answered := errors.AsType[*transport.Error](err)
	host := reference.Context().RegistryStr()
	switch {
	case answered && (answer.StatusCode == http.StatusUnauthorized || answer.StatusCode == http.StatusForbidden):
		return fault.New(fault.Network, fmt.Sprintf("log in with docker login %s or podman login %s", host, host),
			"container image %s: the registry refuses access: %w", image, err)
	case answered && answer.StatusCode == http.StatusNotFound:
		return fault.New(fault.BadSpec, "check the name, or bring the image as an archive",
			"container image %s is not in the registry: %w", image, err)
	case strings.Contains(err.Error(), "no child with platform"):
		return fault.New(fault.BadSpec, "", "container image %s: %w", image, err)
	}
	return fault.New(fault.Network, "bring the image as an archive if this machine can't reach "+host, "container image %s: %w", image, err)
}
