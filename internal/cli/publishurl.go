package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"path"
	"path/filepath"
	"strings"

	"github.com/opencontainers/go-digest"

	"nodesmith.dev/nodesmith/internal/fault"
	"nodesmith.dev/nodesmith/internal/fetch"
	"nodesmith.dev/nodesmith/internal/format/known"
	"nodesmith.dev/nodesmith/internal/host"
	"nodesmith.dev/nodesmith/internal/housekeeping"
	"nodesmith.dev/nodesmith/internal/manifest"
	"nodesmith.dev/nodesmith/internal/publish"
)

// maxManifest bounds a manifest that comes from a server, in bytes: an image's with
// 2,000 packages and as many Go modules has one.
const maxManifest = 64 << 20

// imageURL is an image on a web server, with the digest of its file:
// https://images.example.com/debian-12-vsphere.ova#sha256:DIGITS.
type imageURL struct {
	file   *url.URL // without the digest
	sha256 string
}

// isURL says whether an argument is meant as the address of an image.
func isURL(argument string) bool {
	return strings.HasPrefix(argument, "https://") || strings.HasPrefix(argument, "http://")
}

func parseImageURL(argument string) (u imageURL, err error) {
	if u.file, err = url.Parse(argument); err != nil || u.file.Host == "" {
		return u, fault.New(fault.Usage, "", "%s is no address", argument)
	}
	sum, err := digest.Parse(u.file.Fragment)
	if err != nil || sum.Algorithm() != digest.SHA256 {
		return u, fault.New(fault.Usage, "add #sha256: and what sha256sum prints for the file", "%s does not say which digest the file has", fetch.Redacted(u.file))
	}
	u.file.Fragment, u.sha256 = "", sum.Encoded()
	return u, nil
}

// manifest is where the image's manifest is: beside it, as build writes it.
func (u imageURL) manifest() (string, error) {
	for _, suffix := range known.Suffixes() {
		if base, ok := strings.CutSuffix(u.file.Path, suffix); ok {
			beside := *u.file
			beside.Path, beside.RawPath = base+manifest.Suffix, ""
			return beside.String(), nil
		}
	}
	return "", fault.New(fault.Usage, "", "%s does not end in %s", path.Base(u.file.Path), strings.Join(known.Suffixes(), ", "))
}

// openRemote fetches an image and opens it. It is hashed as it arrives, and lies in
// the cache of downloads, where the next run finds it.
func openRemote(ctx context.Context, argument, infrastructure string, notices io.Writer) (_ publish.Image, _ io.Closer, err error) {
	u, err := parseImageURL(argument)
	if err != nil {
		return publish.Image{}, nil, err
	}
	beside, err := u.manifest()
	if err != nil {
		return publish.Image{}, nil, err
	}
	settings, err := host.Read()
	if err != nil {
		return publish.Image{}, nil, err
	}
	lease, err := housekeeping.Use(ctx, settings.CacheDir, func(format string, args ...any) {
		_, _ = fmt.Fprintf(notices, format+"\n", args...)
	})
	if err != nil {
		return publish.Image{}, nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, lease.Close())
		}
	}()
	cache := fetch.New(filepath.Join(settings.CacheDir, "downloads"), settings.Mirrors)
	text, err := cache.Get(ctx, beside, maxManifest)
	if err != nil {
		return publish.Image{}, nil, err
	}
	about, err := manifest.Parse(path.Base(beside), text)
	if err != nil {
		return publish.Image{}, nil, err
	}
	if err := builtFor(fetch.Redacted(u.file), about, infrastructure); err != nil {
		return publish.Image{}, nil, err
	}
	file, err := cache.Fetch(ctx, fetch.File{URL: u.file.String(), SHA256: u.sha256, Size: fetch.UnknownSize})
	if err != nil {
		return publish.Image{}, nil, err
	}
	image, closer, err := openFile(ctx, file, about)
	image.Reference = fetch.Redacted(u.file)
	return image, closers{closer, lease}, err
}

// closers are closed one after another.
type closers []io.Closer

// Close closes all of them.
func (c closers) Close() (err error) {
	for _, one := range c {
		if one != nil {
			err = errors.Join(err, one.Close())
		}
	}
	return err
}
