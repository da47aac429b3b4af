package aws

import (
	"context"
	"fmt"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
)

// usedBy returns what would break without each of some AMIs: instances that are
// not terminated, and versions of launch templates. What other accounts do with
// a shared AMI can't be seen.
func (r *region) usedBy(ctx context.Context, ids ...string) (map[string][]string, error) {
	users := map[string][]string{}
	if len(ids) == 0 {
		return users, nil
	}
	wanted := map[string]bool{}
	for _, id := range ids {
		wanted[id] = true
	}
	instances := ec2.NewDescribeInstancesPaginator(r.look, &ec2.DescribeInstancesInput{Filters: []types.Filter{
		filter("image-id", ids...), filter("instance-state-name", "pending", "running", "shutting-down", "stopping", "stopped"),
	}})
	for instances.HasMorePages() {
		page, err := instances.NextPage(ctx)
		if err != nil {
			return nil, fmt.Errorf("%s: list instances: %w", r.name, err)
		}
		for _, reservation := range page.Reservations {
			for _, i := range reservation.Instances {
				users[*i.ImageId] = append(users[*i.ImageId], "instance "+*i.InstanceId)
			}
		}
	}
	templates := ec2.NewDescribeLaunchTemplatesPaginator(r.look, &ec2.DescribeLaunchTemplatesInput{})
	for templates.HasMorePages() {
		page, err := templates.NextPage(ctx)
		if err != nil {
			return nil, fmt.Errorf("%s: list launch templates: %w", r.name, err)
		}
		for _, template := range page.LaunchTemplates {
			if err := r.templateUses(ctx, template, wanted, users); err != nil {
				return nil, err
			}
		}
	}
	return users, nil
}

// templateUses adds the versions of one launch template: a group may be bound to
// any of them.
func (r *region) templateUses(ctx context.Context, template types.LaunchTemplate, wanted map[string]bool, users map[string][]string) error {
	versions := ec2.NewDescribeLaunchTemplateVersionsPaginator(r.look, &ec2.DescribeLaunchTemplateVersionsInput{LaunchTemplateId: template.LaunchTemplateId})
	for versions.HasMorePages() {
		page, err := versions.NextPage(ctx)
		if is(err, "InvalidLaunchTemplateId.NotFound") {
			return nil // deleted meanwhile
		}
		if err != nil {
			return fmt.Errorf("%s: versions of launch template %s: %w", r.name, aws.ToString(template.LaunchTemplateName), err)
		}
		for _, v := range page.LaunchTemplateVersions {
			if v.LaunchTemplateData == nil || !wanted[aws.ToString(v.LaunchTemplateData.ImageId)] {
				continue
			}
			id := *v.LaunchTemplateData.ImageId
			users[id] = append(users[id], fmt.Sprintf("launch template %s, version %d", aws.ToString(v.LaunchTemplateName), aws.ToInt64(v.VersionNumber)))
		}
	}
	return nil
}
