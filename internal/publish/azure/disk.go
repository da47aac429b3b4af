package azure

import (
	"context"
	"fmt"
	"net/http"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/to"
	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/compute/armcompute/v7"
	"github.com/opencontainers/go-digest"

	"nodesmith.dev/nodesmith/internal/fault"
	"nodesmith.dev/nodesmith/internal/publish"
)

// diskStaging is a managed disk that is written through a signed address, as
// long as the address is granted, and complete when that is taken back.
type diskStaging struct {
	*Publisher
	digest   digest.Digest
	diskName string
}

// grantFor is how long a signed address is good for, in seconds: a day. Who needs
// longer gets another one.
const grantFor = 24 * 60 * 60

func (d *diskStaging) kind() string { return "managed disk" }
func (d *diskStaging) name() string { return d.diskName }

// find returns the disk, nil for none.
func (d *diskStaging) find(ctx context.Context) (*armcompute.Disk, error) {
	answer, err := get(ctx, func(ctx context.Context) (armcompute.DisksClientGetResponse, error) {
		return d.api.disks.Get(ctx, d.target.ResourceGroup, d.diskName, nil)
	})
	if err != nil || answer == nil {
		return nil, err
	}
	if answer.Properties == nil {
		answer.Properties = &armcompute.DiskProperties{}
	}
	if other := tag(answer.Tags, publish.TagDigest); other != d.digest.String() {
		return nil, fault.New(fault.Remote, "delete or rename that disk", "the disk %s is there and is not of %s", d.diskName, d.digest)
	}
	return &answer.Disk, nil
}

func (d *diskStaging) there(ctx context.Context) (bool, error) {
	disk, err := d.find(ctx)
	return disk != nil, err
}

func (d *diskStaging) fill(ctx context.Context, run *publish.Run, image *publish.Image) error {
	disk, err := d.find(ctx)
	if err != nil {
		return err
	}
	if disk != nil && !uploading(disk) {
		if run.Get(noteSent) == deref(disk.Properties.UniqueID) {
			return nil
		}
		// The address was taken back before all was sent: no other is granted.
		if err := d.delete(ctx, run); err != nil {
			return err
		}
		disk = nil
	}
	if disk == nil {
		if disk, err = d.create(ctx, run, image); err != nil {
			return err
		}
	}
	id := deref(disk.Properties.UniqueID)
	if run.Get(noteSent) != id {
		if err := d.write(ctx, run, id, image); err != nil {
			return err
		}
	}
	return d.revoke(ctx, run)
}

// uploading says whether a disk can be written through a signed address.
func uploading(disk *armcompute.Disk) bool {
	state := deref(disk.Properties.DiskState)
	return state == armcompute.DiskStateReadyToUpload || state == armcompute.DiskStateActiveUpload
}

func (d *diskStaging) create(ctx context.Context, run *publish.Run, image *publish.Image) (*armcompute.Disk, error) {
	body, err := diskBody(image, d.target.Location, d.hyperVGeneration)
	if err != nil {
		return nil, err
	}
	poller, err := d.api.disks.BeginCreateOrUpdate(ctx, d.target.ResourceGroup, d.diskName, body, nil)
	if _, err := await(ctx, run, d.api.poll, poller, err); err != nil {
		return nil, err
	}
	// The answer to the request may lack what it is now.
	disk, err := d.find(ctx)
	if err == nil && disk == nil {
		err = fmt.Errorf("the disk %s is not there although it was made", d.diskName)
	}
	return disk, err
}

// diskBody is the request that makes a disk of the size of the image's VHD.
func diskBody(image *publish.Image, location string, generation func(*publish.Image) (armcompute.HyperVGeneration, error)) (armcompute.Disk, error) {
	view, err := viewOf(image)
	if err != nil {
		return armcompute.Disk{}, err
	}
	hyperV, err := generation(image)
	if err != nil {
		return armcompute.Disk{}, err
	}
	architecture, err := architectureOf(image)
	if err != nil {
		return armcompute.Disk{}, err
	}
	return armcompute.Disk{
		Location: to.Ptr(location), Tags: tagsOf(image),
		SKU: &armcompute.DiskSKU{Name: to.Ptr(armcompute.DiskStorageAccountTypesStandardLRS)},
		Properties: &armcompute.DiskProperties{
			CreationData: &armcompute.CreationData{
				CreateOption:    to.Ptr(armcompute.DiskCreateOptionUpload),
				UploadSizeBytes: to.Ptr(view.Size()),
			},
			OSType: to.Ptr(armcompute.OperatingSystemTypesLinux), HyperVGeneration: to.Ptr(hyperV),
			SupportedCapabilities: &armcompute.SupportedCapabilities{Architecture: to.Ptr(architecture)},
		},
	}, nil
}

// architectures are Azure's names of those of a NodeImage.
var architectures = map[string]armcompute.Architecture{"amd64": armcompute.ArchitectureX64, "arm64": armcompute.ArchitectureArm64}

func architectureOf(image *publish.Image) (armcompute.Architecture, error) {
	name, ok := architectures[image.Architecture]
	if !ok {
		return "", fault.New(fault.BadSpec, "", "Azure has no machines of architecture %q", image.Architecture)
	}
	return name, nil
}

// hyperVGeneration is what the target wants of an image.
func (p *Publisher) hyperVGeneration(image *publish.Image) (armcompute.HyperVGeneration, error) {
	if p.target.ManagedImage != nil {
		return generation(p.target.ManagedImage.Generation, image)
	}
	return generation(p.target.Gallery.Generation, image)
}

// write asks for a signed address and sends the image to it. The address stays in
// memory.
func (d *diskStaging) write(ctx context.Context, run *publish.Run, id string, image *publish.Image) error {
	poller, err := d.api.disks.BeginGrantAccess(ctx, d.target.ResourceGroup, d.diskName, armcompute.GrantAccessData{
		Access: to.Ptr(armcompute.AccessLevelWrite), DurationInSeconds: to.Ptr[int32](grantFor),
	}, nil)
	granted, err := await(ctx, run, d.api.poll, poller, err)
	if err != nil {
		return err
	}
	blob, err := d.api.signed(deref(granted.AccessSAS))
	if err != nil {
		return err
	}
	err = explain(d.send(ctx, run, blob, id, image))
	if r, ok := refusalOf(err); ok && (r.status == http.StatusForbidden || r.status == http.StatusUnauthorized) {
		return &expiredError{fmt.Errorf("the signed address to write the disk: %w", err)}
	}
	return err
}

// revoke takes the signed address back, which makes the disk complete.
func (d *diskStaging) revoke(ctx context.Context, run *publish.Run) error {
	poller, err := d.api.disks.BeginRevokeAccess(ctx, d.target.ResourceGroup, d.diskName, nil)
	_, err = await(ctx, run, d.api.poll, poller, err)
	return err
}

func (d *diskStaging) remove(ctx context.Context, run *publish.Run) error {
	disk, err := d.find(ctx)
	if err != nil || disk == nil {
		return err
	}
	if uploading(disk) { // it is not deleted while an address is granted
		if err := d.revoke(ctx, run); err != nil {
			return err
		}
	}
	return d.delete(ctx, run)
}

func (d *diskStaging) delete(ctx context.Context, run *publish.Run) error {
	poller, err := d.api.disks.BeginDelete(ctx, d.target.ResourceGroup, d.diskName, nil)
	if _, err = await(ctx, run, d.api.poll, poller, err); isNotFound(err) {
		return nil
	}
	return err
}

// id is what Resource Manager calls the disk.
func (d *diskStaging) id() string {
	return fmt.Sprintf("/subscriptions/%s/resourceGroups/%s/providers/Microsoft.Compute/disks/%s", d.target.Subscription, d.target.ResourceGroup, d.diskName)
}

func (d *diskStaging) forVersion() *armcompute.GalleryDiskImageSource {
	return &armcompute.GalleryDiskImageSource{ID: to.Ptr(d.id())}
}

func (d *diskStaging) forImage(osDisk *armcompute.ImageOSDisk) {
	osDisk.ManagedDisk = &armcompute.SubResource{ID: to.Ptr(d.id())}
}
