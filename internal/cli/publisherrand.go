package cli

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"slices"
	"sync"

	"github.com/opencontainers/go-digest"

	"nodesmith.dev/nodesmith/api/v1alpha1"
	"nodesmith.dev/nodesmith/internal/fault"
	"nodesmith.dev/nodesmith/internal/host"
	"nodesmith.dev/nodesmith/internal/publish"
)

// errand is one image for one place.
type errand struct {
	publisher publish.Publisher
	image     publish.Image
	// earlier is what earlier runs noted, journal where this one does; nil in a
	// rehearsal, which leaves no trace.
	earlier publish.State
	journal *publish.Journal
	plan    *publish.Plan
	// done says that the plan was carried out, listed is what list found instead.
	done   bool
	listed []publish.Published
}

// errands opens the images, the journals and the publishers. An image is opened
// once for all places of its infrastructure.
func (o *publishing) errands(ctx context.Context, s streams, name string, spec v1alpha1.PublishSpec, buildContext fs.FS) (errands []*errand, closeAll func() error, err error) {
	var closers []func() error
	closeAll = func() (err error) {
		for _, c := range slices.Backward(closers) {
			err = errors.Join(err, c())
		}
		return err
	}
	for _, infrastructure := range o.to {
		image, closer, err := o.image(ctx, s, name, infrastructure)
		if err != nil {
			return nil, closeAll, err
		}
		closers = append(closers, closer.Close)
		if err := o.proven(image); err != nil {
			return nil, closeAll, err
		}
		all, err := publishers[infrastructure](ctx, spec, buildContext)
		if err != nil {
			return nil, closeAll, err
		}
		for _, p := range all {
			closers = append(closers, func() error { return closePublisher(ctx, p) })
			e := &errand{publisher: p, image: image}
			if err := e.readJournal(o.dryRun); err != nil {
				return nil, closeAll, err
			}
			closers = append(closers, e.closeJournal)
			errands = append(errands, e)
		}
	}
	return errands, closeAll, nil
}

// image opens the image. Of one that is taken away the digest of its disk will do:
// its file may be long gone.
func (o *publishing) image(ctx context.Context, s streams, name, infrastructure string) (publish.Image, io.Closer, error) {
	if disk, err := digest.Parse(name); err == nil && o.retracts {
		return publish.Image{Reference: name, Infrastructure: infrastructure, Digest: disk}, io.NopCloser(nil), nil
	}
	return openPublished(ctx, name, infrastructure, o.progress.lines(s.err))
}

// proven refuses to publish an image that was not proven, unless that was asked for.
func (o *publishing) proven(image publish.Image) error {
	if image.Level >= wantedLevel || o.unverified || o.dryRun || o.retracts {
		return nil
	}
	return fault.New(fault.Usage, "prove it (nodesmith verify --level "+wantedLevel.String()+"), or say --yes-unverified",
		"%s is %s: it was not proven to %s", image.Reference, image.Level, wantedLevel)
}

// readJournal reads what earlier runs noted of the image at the place.
func (e *errand) readJournal(rehearsal bool) error {
	dir, err := host.PublishDir()
	if err != nil {
		return err
	}
	path := journalFile(dir, e.publisher.Place(), e.image)
	if rehearsal {
		e.earlier, err = publish.ReadState(path)
		return err
	}
	if e.journal, err = publish.OpenJournal(path); err != nil {
		return err
	}
	e.earlier = e.journal.State()
	if known := e.earlier.Header().Image; known != "" && e.image.Reference == e.image.Digest.String() {
		e.image.Reference = known // it says more
	}
	return nil
}

func (e *errand) closeJournal() error {
	if e.journal == nil {
		return nil
	}
	return e.journal.Close()
}

// closePublisher ends a publisher's session, if it has one.
func closePublisher(ctx context.Context, p publish.Publisher) error {
	if c, ok := p.(interface{ Close(context.Context) error }); ok {
		return c.Close(context.WithoutCancel(ctx))
	}
	return nil
}

// each runs do for all errands at once. That one place fails ends no other's.
func each(errands []*errand, do func(*errand) error) error {
	errs := make([]error, len(errands))
	var all sync.WaitGroup
	for i, e := range errands {
		all.Go(func() { errs[i] = do(e) })
	}
	all.Wait()
	return errors.Join(errs...)
}
