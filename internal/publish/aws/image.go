package aws

import (
	"context"
	"fmt"
	"slices"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"nodesmith.dev/nodesmith/internal/publish"
)

// rootDevice is what Debian's own AMIs have; Nitro shows the disk as NVMe
// whatever it is called.
const rootDevice = "/dev/xvda"

// bootMode is what the disk's firmware allows.
func (j *job) bootMode() types.BootModeValues {
	bios, uefi := slices.Contains(j.image.Firmware, "bios"), slices.Contains(j.image.Firmware, "uefi")
	switch {
	case uefi && bios && !j.target.TPM && j.image.Architecture == "amd64":
		return types.BootModeValuesUefiPreferred
	case uefi:
		return types.BootModeValuesUefi
	}
	return types.BootModeValuesLegacyBios
}

// register makes the AMI of the snapshot.
func (j *job) register(ctx context.Context, run *publish.Run, r *region) error {
	return j.make(ctx, run, r, func(ctx context.Context) (*string, error) {
		disk, err := j.diskOf(ctx, run, r)
		if err != nil {
			return nil, err
		}
		in := &ec2.RegisterImageInput{
			Name: &j.name, Description: aws.String(j.description()), Architecture: architectures[j.image.Architecture],
			VirtualizationType: aws.String("hvm"), EnaSupport: aws.Bool(true), SriovNetSupport: aws.String("simple"),
			BootMode: j.bootMode(), ImdsSupport: types.ImdsSupportValuesV20, RootDeviceName: aws.String(rootDevice),
			BlockDeviceMappings: []types.BlockDeviceMapping{{
				DeviceName: aws.String(rootDevice),
				Ebs:        &types.EbsBlockDevice{SnapshotId: &disk, VolumeType: types.VolumeTypeGp3, DeleteOnTermination: aws.Bool(true)},
			}},
			TagSpecifications: []types.TagSpecification{{ResourceType: types.ResourceTypeImage, Tags: j.tags}},
		}
		if j.target.TPM {
			in.TpmSupport = types.TpmSupportValuesV20
		}
		out, err := r.ec2.RegisterImage(ctx, in)
		if err != nil {
			return nil, fmt.Errorf("register %s: %w", j.name, err)
		}
		return out.ImageId, nil
	})
}

// copyImage copies the AMI of the first region.
func (j *job) copyImage(ctx context.Context, run *publish.Run, r *region) error {
	source := j.at(j.target.Region)
	return j.make(ctx, run, r, func(ctx context.Context) (*string, error) {
		token, err := j.token(run, "copy", r.name)
		if err != nil {
			return nil, err
		}
		in := &ec2.CopyImageInput{
			Name: &j.name, Description: aws.String(j.description()), SourceRegion: &source.name,
			SourceImageId: aws.String(j.id(run, source)), ClientToken: &token,
			TagSpecifications: []types.TagSpecification{
				{ResourceType: types.ResourceTypeImage, Tags: j.tags}, {ResourceType: types.ResourceTypeSnapshot, Tags: j.tags},
			},
		}
		if j.target.Encrypt {
			in.Encrypted = aws.Bool(true)
			if key := j.target.KMSKeys[r.name]; key != "" {
				in.KmsKeyId = &key
			}
		}
		out, err := r.ec2.CopyImage(ctx, in)
		if err != nil {
			return nil, fmt.Errorf("copy %s: %w", j.name, err)
		}
		return out.ImageId, nil
	})
}

func (j *job) description() string {
	return fmt.Sprintf("%s %s, Kubernetes %s (%s, proven: %s)", j.image.Distro, j.image.DistroVersion, j.image.Kubernetes, j.image.Name, j.image.Level)
}

// diskOf returns the snapshot that is to be registered: noted, or by its tags.
func (j *job) diskOf(ctx context.Context, run *publish.Run, r *region) (string, error) {
	if id := run.GetOf(step(r, "snapshot"), "id"); id != "" {
		return id, nil
	}
	all, err := r.snapshotsOf(ctx, j.image.Digest)
	if err != nil {
		return "", err
	}
	for _, s := range all {
		if tag(s.Tags, tagChecksum) != "" {
			return *s.SnapshotId, nil
		}
	}
	return "", fmt.Errorf("%s: no snapshot of %s is whole", r.name, j.image.Digest)
}

// make finds the AMI in a region, or has it made, waits until it can be launched
// and holds that it has its tags.
func (j *job) make(ctx context.Context, run *publish.Run, r *region, create func(context.Context) (*string, error)) error {
	found, err := r.imagesOf(ctx, j.image.Digest)
	if err != nil {
		return err
	}
	var id string
	if len(found) > 0 {
		id = *found[0].ImageId
	} else {
		made, err := create(ctx)
		if err != nil {
			return err
		}
		id = *made
	}
	if err := run.Note("id", id); err != nil {
		return err
	}
	return j.poll(ctx, run.Alive, func(ctx context.Context) (bool, error) {
		image, err := r.image(ctx, id)
		switch {
		case err != nil:
			return false, err
		case image == nil || image.State == types.ImageStatePending: // not seen yet, or not ready
			return false, nil
		case image.State != types.ImageStateAvailable:
			return false, fmt.Errorf("%s: AMI %s is %s: %s", r.name, id, image.State, reason(image))
		case !lacks(image.Tags, j.tags):
			return true, nil
		}
		return true, r.setTags(ctx, j.tags, id)
	})
}

func reason(image *types.Image) string {
	if image.StateReason == nil {
		return "EC2 does not say why"
	}
	return aws.ToString(image.StateReason.Message)
}
