package cli

import (
	"context"
	"io/fs"

	"nodesmith.dev/nodesmith/api/v1alpha1"
	"nodesmith.dev/nodesmith/internal/publish"
	"nodesmith.dev/nodesmith/internal/publish/azure"
)

func azurePublishers(_ context.Context, spec v1alpha1.PublishSpec, _ fs.FS) ([]publish.Publisher, error) {
	var all []publish.Publisher
	for _, target := range spec.Azure {
		publisher, err := azure.New(target, azure.Endpoint{})
		if err != nil {
			return nil, err
		}
		all = append(all, publisher)
	}
	return all, nil
}
