package store

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"

	"nodesmith.dev/nodesmith/internal/fault"
	"nodesmith.dev/nodesmith/internal/proof"
)

// Image is what index.json says of an image.
type Image struct {
	Name string
	// Tags are what it is called, Latest last; none once another image got its tag.
	Tags []string
	// Digest is that of its OCI index, Size that index's bytes.
	Digest digest.Digest
	Size   int64
	// OS is "debian 12", Kubernetes "v1.34.0".
	OS, Kubernetes, Architecture string
	Infrastructures              []string
	// Bytes is what it takes in the store, shared chunks included.
	Bytes int64
	// Built is the time that the image carries, Stored when it came here.
	Built, Stored time.Time
	// Proven says how far each infrastructure's disk was proven.
	Proven map[string]proof.Proof
	// Key and Origins are what the builder noted of how it was made.
	Key     string
	Origins map[string]string

	disks []*Disk // while it is described
}

// Reference is what to call the image.
func (i Image) Reference() string {
	if len(i.Tags) > 0 {
		return i.Name + ":" + i.Tags[0]
	}
	return i.Name + "@sha256:" + Short(i.Digest)
}

// descriptor is the image's index.
func (i Image) descriptor() ocispecs.Descriptor {
	return ocispecs.Descriptor{MediaType: ocispecs.MediaTypeImageIndex, ArtifactType: ImageType, Digest: i.Digest, Size: i.Size}
}

// entry is the image in index.json under one tag; "" for none.
func (i Image) entry(tag string) ocispecs.Descriptor {
	d := i.descriptor()
	d.Annotations = map[string]string{
		nameAnnotation: i.Name, osAnnotation: i.OS, kubernetesAnnotation: i.Kubernetes, architectureAnnotation: i.Architecture,
		infrastructuresAnnotation: strings.Join(i.Infrastructures, ","), sizeAnnotation: strconv.FormatInt(i.Bytes, 10),
		ocispecs.AnnotationCreated: i.Built.UTC().Format(time.RFC3339), storedAnnotation: i.Stored.UTC().Format(time.RFC3339Nano),
	}
	for name, value := range map[string]string{
		provenAnnotation: provenText(i.Proven), keyAnnotation: i.Key, originsAnnotation: joinPairs(i.Origins),
	} {
		if value != "" {
			d.Annotations[name] = value
		}
	}
	if tag != "" {
		d.Annotations[ocispecs.AnnotationRefName] = i.Name + ":" + tag
	}
	return d
}

// isImage tells images from the lists of reports in index.json.
func isImage(d ocispecs.Descriptor) bool {
	return d.ArtifactType == ImageType && d.Annotations[nameAnnotation] != ""
}

// tagOf returns the tag of an entry; "" for none.
func tagOf(d ocispecs.Descriptor) string {
	_, tag, _ := strings.Cut(d.Annotations[ocispecs.AnnotationRefName], ":")
	return tag
}

// imageOf reads an entry. What can't be read is left zero: it is only shown.
func imageOf(d ocispecs.Descriptor) Image {
	a := d.Annotations
	i := Image{
		Name: a[nameAnnotation], Digest: d.Digest, Size: d.Size,
		OS: a[osAnnotation], Kubernetes: a[kubernetesAnnotation], Architecture: a[architectureAnnotation],
		Proven: provenOf(a[provenAnnotation]), Key: a[keyAnnotation], Origins: splitPairs(a[originsAnnotation]),
	}
	if list := a[infrastructuresAnnotation]; list != "" {
		i.Infrastructures = strings.Split(list, ",")
	}
	i.Bytes, _ = strconv.ParseInt(a[sizeAnnotation], 10, 64)
	i.Built, _ = time.Parse(time.RFC3339, a[ocispecs.AnnotationCreated])
	i.Stored, _ = time.Parse(time.RFC3339Nano, a[storedAnnotation])
	if tag := tagOf(d); tag != "" {
		i.Tags = []string{tag}
	}
	return i
}

// imagesOf reads the entries: one image for each name and digest, what was stored
// last first.
func imagesOf(entries []ocispecs.Descriptor) []Image {
	type key struct {
		name   string
		digest digest.Digest
	}
	at := map[key]int{}
	var images []Image
	for _, d := range entries {
		if !isImage(d) {
			continue
		}
		i := imageOf(d)
		if n, ok := at[key{i.Name, i.Digest}]; ok {
			images[n].Tags = append(images[n].Tags, i.Tags...)
			continue
		}
		at[key{i.Name, i.Digest}] = len(images)
		images = append(images, i)
	}
	for _, i := range images {
		slices.SortFunc(i.Tags, func(a, b string) int {
			return cmp.Or(cmp.Compare(btoi(a == Latest), btoi(b == Latest)), cmp.Compare(a, b))
		})
	}
	slices.SortStableFunc(images, func(a, b Image) int { return b.Stored.Compare(a.Stored) })
	return images
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}

// Images lists the images, what was stored last first. It reads index.json alone.
func (s *Store) Images() ([]Image, error) {
	index, err := s.index()
	return imagesOf(index.Manifests), err
}

// Find returns the image that the reference names.
func (s *Store) Find(_ context.Context, r Reference) (Image, error) {
	images, err := s.Images()
	if err != nil {
		return Image{}, err
	}
	return find(images, r)
}

func find(images []Image, r Reference) (Image, error) {
	var found []Image
	var named []string
	for _, i := range images {
		if i.Name != r.Name {
			continue
		}
		named = append(named, i.Reference())
		if slices.Contains(i.Tags, r.Tag) || r.Digest != "" && strings.HasPrefix(i.Digest.String(), r.Digest) {
			found = append(found, i)
		}
	}
	switch {
	case len(found) == 1:
		return found[0], nil
	case len(found) > 1:
		return Image{}, fault.New(fault.Usage, "give more digits", "%s means %d images", r, len(found))
	case len(named) > 0:
		return Image{}, fault.New(fault.Usage, "", "no image %s in the store; of that name there are: %s", r, strings.Join(named[:min(len(named), 10)], ", "))
	}
	return Image{}, fault.New(fault.Usage, "nodesmith images lists what there is", "no image %s in the store", r)
}

// provenText writes and provenOf reads how far disks were proven:
// qemu=boot+secureboot,vsphere=contract.
func provenText(proven map[string]proof.Proof) string {
	pairs := map[string]string{}
	for infrastructure, p := range proven {
		if p.Level == proof.Unverified && !p.SecureBoot {
			continue
		}
		pairs[infrastructure] = p.Level.String()
		if p.SecureBoot {
			pairs[infrastructure] += "+secureboot"
		}
	}
	return joinPairs(pairs)
}

func provenOf(text string) map[string]proof.Proof {
	proven := map[string]proof.Proof{}
	for infrastructure, value := range splitPairs(text) {
		name, _, secure := strings.Cut(value, "+")
		level, _ := proof.Parse(name)
		proven[infrastructure] = proof.Proof{Level: level, SecureBoot: secure}
	}
	return proven
}

func joinPairs(pairs map[string]string) string {
	var text []string
	for _, key := range slices.Sorted(maps.Keys(pairs)) {
		text = append(text, fmt.Sprintf("%s=%s", key, pairs[key]))
	}
	return strings.Join(text, ",")
}

func splitPairs(text string) map[string]string {
	if text == "" {
		return nil
	}
	pairs := map[string]string{}
	for pair := range strings.SplitSeq(text, ",") {
		key, value, _ := strings.Cut(pair, "=")
		pairs[key] = value
	}
	return pairs
}
