package store

import (
	"regexp"
	"strings"

	"github.com/opencontainers/go-digest"

	"nodesmith.dev/nodesmith/internal/fault"
)

// Latest is the tag of the image that was built or pulled last.
const Latest = "latest"

// Reference is what a user calls an image: NAME, NAME:TAG, or
// NAME@sha256:DIGITS, of which the first few are enough.
type Reference struct {
	Name string
	// Tag is "" where Digest says which image is meant.
	Tag string
	// Digest begins the digest of the image's index: sha256:0123abcd.
	Digest string
}

// minDigits is how many digits of a digest name an image.
const minDigits = 6

var (
	goodName   = regexp.MustCompile(`^[a-z0-9]+(?:[._-]+[a-z0-9]+)*$`)
	goodTag    = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9._-]{0,127}$`)
	goodDigest = regexp.MustCompile(`^sha256:[0-9a-f]{6,64}$`)
)

// ParseReference reads a reference. Without a tag or a digest it means Latest.
func ParseReference(text string) (Reference, error) {
	r := Reference{Name: text}
	if name, digits, ok := strings.Cut(text, "@"); ok {
		r.Name, r.Digest = name, digits
	} else if name, tag, ok := strings.Cut(text, ":"); ok {
		r.Name, r.Tag = name, tag
	} else {
		r.Tag = Latest
	}
	switch {
	case !goodName.MatchString(r.Name) || len(r.Name) > 253:
		return r, fault.New(fault.Usage, "nodesmith images lists them", "%q is no name of an image: NAME, NAME:TAG or NAME@sha256:DIGITS", text)
	case r.Digest != "" && !goodDigest.MatchString(r.Digest):
		return r, fault.New(fault.Usage, "", "%q: a digest is sha256: and %d to 64 hexadecimal digits", text, minDigits)
	case r.Digest == "" && !goodTag.MatchString(r.Tag):
		return r, fault.New(fault.Usage, "", "%q: a tag is at most 128 letters, digits and ._-, and begins with no . or -", text)
	}
	return r, nil
}

// Short is the tag that stands for a digest: of its lock, for an image that is built.
func Short(d digest.Digest) string { return d.Encoded()[:12] }

// String is the reference as users write it.
func (r Reference) String() string {
	if r.Digest != "" {
		return r.Name + "@" + r.Digest
	}
	return r.Name + ":" + r.Tag
}
