// Package publish puts an image where clusters are made, and takes it back.
//
// What comes in is one disk with what is known of it; what goes out is a Plan,
// which says everything that would be made, kept or taken away, and how many
// bytes would be sent. Apply carries a Plan out: each step is in the journal
// before it begins, so a killed run leaves nothing that the next one does not
// find. Running again does nothing, or finishes what was begun. What is made
// carries the digest of its disk and the name of this project.
//
// The packages below are one infrastructure's API each; none of them retries,
// journals or shows progress by itself.
package publish

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"

	"nodesmith.dev/nodesmith/internal/format"
	"nodesmith.dev/nodesmith/internal/proof"
)

// Publisher is one place of one infrastructure: an account, a subscription, a
// vCenter. Its methods may be called at once.
type Publisher interface {
	// Place names it in plans and journals: "vsphere vc1.example.com".
	Place() string
	// Plan says what publishing the image takes, given what earlier runs noted
	// and what is there now. It changes nothing.
	Plan(ctx context.Context, image Image, earlier State) (*Plan, error)
	// List returns the images that are there and what uses them: those of this
	// project, and others that cluster tooling would find.
	List(ctx context.Context) ([]Published, error)
	// Retract says what taking an image away takes. It changes nothing.
	Retract(ctx context.Context, image digest.Digest, earlier State) (*Plan, error)
}

// Level says how far an image was proven; a greater one includes the lesser.
type Level = proof.Level

// The levels of verify.
const (
	Unverified = proof.Unverified
	Contract   = proof.Contract
	Boot       = proof.Boot
	Cluster    = proof.Cluster
)

// ParseLevel returns the level of a name.
func ParseLevel(name string) (Level, error) {
	level, ok := proof.Parse(name)
	if !ok {
		return 0, fmt.Errorf("level %q is not one of %s", name, strings.Join(proof.Names(), ", "))
	}
	return level, nil
}

// Image is one disk for one infrastructure, and what is known of it.
type Image struct {
	// Name is the NodeImage's, Reference what the user called the image:
	// NAME:TAG, or a file's path.
	Name, Reference string
	Infrastructure  string
	Architecture    string // amd64
	Distro          string // debian
	DistroVersion   string // 12
	Kubernetes      string // v1.34.0
	// Firmware is what the disk boots on: bios, uefi.
	Firmware []string
	// Digest identifies the disk's content: it tags everything that is made.
	Digest digest.Digest
	// Level is what was proven, SecureBoot whether it booted with Secure Boot on.
	Level      Level
	SecureBoot bool
	// Built is the time that the image carries (its lock's epoch).
	Built time.Time
	// Disk is the disk itself.
	Disk format.Source
	// Open returns the disk as a file of the named format ("ova"), and its size
	// in bytes, without a copy in memory. It may be called more than once.
	Open func(ctx context.Context, format string) (Content, error)
}

// The names of the tags, attributes or whatever the infrastructure has, on
// everything that is made. They and their values fit what each infrastructure
// allows.
const (
	TagBy         = "nodesmith" // its value is the NodeImage's name
	TagDigest     = "nodesmith-digest"
	TagKubernetes = "nodesmith-kubernetes"
	TagOS         = "nodesmith-os" // "debian-12"
	TagLevel      = "nodesmith-level"
)

// Tags are what everything that is made of the image carries.
func (i *Image) Tags() map[string]string {
	return map[string]string{
		TagBy: i.Name, TagDigest: i.Digest.String(), TagKubernetes: i.Kubernetes,
		TagOS: i.Distro + "-" + i.DistroVersion, TagLevel: i.Level.String(),
	}
}

// Content is a file that can be sent again from any byte on.
type Content interface {
	io.ReaderAt
	io.Closer
	Size() int64
}

// Published is an image that is at a place.
type Published struct {
	Place string
	// Region is where in the place it is, where the place has more than one.
	Region string
	// Kind and ID are what the infrastructure calls it: "AMI", ami-0123.
	Kind, ID string
	Name     string
	// Digest is of the disk that it was made of; "" if this project did not make
	// it.
	Digest     digest.Digest
	Kubernetes string
	Level      string
	Created    time.Time
	// UsedBy names what would break without it.
	UsedBy []string
}
