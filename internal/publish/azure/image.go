package azure

import (
	"context"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/to"
	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/compute/armcompute/v7"

	"nodesmith.dev/nodesmith/api/v1alpha1"
	"nodesmith.dev/nodesmith/internal/fault"
	"nodesmith.dev/nodesmith/internal/publish"
)

// imageBody is the request that makes a managed image.
func imageBody(target v1alpha1.AzureTarget, staged staging, image *publish.Image) (armcompute.Image, error) {
	hyperV, err := generation(target.ManagedImage.Generation, image)
	if err != nil {
		return armcompute.Image{}, err
	}
	osDisk := &armcompute.ImageOSDisk{
		OSType: to.Ptr(armcompute.OperatingSystemTypesLinux), OSState: to.Ptr(armcompute.OperatingSystemStateTypesGeneralized),
		Caching: to.Ptr(armcompute.CachingTypesReadOnly),
	}
	staged.forImage(osDisk)
	return armcompute.Image{
		Location: to.Ptr(target.Location), Tags: tagsOf(image),
		Properties: &armcompute.ImageProperties{
			HyperVGeneration: to.Ptr(armcompute.HyperVGenerationTypes(hyperV)),
			StorageProfile:   &armcompute.ImageStorageProfile{OSDisk: osDisk, ZoneResilient: to.Ptr(target.ManagedImage.ZoneResilient)},
		},
	}, nil
}

func (p *Publisher) managedImage(ctx context.Context, name string) (*armcompute.Image, error) {
	answer, err := get(ctx, func(ctx context.Context) (armcompute.ImagesClientGetResponse, error) {
		return p.api.images.Get(ctx, p.target.ResourceGroup, name, nil)
	})
	if err != nil || answer == nil {
		return nil, err
	}
	return &answer.Image, nil
}

// succeeded is the provisioning state of disks and managed images that are whole.
const succeeded = "Succeeded"

func imageState(image *armcompute.Image) string {
	if image.Properties == nil {
		return ""
	}
	return deref(image.Properties.ProvisioningState)
}

// imageStep makes the managed image.
func (p *Publisher) imageStep(ctx context.Context, name string, staged staging, image *publish.Image) (publish.Step, error) {
	step := publish.Step{ID: "image", Kind: "managed image", Name: name, Region: p.target.Location, Action: publish.Create}
	found, err := p.managedImage(ctx, name)
	if err != nil {
		return step, err
	}
	if found != nil {
		if other := tag(found.Tags, publish.TagDigest); other != image.Digest.String() {
			return step, fault.New(fault.Remote, "delete that image, or set another managedImage.name", "the managed image %s is there and is not of %s", name, image.Digest)
		}
		if imageState(found) == succeeded {
			step.Action = publish.Exists
			return step, nil
		}
		step.Action, step.Why = publish.Resume, "is "+imageState(found)
	}
	step.Do = p.explained(func(ctx context.Context, run *publish.Run) error {
		body, err := imageBody(p.target, staged, image)
		if err != nil {
			return err
		}
		// Asked for once more it stays as it is.
		poller, err := p.api.images.BeginCreateOrUpdate(ctx, p.target.ResourceGroup, name, body, nil)
		_, err = await(ctx, run, p.api.poll, poller, err)
		return err
	})
	return step, nil
}
