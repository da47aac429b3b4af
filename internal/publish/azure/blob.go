package azure

import (
	"context"
	"fmt"
	"strings"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/to"
	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/compute/armcompute/v7"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/blob"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/bloberror"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/pageblob"
	"github.com/opencontainers/go-digest"

	"nodesmith.dev/nodesmith/internal/fault"
	"nodesmith.dev/nodesmith/internal/publish"
)

// blobStaging is a page blob of a storage account.
type blobStaging struct {
	*Publisher
	digest   digest.Digest
	blobName string
}

func (b *blobStaging) kind() string { return "page blob" }
func (b *blobStaging) name() string {
	return b.target.Upload.StorageAccount + "/" + b.target.Upload.Container + "/" + b.blobName
}

func (b *blobStaging) client() (*pageblob.Client, error) {
	return b.api.blob(b.target.Upload.StorageAccount, b.target.Upload.Container, b.blobName)
}

// find returns what is known of the blob, nil for none.
func (b *blobStaging) find(ctx context.Context, client *pageblob.Client) (*blob.GetPropertiesResponse, error) {
	found, err := get(ctx, func(ctx context.Context) (blob.GetPropertiesResponse, error) {
		return client.GetProperties(ctx, nil)
	})
	if err != nil || found == nil {
		return nil, err
	}
	if other := metadata(found.Metadata, publish.TagDigest); other != b.digest.String() {
		return nil, fault.New(fault.Remote, "delete that blob, or set another upload.container", "the blob %s is there and is not of %s", b.name(), b.digest)
	}
	return found, nil
}

func (b *blobStaging) there(ctx context.Context) (bool, error) {
	client, err := b.client()
	if err != nil {
		return false, err
	}
	found, err := b.find(ctx, client)
	return found != nil, err
}

func (b *blobStaging) fill(ctx context.Context, run *publish.Run, image *publish.Image) error {
	client, err := b.client()
	if err != nil {
		return err
	}
	found, err := b.find(ctx, client)
	if err != nil {
		return err
	}
	if found == nil {
		if err := b.create(ctx, client, image); err != nil {
			return err
		}
		if found, err = b.find(ctx, client); err != nil {
			return err
		}
		if found == nil {
			return fmt.Errorf("the blob %s is not there although it was made", b.name())
		}
	}
	id := stamp(found.CreationTime)
	if run.Get(noteSent) == id {
		return nil
	}
	return b.send(ctx, run, client, id, image)
}

// create makes the container, if it is not there, and the blob, which holds
// nothing yet.
func (b *blobStaging) create(ctx context.Context, client *pageblob.Client, image *publish.Image) error {
	view, err := viewOf(image)
	if err != nil {
		return err
	}
	values := map[string]*string{}
	for name, value := range image.Tags() {
		values[metadataName(name)] = to.Ptr(value)
	}
	options := &pageblob.CreateOptions{
		Metadata: values, HTTPHeaders: &blob.HTTPHeaders{BlobContentType: to.Ptr("application/octet-stream")},
		// One that another run made meanwhile stays.
		AccessConditions: &blob.AccessConditions{ModifiedAccessConditions: &blob.ModifiedAccessConditions{IfNoneMatch: to.Ptr(azcore.ETagAny)}},
	}
	_, err = client.Create(ctx, view.Size(), options)
	if hasCode(err, string(bloberror.ContainerNotFound)) {
		container, errContainer := b.api.container(b.target.Upload.StorageAccount, b.target.Upload.Container)
		if errContainer != nil {
			return errContainer
		}
		if _, err := container.Create(ctx, nil); err != nil && !hasCode(err, string(bloberror.ContainerAlreadyExists)) {
			return err
		}
		_, err = client.Create(ctx, view.Size(), options)
	}
	if hasCode(err, string(bloberror.BlobAlreadyExists)) {
		return nil
	}
	return err
}

func (b *blobStaging) remove(ctx context.Context, _ *publish.Run) error {
	client, err := b.client()
	if err != nil {
		return err
	}
	if found, err := b.find(ctx, client); err != nil || found == nil {
		return err
	}
	_, err = client.Delete(ctx, &blob.DeleteOptions{DeleteSnapshots: to.Ptr(blob.DeleteSnapshotsOptionTypeInclude)})
	if hasCode(err, string(bloberror.BlobNotFound), string(bloberror.ContainerNotFound)) {
		return nil
	}
	return err
}

func (b *blobStaging) url() string {
	return b.api.account(b.target.Upload.StorageAccount) + "/" + b.target.Upload.Container + "/" + b.blobName
}

func (b *blobStaging) forVersion() *armcompute.GalleryDiskImageSource {
	return &armcompute.GalleryDiskImageSource{
		StorageAccountID: to.Ptr(fmt.Sprintf("/subscriptions/%s/resourceGroups/%s/providers/Microsoft.Storage/storageAccounts/%s",
			b.target.Subscription, b.target.Upload.StorageResourceGroup, b.target.Upload.StorageAccount)),
		URI: to.Ptr(b.url()),
	}
}

func (b *blobStaging) forImage(osDisk *armcompute.ImageOSDisk) { osDisk.BlobURI = to.Ptr(b.url()) }

// metadataName is the name of a tag as that of a blob's metadata, which has to
// be an identifier.
func metadataName(tag string) string { return strings.ReplaceAll(tag, "-", "_") }

// metadata returns what a blob says of itself under the name of a tag. The names
// come back as headers do.
func metadata(values map[string]*string, tag string) string {
	for name, value := range values {
		if strings.EqualFold(name, metadataName(tag)) {
			return deref(value)
		}
	}
	return ""
}
