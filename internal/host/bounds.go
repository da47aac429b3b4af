package host

import (
	"slices"
	"strings"

	"nodesmith.dev/nodesmith/api/v1alpha1"
	"nodesmith.dev/nodesmith/internal/fault"
)

// Amount is a number of bytes. Its text form is 0, or a size of a NodeImage with
// or without a B behind it: 20GiB, 20Gi, 500MB.
type Amount int64

// UnmarshalText reads the text form.
func (a *Amount) UnmarshalText(text []byte) error {
	if string(text) == "0" {
		*a = 0
		return nil
	}
	var size v1alpha1.Size
	if err := size.UnmarshalText([]byte(strings.TrimSuffix(string(text), "B"))); err != nil {
		return fault.New(fault.Usage, "", "%q is no size: give one such as 20GiB, 500MB or 0", text)
	}
	*a = Amount(size)
	return nil
}

// MarshalText returns the amount in the largest unit of 1024 that holds it exactly.
func (a Amount) MarshalText() ([]byte, error) { return []byte(a.String()), nil }

// String is the text form.
func (a Amount) String() string {
	text := v1alpha1.Size(a).String()
	if strings.HasSuffix(text, "i") {
		text += "B"
	}
	return text
}

// Bounds say how much of each kind of cache is kept (internal/housekeeping). A
// build may exceed them; they hold again after it.
type Bounds struct {
	// Engine is for what the build engine keeps of steps, Compile for what of that
	// compilers keep from one build to the next.
	Engine  Amount `json:"engine"`
	Compile Amount `json:"compile"`
	// Downloads is for packages and their indices, Go for Go modules and
	// toolchains, Images for pulled container images.
	Downloads Amount `json:"downloads"`
	Go        Amount `json:"go"`
	Images    Amount `json:"images"`
	// Inputs is for what was handed to the engine.
	Inputs Amount `json:"inputs"`
	// Blocks is for compressed blocks of disks.
	Blocks Amount `json:"blocks"`
	// Journals is for those of publishing, which are no cache.
	Journals Amount `json:"journals"`
}

// DefaultBounds keep about eight Kubernetes versions on two operating systems.
var DefaultBounds = Bounds{
	Engine: 50 << 30, Compile: 10 << 30, Downloads: 10 << 30, Go: 15 << 30, Images: 10 << 30, Inputs: 10 << 30, Blocks: 4 << 30,
	Journals: 64 << 20,
}

// BoundNames are the names of the bounds as the configuration file has them.
var BoundNames = []string{"engine", "compile", "downloads", "go", "images", "inputs", "blocks", "journals"}

// Of returns the bound of that name; nil if there is none.
func (b *Bounds) Of(name string) *Amount {
	each := []*Amount{&b.Engine, &b.Compile, &b.Downloads, &b.Go, &b.Images, &b.Inputs, &b.Blocks, &b.Journals}
	if i := slices.Index(BoundNames, name); i >= 0 {
		return each[i]
	}
	return nil
}
