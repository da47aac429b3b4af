package azure

import (
	"context"
	"fmt"
	"slices"

	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/compute/armcompute/v7"

	"nodesmith.dev/nodesmith/internal/publish"
)

// noteVersion is the name that a step is about to give the version.
const noteVersion = "version"

// Plan says what publishing the image takes.
func (p *Publisher) Plan(ctx context.Context, image publish.Image, earlier publish.State) (*publish.Plan, error) {
	plan := &publish.Plan{Place: p.Place(), Image: image.Digest, Classify: Classify}
	var err error
	if p.target.ManagedImage != nil {
		plan.Steps, err = p.planImage(ctx, &image)
	} else {
		plan.Steps, err = p.planGallery(ctx, &image, earlier)
	}
	if err != nil {
		return nil, explain(err)
	}
	return plan, nil
}

// planGallery plans a version in a gallery.
func (p *Publisher) planGallery(ctx context.Context, image *publish.Image, earlier publish.State) ([]publish.Step, error) {
	name, err := p.target.Gallery.DefinitionName(valuesOf(image))
	if err != nil {
		return nil, fmt.Errorf("the name of the image definition: %w", err)
	}
	gallery, err := p.gallery(ctx)
	if err != nil {
		return nil, err
	}
	var definition *armcompute.GalleryImage
	var versions []*armcompute.GalleryImageVersion
	if gallery != nil {
		if definition, err = p.definition(ctx, name); err != nil {
			return nil, err
		}
	}
	if definition != nil {
		if versions, err = p.versionsOf(ctx, name); err != nil {
			return nil, err
		}
	}
	define, err := p.definitionStep(name, definition, image)
	if err != nil {
		return nil, err
	}
	staged := p.staging(image.Digest)
	isStaged, err := staged.there(ctx)
	if err != nil {
		return nil, err
	}
	version, err := p.versionStep(name, definition, versions, staged, image, earlier)
	if err != nil {
		return nil, err
	}
	steps := []publish.Step{p.galleryStep(gallery), define}
	upload, cleanUp, err := p.stagingSteps(staged, isStaged, version, image)
	if err != nil {
		return nil, err
	}
	if upload != nil {
		steps = append(steps, *upload)
		version.Needs = append(version.Needs, upload.ID)
	}
	steps = append(steps, version)
	if sharing := p.sharingStep(gallery); sharing != nil {
		steps = append(steps, *sharing)
	}
	if cleanUp != nil {
		steps = append(steps, *cleanUp)
	}
	return steps, nil
}

// stagingSteps are those that send the disk, where product is still to be made of
// it, and that delete what it was sent to. Either may be nil.
func (p *Publisher) stagingSteps(staged staging, isStaged bool, product publish.Step, image *publish.Image) (upload, cleanUp *publish.Step, err error) {
	needed := product.Action == publish.Create || product.Action == publish.Resume
	if needed {
		size, err := uploadSize(image)
		if err != nil {
			return nil, nil, err
		}
		upload = &publish.Step{
			ID: "upload", Kind: staged.kind(), Name: staged.name(), Region: p.target.Location, Action: publish.Create, Bytes: size,
			Do: p.explained(func(ctx context.Context, run *publish.Run) error { return staged.fill(ctx, run, image) }),
		}
		if isStaged {
			upload.Action, upload.Why = publish.Resume, "what is there already is not sent again"
		}
	}
	if needed || isStaged {
		cleanUp = &publish.Step{
			ID: "clean-up", Needs: []string{product.ID}, Kind: staged.kind(), Name: staged.name(), Region: p.target.Location,
			Action: publish.Delete, Why: "was needed on the way",
			Do: p.explained(func(ctx context.Context, run *publish.Run) error {
				if err := staged.remove(ctx, run); err != nil {
					return err
				}
				return run.Forget("upload")
			}),
		}
	}
	return upload, cleanUp, nil
}

// uploadSize is how much is sent at most: what the disk does not know to be
// zeros.
func uploadSize(image *publish.Image) (size int64, err error) {
	view, err := viewOf(image)
	if err != nil {
		return 0, err
	}
	err = eachExtent(view, func(length int64) { size += length })
	return size, err
}

// versionStep makes the version, waits for the one that an earlier run asked for,
// or makes it be as the target wants it.
func (p *Publisher) versionStep(name string, definition *armcompute.GalleryImage, versions []*armcompute.GalleryImageVersion, staged staging, image *publish.Image, earlier publish.State) (publish.Step, error) {
	step := publish.Step{ID: "version", Needs: []string{"definition"}, Kind: "image version", Region: p.target.Location}
	if _, why := excluded(p.target.Gallery, image); why != "" {
		step.Why = "not for who asks for the latest: " + why
	}
	var names []string
	var found *armcompute.GalleryImageVersion
	for _, v := range versions {
		names = append(names, deref(v.Name))
		if tag(v.Tags, publish.TagDigest) == image.Digest.String() {
			found = v
		}
	}
	if found != nil && deref(found.Properties.ProvisioningState) == armcompute.GalleryProvisioningStateSucceeded {
		return p.adjustStep(step, name, found, image)
	}
	step.Action = publish.Create
	version, err := p.versionName(definition, names, image)
	switch {
	case err != nil:
		return step, err
	case found != nil:
		version, step.Action, step.Why = deref(found.Name), publish.Resume, "is "+string(deref(found.Properties.ProvisioningState))
	case earlier.Note("version", noteVersion) != "" && !slices.Contains(names, earlier.Note("version", noteVersion)):
		version = earlier.Note("version", noteVersion)
	}
	step.Name = name + "/" + version
	step.Do = p.explained(func(ctx context.Context, run *publish.Run) error {
		if err := run.Note(noteVersion, version); err != nil {
			return err
		}
		return p.makeVersion(ctx, run, name, version, staged.forVersion(), image)
	})
	return step, nil
}

// adjustStep makes a version that is there be as the target wants it.
func (p *Publisher) adjustStep(step publish.Step, definition string, found *armcompute.GalleryImageVersion, image *publish.Image) (publish.Step, error) {
	version := deref(found.Name)
	step.Action, step.Name = publish.Exists, definition+"/"+version
	changes, err := change(found, p.target, image)
	if err != nil || changes == "" {
		return step, err
	}
	step.Action, step.Why = publish.Change, changes
	step.Do = p.explained(func(ctx context.Context, run *publish.Run) error {
		return p.updateVersion(ctx, run, definition, version, image)
	})
	return step, nil
}

// versionName is what the target says, or the next build's.
func (p *Publisher) versionName(definition *armcompute.GalleryImage, names []string, image *publish.Image) (string, error) {
	if wanted := p.target.Gallery.Version; wanted != "" {
		if slices.Contains(names, wanted) {
			return "", errTaken(wanted)
		}
		return wanted, nil
	}
	if definition != nil {
		names = append(names, tag(definition.Tags, tagHighest))
	}
	n, err := nextNumber(image.Kubernetes, names)
	return n.String(), err
}

// planImage plans a managed image.
func (p *Publisher) planImage(ctx context.Context, image *publish.Image) ([]publish.Step, error) {
	name, err := p.target.ManagedImage.ImageName(valuesOf(image), image.Digest.Encoded())
	if err != nil {
		return nil, fmt.Errorf("the name of the managed image: %w", err)
	}
	staged := p.staging(image.Digest)
	isStaged, err := staged.there(ctx)
	if err != nil {
		return nil, err
	}
	step, err := p.imageStep(ctx, name, staged, image)
	if err != nil {
		return nil, err
	}
	upload, cleanUp, err := p.stagingSteps(staged, isStaged, step, image)
	if err != nil {
		return nil, err
	}
	var steps []publish.Step
	if upload != nil {
		steps = append(steps, *upload)
		step.Needs = []string{upload.ID}
	}
	steps = append(steps, step)
	if cleanUp != nil {
		steps = append(steps, *cleanUp)
	}
	return steps, nil
}
