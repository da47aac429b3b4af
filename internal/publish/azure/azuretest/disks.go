package azuretest

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"path"
	"slices"
	"strings"
	"time"

	azfake "github.com/Azure/azure-sdk-for-go/sdk/azcore/fake"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/to"
	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/compute/armcompute/v7"
	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/compute/armcompute/v7/fake"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/pageblob"
)

// diskContainer is where the pages of managed disks lie in Azurite.
const diskContainer = "managed-disks"

func (r *Resources) disksServer() fake.DisksServer {
	return fake.DisksServer{
		Get: get[armcompute.DisksClientGetOptions](r, r.disks, func(d *armcompute.Disk) armcompute.DisksClientGetResponse {
			return armcompute.DisksClientGetResponse{Disk: *d}
		}),
		BeginCreateOrUpdate: func(ctx context.Context, _, name string, body armcompute.Disk, _ *armcompute.DisksClientBeginCreateOrUpdateOptions) (azfake.PollerResponder[armcompute.DisksClientCreateOrUpdateResponse], azfake.ErrorResponder) {
			r.check("DisksClient.BeginCreateOrUpdate", body)
			if disk := r.disk(name); disk != nil { // asked again, as an answer was lost
				return done(armcompute.DisksClientCreateOrUpdateResponse{Disk: *disk})
			}
			if err := r.makePages(ctx, name, *body.Properties.CreationData.UploadSizeBytes); err != nil {
				r.note(err.Error())
				return refuse[armcompute.DisksClientCreateOrUpdateResponse](http.StatusInternalServerError, "InternalError")
			}
			r.mu.Lock()
			r.made++
			body.Name, body.Properties.UniqueID = &name, to.Ptr(fmt.Sprintf("disk-%d", r.made))
			r.mu.Unlock()
			body.Properties.DiskState = to.Ptr(armcompute.DiskStateReadyToUpload)
			return put(r, r.disks, name, &body, armcompute.DisksClientCreateOrUpdateResponse{Disk: body})
		},
		BeginGrantAccess: func(_ context.Context, _, name string, body armcompute.GrantAccessData, _ *armcompute.DisksClientBeginGrantAccessOptions) (poller azfake.PollerResponder[armcompute.DisksClientGrantAccessResponse], failure azfake.ErrorResponder) {
			r.check("DisksClient.BeginGrantAccess", body)
			if !r.setDiskState(name, armcompute.DiskStateActiveUpload, armcompute.DiskStateReadyToUpload, armcompute.DiskStateActiveUpload) {
				return refuse[armcompute.DisksClientGrantAccessResponse](http.StatusConflict, "OperationNotAllowed")
			}
			address := r.azurite.SAS(r.t, diskContainer, name, time.Hour)
			if r.SignedBase != "" {
				address = strings.Replace(address, r.azurite.Endpoint, r.SignedBase, 1)
			}
			return done(armcompute.DisksClientGrantAccessResponse{AccessURI: armcompute.AccessURI{AccessSAS: &address}})
		},
		BeginRevokeAccess: func(_ context.Context, _, name string, _ *armcompute.DisksClientBeginRevokeAccessOptions) (poller azfake.PollerResponder[armcompute.DisksClientRevokeAccessResponse], failure azfake.ErrorResponder) {
			r.setDiskState(name, armcompute.DiskStateUnattached, armcompute.DiskStateActiveUpload, armcompute.DiskStateReadyToUpload)
			return done(armcompute.DisksClientRevokeAccessResponse{})
		},
		BeginDelete: func(ctx context.Context, _, name string, _ *armcompute.DisksClientBeginDeleteOptions) (azfake.PollerResponder[armcompute.DisksClientDeleteResponse], azfake.ErrorResponder) {
			if r.diskState(name) == armcompute.DiskStateActiveUpload {
				return refuse[armcompute.DisksClientDeleteResponse](http.StatusConflict, "OperationNotAllowed")
			}
			if blob, err := r.azurite.PageBlob(diskContainer, name); err == nil {
				_, _ = blob.Delete(ctx, nil)
			}
			return remove[*armcompute.Disk, armcompute.DisksClientDeleteResponse](r, r.disks, name)
		},
	}
}

// disk returns a disk; nil for none.
func (r *Resources) disk(name string) *armcompute.Disk {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.disks[name]
}

func (r *Resources) diskState(name string) armcompute.DiskState {
	if disk := r.disk(name); disk != nil {
		return *disk.Properties.DiskState
	}
	return ""
}

// setDiskState changes a disk's state if it is one of some.
func (r *Resources) setDiskState(name string, state armcompute.DiskState, from ...armcompute.DiskState) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	disk := r.disks[name]
	if disk == nil || !slices.Contains(from, *disk.Properties.DiskState) {
		return false
	}
	disk.Properties.DiskState = &state
	return true
}

// makePages makes the page blob behind a managed disk.
func (r *Resources) makePages(ctx context.Context, name string, size int64) error {
	all, err := r.azurite.Container(diskContainer)
	if err != nil {
		return err
	}
	_, _ = all.Create(ctx, nil) // it may be there
	blob, err := r.azurite.PageBlob(diskContainer, name)
	if err != nil {
		return err
	}
	_, err = blob.Create(ctx, size, nil)
	return err
}

// content reads what an image is to be made of, a disk or a blob, and returns its
// SHA-256.
func (r *Resources) content(ctx context.Context, diskID, uri *string) (string, error) {
	var blob *pageblob.Client
	var err error
	switch {
	case diskID != nil:
		name := path.Base(*diskID)
		if state := r.diskState(name); state != armcompute.DiskStateUnattached {
			return "", fmt.Errorf("an image is made of the disk %s, which is %q", name, state)
		}
		blob, err = r.azurite.PageBlob(diskContainer, name)
	case uri != nil:
		parts := strings.Split(*uri, "/")
		blob, err = r.azurite.PageBlob(parts[len(parts)-2], parts[len(parts)-1])
	default:
		return "", fmt.Errorf("an image is made of nothing")
	}
	if err != nil {
		return "", err
	}
	response, err := blob.DownloadStream(ctx, nil)
	if err != nil {
		return "", err
	}
	defer func() { _ = response.Body.Close() }()
	sum := sha256.New()
	if _, err := io.Copy(sum, response.Body); err != nil {
		return "", err
	}
	return hex.EncodeToString(sum.Sum(nil)), nil
}
