package v1alpha1

import (
	"fmt"
	"io/fs"
	"path"

	imagereference "github.com/distribution/reference"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"nodesmith.dev/nodesmith/internal/lazyregexp"
)

// ContainerImage is a container image that the node has from the start, beside
// those that kubeadm asks for. One of the name of kubeadm's takes its place.
type ContainerImage struct {
	// Name is the image's full reference, with registry and tag, as pods name
	// it. Without an archive the image is pulled from there when the build
	// locks, with the credentials of the machine's container tools.
	Name string `json:"name,omitempty"`
	// Digest is what the image has to be, by its manifest or by the list of
	// manifests for several platforms that the name points at. Without it,
	// whatever the name points at when locking, or the archive holds.
	Digest string `json:"digest,omitempty"`
	// Archive is a path in the build context of images that are published
	// nowhere: a file that docker save, ctr image export or skopeo copy wrote,
	// plain or compressed, or the folder of an OCI layout. The name may be left
	// out where the archive itself has names.
	Archive string `json:"archive,omitempty"`
}

// The forms of references and digests (OCI distribution and image specifications).
var (
	imageNameSyntax = syntax{
		"a container image's full name", "a name with registry and tag, such as registry.example.com/team/agent:v1.2.3",
		nil, 0,
	}
	imageDigestSyntax = syntax{
		"a digest", "sha256: and 64 hexadecimal digits", lazyregexp.New(`^sha256:[0-9a-f]{64}$`), 0,
	}
)

// containerImages checks the container images that the spec adds.
func (c *checker) containerImages(images []ContainerImage, buildContext fs.FS) {
	seen := map[string]string{}
	for i, image := range images {
		at := fmt.Sprintf("spec.containerImages[%d]", i)
		if image.Name == "" && image.Archive == "" {
			c.add(FieldError{Field: at, Problem: "has neither name nor archive", Allowed: []string{"name, archive, or both"}})
		}
		if image.Name != "" && c.imageName(at+".name", image.Name) {
			c.repeated(seen, at+".name", image.Name, image.Name)
		}
		if image.Digest != "" {
			c.matches(at+".digest", image.Digest, imageDigestSyntax)
		}
		if image.Archive != "" {
			c.archive(at+".archive", image.Archive, buildContext)
		}
	}
}

// archive checks that an archive of images is there in the build context.
func (c *checker) archive(at, archive string, buildContext fs.FS) {
	bad := FieldError{Field: at, Found: quote(archive)}
	if !c.inContext(&bad, archive) || buildContext == nil {
		return
	}
	info, err := fs.Stat(buildContext, archive)
	if err != nil {
		c.unreadable(&bad, archive, err, buildContext)
		return
	}
	if info.IsDir() {
		_, err = fs.Stat(buildContext, path.Join(archive, ocispec.ImageLayoutFile))
	}
	if err != nil || !info.IsDir() && !info.Mode().IsRegular() {
		bad.Problem, bad.Allowed = "is no archive of images", []string{"a file, or a folder with " + ocispec.ImageLayoutFile + " in it"}
		c.add(bad)
	}
}

// imageName checks that a reference is the one that containerd would look the
// image up by: nothing of it left to be filled in.
func (c *checker) imageName(at, name string) bool {
	bad := FieldError{
		Field: at, Found: quote(name), Problem: "is not " + imageNameSyntax.what, Allowed: []string{imageNameSyntax.allowed},
	}
	named, err := imagereference.ParseNormalizedNamed(name)
	if err != nil {
		c.add(bad)
		return false
	}
	_, digested := named.(imagereference.Digested)
	if full := imagereference.TagNameOnly(named).String(); digested || full != name {
		if !digested {
			bad.Suggestion = full
		}
		c.add(bad)
		return false
	}
	return true
}
