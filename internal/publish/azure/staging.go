package azure

import (
	"context"
	"encoding/hex"
	"fmt"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/to"
	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/compute/armcompute/v7"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/pageblob"
	"github.com/opencontainers/go-digest"

	"nodesmith.dev/nodesmith/internal/fault"
	"nodesmith.dev/nodesmith/internal/format/vhd"
	"nodesmith.dev/nodesmith/internal/publish"
)

// staging is where the disk's content goes before an image is made of it: a
// managed disk or a page blob, named by the digest, so that each run finds what
// an earlier one left.
type staging interface {
	kind() string
	name() string
	// there says whether it is, complete or not.
	there(ctx context.Context) (bool, error)
	// fill makes it if it is not there, and sends what it lacks.
	fill(ctx context.Context, run *publish.Run, image *publish.Image) error
	remove(ctx context.Context, run *publish.Run) error
	// forVersion and forImage say to Resource Manager where the content is.
	forVersion() *armcompute.GalleryDiskImageSource
	forImage(*armcompute.ImageOSDisk)
}

// staging returns the place that the target wants content of a digest to go to.
func (p *Publisher) staging(content digest.Digest) staging {
	name := "nodesmith-" + short(content, 32)
	if p.target.Upload.StorageAccount != "" {
		return &blobStaging{p, content, name + ".vhd"}
	}
	return &diskStaging{p, content, name}
}

// short is the begin of a digest, in hexadecimal digits.
func short(d digest.Digest, digits int) string {
	text := d.Encoded()
	return text[:min(digits, len(text))]
}

// viewOf is the VHD of an image. Its ID follows from the digest, as does all else
// of it: each run sends the same bytes.
func viewOf(image *publish.Image) (*vhd.View, error) {
	sum, err := hex.DecodeString(image.Digest.Encoded())
	if err != nil || len(sum) < 16 {
		return nil, fmt.Errorf("%q is not the digest of a disk", image.Digest)
	}
	options := vhd.Options{ID: [16]byte(sum[:16])}
	// RFC 9562, section 5.8: version 8, whose bits are the maker's.
	options.ID[6] = options.ID[6]&0x0f | 0x80
	options.ID[8] = options.ID[8]&0x3f | 0x80
	if image.Built.Year() >= 2000 { // the format knows no time before
		options.Created = image.Built
	}
	view, err := vhd.NewView(image.Disk, options)
	if err != nil {
		return nil, fault.New(fault.BadSpec, "make spec.disk.size smaller", "%s: %w", image.Reference, err)
	}
	return view, nil
}

// Notes of the step that fills a staging. Their value is which one they are
// about, as one of the same name may have been made anew.
const (
	noteEmpty   = "empty"   // it was seen without pages: all that is in it is of this disk
	noteSent    = "sent"    // all of the disk is in it
	noteArrived = "arrived" // how far, in bytes of the VHD
)

// send sends the image to a page blob that this package made, which id tells
// from others of its name.
func (p *Publisher) send(ctx context.Context, run *publish.Run, blob *pageblob.Client, id string, image *publish.Image) error {
	view, err := viewOf(image)
	if err != nil {
		return err
	}
	t := transfer{
		file: view, blob: blob, parallel: int(p.target.Upload.Parallel), sent: run.Sent,
		retry: func(ctx context.Context, part func(context.Context) error) error {
			return run.Retry(ctx, func(ctx context.Context) error { return explain(part(ctx)) })
		},
		arrived: func(offset int64) error { return run.Note(noteArrived, fmt.Sprint(offset)) },
	}
	if t.resume = run.Get(noteEmpty) == id; !t.resume {
		there, err := t.stored(ctx)
		if err != nil {
			return err
		}
		if t.resume = len(there) == 0; t.resume {
			if err := run.Note(noteEmpty, id); err != nil {
				return err
			}
		}
	}
	if err := t.run(ctx); err != nil {
		return err
	}
	return run.Note(noteSent, id)
}

// tagsOf are the tags of an image as Azure's SDK wants them.
func tagsOf(image *publish.Image) map[string]*string {
	tags := map[string]*string{}
	for name, value := range image.Tags() {
		tags[name] = to.Ptr(value)
	}
	return tags
}

// tag returns the value of a tag, "" for none.
func tag(tags map[string]*string, name string) string { return deref(tags[name]) }

// deref returns what a pointer of the SDK points to, or the zero value.
func deref[T any](p *T) (value T) {
	if p != nil {
		value = *p
	}
	return value
}

// stamp identifies something by when it was made.
func stamp(t *time.Time) string { return deref(t).UTC().Format(time.RFC3339Nano) }
