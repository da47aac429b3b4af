package cli

import (
	"context"
	"io/fs"

	"nodesmith.dev/nodesmith/api/v1alpha1"
	"nodesmith.dev/nodesmith/internal/host"
	"nodesmith.dev/nodesmith/internal/publish"
	"nodesmith.dev/nodesmith/internal/publish/aws"
)

// awsPublishers make those of a spec's accounts.
func awsPublishers(ctx context.Context, spec v1alpha1.PublishSpec, _ fs.FS) ([]publish.Publisher, error) {
	state, err := host.PublishDir()
	if err != nil {
		return nil, err
	}
	var all []publish.Publisher
	for _, target := range spec.AWS {
		p, err := aws.New(ctx, target, aws.Options{State: state})
		if err != nil {
			return nil, err
		}
		all = append(all, p)
	}
	return all, nil
}
