package aws

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/aws/aws-sdk-go-v2/service/ssm"
	ssmtypes "github.com/aws/aws-sdk-go-v2/service/ssm/types"

	"nodesmith.dev/nodesmith/internal/publish"
)

// permissions are what the target shares the AMI with.
func (j *job) permissions() []types.LaunchPermission {
	var all []types.LaunchPermission
	for _, account := range j.target.Share.Accounts {
		all = append(all, types.LaunchPermission{UserId: aws.String(account)})
	}
	for _, arn := range j.target.Share.Organizations {
		all = append(all, types.LaunchPermission{OrganizationArn: aws.String(arn)})
	}
	for _, arn := range j.target.Share.OrganizationalUnits {
		all = append(all, types.LaunchPermission{OrganizationalUnitArn: aws.String(arn)})
	}
	if j.target.Share.Everyone {
		all = append(all, types.LaunchPermission{Group: types.PermissionGroupAll})
	}
	return all
}

// who is a permission's text, by which two are compared.
func who(p types.LaunchPermission) string {
	switch {
	case p.UserId != nil:
		return "account " + *p.UserId
	case p.OrganizationArn != nil:
		return *p.OrganizationArn
	case p.OrganizationalUnitArn != nil:
		return *p.OrganizationalUnitArn
	}
	return "everyone"
}

func names(permissions []types.LaunchPermission) []string {
	var all []string
	for _, p := range permissions {
		all = append(all, who(p))
	}
	return all
}

// sharedWith returns who may launch an AMI besides its owner.
func (r *region) sharedWith(ctx context.Context, id string) ([]types.LaunchPermission, error) {
	out, err := r.look.DescribeImageAttribute(ctx, &ec2.DescribeImageAttributeInput{ImageId: &id, Attribute: types.ImageAttributeNameLaunchPermission})
	if err != nil {
		return nil, fmt.Errorf("%s: who may launch %s: %w", r.name, id, err)
	}
	return out.LaunchPermissions, nil
}

func (j *job) planShare(ctx context.Context, r *region, image *types.Image) error {
	want := j.permissions()
	if len(want) == 0 {
		return nil
	}
	missing := want
	if image != nil {
		have, err := r.sharedWith(ctx, *image.ImageId)
		if err != nil {
			return err
		}
		missing = slices.DeleteFunc(slices.Clone(want), func(p types.LaunchPermission) bool { return slices.Contains(names(have), who(p)) })
	}
	j.changes(r, "share", "permission", strings.Join(names(want), ", "), "", len(missing) == 0, func(ctx context.Context, run *publish.Run) error {
		id := j.id(run, r)
		// First, since a plan takes an AMI that is shared for done.
		if err := j.shareDisks(ctx, r, id); err != nil {
			return err
		}
		_, err := r.ec2.ModifyImageAttribute(ctx, &ec2.ModifyImageAttributeInput{ImageId: &id, LaunchPermission: &types.LaunchPermissionModifications{Add: want}})
		if err != nil {
			return fmt.Errorf("%s: share %s: %w", r.name, id, err)
		}
		return nil
	})
	return nil
}

// shareDisks lets the accounts copy the AMI, for which they need its snapshots.
func (j *job) shareDisks(ctx context.Context, r *region, id string) error {
	if len(j.target.Share.Accounts) == 0 {
		return nil
	}
	image, err := r.image(ctx, id)
	if err != nil || image == nil {
		return err
	}
	for _, disk := range disksOf(*image) {
		_, err := r.ec2.ModifySnapshotAttribute(ctx, &ec2.ModifySnapshotAttributeInput{
			SnapshotId: &disk, Attribute: types.SnapshotAttributeNameCreateVolumePermission,
			OperationType: types.OperationTypeAdd, UserIds: j.target.Share.Accounts,
		})
		if err != nil {
			return fmt.Errorf("%s: share snapshot %s: %w", r.name, disk, err)
		}
	}
	return nil
}

// planDeprecation has EC2 mark the AMI so many days after the image was built.
func (j *job) planDeprecation(_ context.Context, r *region, image *types.Image) error {
	if j.target.DeprecateAfter == 0 {
		return nil
	}
	// EC2 keeps whole minutes, and rounds up.
	date := j.image.Built.UTC().AddDate(0, 0, int(j.target.DeprecateAfter)).Truncate(time.Minute)
	there := false
	if image != nil {
		have, err := time.Parse(time.RFC3339, aws.ToString(image.DeprecationTime))
		there = err == nil && have.Truncate(time.Minute).Equal(date)
	}
	j.changes(r, "deprecation", "deprecation date", date.Format(time.DateOnly), "", there, func(ctx context.Context, run *publish.Run) error {
		id := j.id(run, r)
		if _, err := r.ec2.EnableImageDeprecation(ctx, &ec2.EnableImageDeprecationInput{ImageId: &id, DeprecateAt: &date}); err != nil {
			return fmt.Errorf("%s: deprecate %s at %s: %w", r.name, id, date.Format(time.DateOnly), err)
		}
		return nil
	})
	return nil
}

// parameterValue returns what a parameter holds; "" if it is not there.
func (r *region) parameterValue(ctx context.Context, name string) (string, error) {
	out, err := r.ssm.GetParameter(ctx, &ssm.GetParameterInput{Name: &name})
	if is(err, "ParameterNotFound") {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("%s: parameter %s: %w", r.name, name, err)
	}
	return aws.ToString(out.Parameter.Value), nil
}

func (j *job) planParameter(ctx context.Context, r *region, image *types.Image) error {
	if j.parameter == "" {
		return nil
	}
	have, err := r.parameterValue(ctx, j.parameter)
	if err != nil {
		return err
	}
	why := ""
	if have != "" {
		why = "it holds " + have
	}
	there := image != nil && have == *image.ImageId
	j.changes(r, "parameter", "parameter", j.parameter, why, there, func(ctx context.Context, run *publish.Run) error {
		_, err := r.ssm.PutParameter(ctx, &ssm.PutParameterInput{
			Name: &j.parameter, Value: aws.String(j.id(run, r)), Type: ssmtypes.ParameterTypeString,
			DataType: aws.String("aws:ec2:image"), Overwrite: aws.Bool(true),
		})
		if err != nil {
			return fmt.Errorf("%s: parameter %s: %w", r.name, j.parameter, err)
		}
		return nil
	})
	return nil
}
