package aws

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/opencontainers/go-digest"

	"nodesmith.dev/nodesmith/internal/publish"
)

// List returns this project's AMIs in the target's regions, and others that are
// named as Cluster API's provider looks for them.
func (p *Publisher) List(ctx context.Context) ([]publish.Published, error) {
	var list []publish.Published
	for _, r := range p.all() {
		var found []types.Image
		for _, by := range []types.Filter{filter("tag-key", publish.TagBy), filter("name", "capa-ami-*")} {
			images, err := r.images(ctx, by)
			if err != nil {
				return nil, explain(err)
			}
			for _, image := range images {
				if !slices.Contains(ids(found), *image.ImageId) {
					found = append(found, image)
				}
			}
		}
		used, err := r.usedBy(ctx, ids(found)...)
		if err != nil {
			return nil, explain(err)
		}
		for _, image := range found {
			// EC2 writes milliseconds, which the layout need not have.
			created, _ := time.Parse(time.RFC3339, aws.ToString(image.CreationDate))
			list = append(list, publish.Published{
				Place: p.Place(), Region: r.name, Kind: "AMI", ID: *image.ImageId, Name: aws.ToString(image.Name),
				Digest: digest.Digest(tag(image.Tags, publish.TagDigest)), Kubernetes: tag(image.Tags, publish.TagKubernetes),
				Level: tag(image.Tags, publish.TagLevel), Created: created, UsedBy: used[*image.ImageId],
			})
		}
	}
	slices.SortStableFunc(list, func(a, b publish.Published) int { return strings.Compare(a.Region+a.Name, b.Region+b.Name) })
	return list, nil
}
