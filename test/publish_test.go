package test

import (
	"context"
	"net/http/httptest"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/ebs"

	"nodesmith.dev/nodesmith/internal/format/known"
	"nodesmith.dev/nodesmith/internal/publish/aws/snapshot"
	"nodesmith.dev/nodesmith/internal/publish/publishtest/blocksink"
	"nodesmith.dev/nodesmith/internal/publish/publishtest/moto"
)

// sendsUnderTwoPercent writes the disk of one image to an EBS snapshot, and that of
// the next version to a child, and holds that the second one sends under 2% of the
// blocks.
func sendsUnderTwoPercent(t *testing.T, first, second string) {
	t.Helper()
	server := httptest.NewServer(blocksink.Handler())
	t.Cleanup(server.Close)
	client := ebs.NewFromConfig(moto.Config(server.URL, "us-east-1"))
	whole := uploadTo(t, client, first, nil)
	next := uploadTo(t, client, second, whole.Blocks)
	t.Logf("the next version sends %d of %d blocks", len(next.Sent), len(next.Blocks))
	if len(next.Sent) == 0 || 50*len(next.Sent) >= len(next.Blocks) {
		t.Errorf("the next version sends %d of %d blocks, not under 2%%", len(next.Sent), len(next.Blocks))
	}
}

func uploadTo(t *testing.T, client *ebs.Client, path string, parent snapshot.Digests) *snapshot.Result {
	t.Helper()
	disk, err := known.OpenFile(path, "")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = disk.Close() }()
	upload := snapshot.Upload{
		Client: client, ID: "snap-0123456789abcdef0", Disk: disk, Parent: parent, Workers: 4,
		Retry: func(ctx context.Context, request func(context.Context) error) error { return request(ctx) },
	}
	result, err := upload.Run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return result
}
