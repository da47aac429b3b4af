package containerimage

import ocispec "github.com/opencontainers/image-spec/specs-go/v1"

// Assembled is one image as it now lies in the store.
type Assembled struct {
	Name string
	// Manifest describes what the name points at: a manifest or an index.
	Manifest ocispec.Descriptor
	// Config is the digest of the image's configuration: CRI's image ID.
	Config string
	// Built marks one that was made of layers of the configuration; archives
	// bring the others.
	Built bool
}
