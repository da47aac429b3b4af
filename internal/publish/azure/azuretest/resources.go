package azuretest

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"maps"
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

// one answers a question for a thing of a map.
func one[T, R any](r *Resources, things map[string]T, name string, wrap func(T) R) (response azfake.Responder[R], failure azfake.ErrorResponder) {
	r.mu.Lock()
	defer r.mu.Unlock()
	thing, ok := things[name]
	if !ok {
		failure.SetResponseError(http.StatusNotFound, "ResourceNotFound")
		return response, failure
	}
	response.SetResponse(http.StatusOK, wrap(thing), nil)
	return response, failure
}

// put keeps a thing and answers with it.
func put[T, R any](r *Resources, things map[string]T, name string, thing T, response R) (poller azfake.PollerResponder[R], failure azfake.ErrorResponder) {
	r.mu.Lock()
	defer r.mu.Unlock()
	things[name] = thing
	poller.SetTerminalResponse(http.StatusOK, response, nil)
	return poller, failure
}

// remove takes a thing away.
func remove[T, R any](r *Resources, things map[string]T, name string) (poller azfake.PollerResponder[R], failure azfake.ErrorResponder) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(things, name)
	var none R
	poller.SetTerminalResponse(http.StatusOK, none, nil)
	return poller, failure
}

func refuse[R any](status int, code string) (poller azfake.PollerResponder[R], failure azfake.ErrorResponder) {
	failure.SetResponseError(status, code)
	return poller, failure
}

func (r *Resources) galleriesServer() fake.GalleriesServer {
	return fake.GalleriesServer{
		Get: func(_ context.Context, _, name string, _ *armcompute.GalleriesClientGetOptions) (azfake.Responder[armcompute.GalleriesClientGetResponse], azfake.ErrorResponder) {
			return one(r, r.galleries, name, func(g *armcompute.Gallery) armcompute.GalleriesClientGetResponse {
				return armcompute.GalleriesClientGetResponse{Gallery: *g}
			})
		},
		BeginCreateOrUpdate: func(_ context.Context, _, name string, body armcompute.Gallery, _ *armcompute.GalleriesClientBeginCreateOrUpdateOptions) (azfake.PollerResponder[armcompute.GalleriesClientCreateOrUpdateResponse], azfake.ErrorResponder) {
			r.check("GalleriesClient.BeginCreateOrUpdate", body)
			return put(r, r.galleries, name, &body, armcompute.GalleriesClientCreateOrUpdateResponse{Gallery: body})
		},
		BeginUpdate: func(_ context.Context, _, name string, body armcompute.GalleryUpdate, _ *armcompute.GalleriesClientBeginUpdateOptions) (azfake.PollerResponder[armcompute.GalleriesClientUpdateResponse], azfake.ErrorResponder) {
			r.check("GalleriesClient.BeginUpdate", body)
			gallery := r.galleries[name]
			gallery.Properties.SharingProfile = body.Properties.SharingProfile
			return put(r, r.galleries, name, gallery, armcompute.GalleriesClientUpdateResponse{Gallery: *gallery})
		},
	}
}

func (r *Resources) sharingServer() fake.GallerySharingProfileServer {
	return fake.GallerySharingProfileServer{
		BeginUpdate: func(_ context.Context, _, name string, body armcompute.SharingUpdate, _ *armcompute.GallerySharingProfileClientBeginUpdateOptions) (azfake.PollerResponder[armcompute.GallerySharingProfileClientUpdateResponse], azfake.ErrorResponder) {
			r.check("GallerySharingProfileClient.BeginUpdate", body)
			gallery := r.galleries[name]
			if gallery == nil || gallery.Properties.SharingProfile == nil {
				return refuse[armcompute.GallerySharingProfileClientUpdateResponse](http.StatusBadRequest, "SharingNotAllowed")
			}
			profile := gallery.Properties.SharingProfile
			if *body.OperationType == armcompute.SharingUpdateOperationTypesEnableCommunity {
				profile.CommunityGalleryInfo.CommunityGalleryEnabled = to.Ptr(true)
			} else {
				profile.Groups = append(profile.Groups, body.Groups...)
			}
			return put(r, r.galleries, name, gallery, armcompute.GallerySharingProfileClientUpdateResponse{SharingUpdate: body})
		},
	}
}

func (r *Resources) definitionsServer() fake.GalleryImagesServer {
	return fake.GalleryImagesServer{
		Get: func(_ context.Context, _, _, name string, _ *armcompute.GalleryImagesClientGetOptions) (azfake.Responder[armcompute.GalleryImagesClientGetResponse], azfake.ErrorResponder) {
			return one(r, r.definitions, name, func(d *armcompute.GalleryImage) armcompute.GalleryImagesClientGetResponse {
				return armcompute.GalleryImagesClientGetResponse{GalleryImage: *d}
			})
		},
		NewListByGalleryPager: func(_, gallery string, _ *armcompute.GalleryImagesClientListByGalleryOptions) (pager azfake.PagerResponder[armcompute.GalleryImagesClientListByGalleryResponse]) {
			r.mu.Lock()
			defer r.mu.Unlock()
			if r.galleries[gallery] == nil {
				pager.AddResponseError(http.StatusNotFound, "ResourceNotFound")
				return pager
			}
			for _, name := range slices.Sorted(maps.Keys(r.definitions)) { // a page each
				pager.AddPage(http.StatusOK, armcompute.GalleryImagesClientListByGalleryResponse{GalleryImageList: armcompute.GalleryImageList{Value: []*armcompute.GalleryImage{r.definitions[name]}}}, nil)
			}
			if len(r.definitions) == 0 {
				pager.AddPage(http.StatusOK, armcompute.GalleryImagesClientListByGalleryResponse{}, nil)
			}
			return pager
		},
		BeginCreateOrUpdate: func(_ context.Context, _, gallery, name string, body armcompute.GalleryImage, _ *armcompute.GalleryImagesClientBeginCreateOrUpdateOptions) (azfake.PollerResponder[armcompute.GalleryImagesClientCreateOrUpdateResponse], azfake.ErrorResponder) {
			r.check("GalleryImagesClient.BeginCreateOrUpdate", body)
			if r.galleries[gallery] == nil {
				return refuse[armcompute.GalleryImagesClientCreateOrUpdateResponse](http.StatusNotFound, "ParentResourceNotFound")
			}
			body.Name = &name
			return put(r, r.definitions, name, &body, armcompute.GalleryImagesClientCreateOrUpdateResponse{GalleryImage: body})
		},
		BeginUpdate: func(_ context.Context, _, _, name string, body armcompute.GalleryImageUpdate, _ *armcompute.GalleryImagesClientBeginUpdateOptions) (azfake.PollerResponder[armcompute.GalleryImagesClientUpdateResponse], azfake.ErrorResponder) {
			definition := r.definitions[name]
			definition.Tags = body.Tags
			return put(r, r.definitions, name, definition, armcompute.GalleryImagesClientUpdateResponse{GalleryImage: *definition})
		},
		BeginDelete: func(_ context.Context, _, _, name string, _ *armcompute.GalleryImagesClientBeginDeleteOptions) (azfake.PollerResponder[armcompute.GalleryImagesClientDeleteResponse], azfake.ErrorResponder) {
			for version := range r.versions {
				if strings.HasPrefix(version, name+"/") {
					return refuse[armcompute.GalleryImagesClientDeleteResponse](http.StatusConflict, "CannotDeleteResource")
				}
			}
			return remove[*armcompute.GalleryImage, armcompute.GalleryImagesClientDeleteResponse](r, r.definitions, name)
		},
	}
}

func (r *Resources) versionsServer() fake.GalleryImageVersionsServer {
	return fake.GalleryImageVersionsServer{
		Get: func(_ context.Context, _, _, definition, name string, _ *armcompute.GalleryImageVersionsClientGetOptions) (azfake.Responder[armcompute.GalleryImageVersionsClientGetResponse], azfake.ErrorResponder) {
			return one(r, r.versions, definition+"/"+name, func(v *version) armcompute.GalleryImageVersionsClientGetResponse {
				if v.polls++; v.polls >= r.Polls {
					v.Properties.ProvisioningState = to.Ptr(armcompute.GalleryProvisioningStateSucceeded)
				}
				return armcompute.GalleryImageVersionsClientGetResponse{GalleryImageVersion: v.GalleryImageVersion}
			})
		},
		NewListByGalleryImagePager: func(_, _, definition string, _ *armcompute.GalleryImageVersionsClientListByGalleryImageOptions) (pager azfake.PagerResponder[armcompute.GalleryImageVersionsClientListByGalleryImageResponse]) {
			r.mu.Lock()
			defer r.mu.Unlock()
			var list []*armcompute.GalleryImageVersion
			for _, name := range slices.Sorted(maps.Keys(r.versions)) {
				if path.Dir(name) == definition {
					list = append(list, &r.versions[name].GalleryImageVersion)
				}
			}
			pager.AddPage(http.StatusOK, armcompute.GalleryImageVersionsClientListByGalleryImageResponse{GalleryImageVersionList: armcompute.GalleryImageVersionList{Value: list}}, nil)
			return pager
		},
		BeginCreateOrUpdate: r.beginVersion,
		BeginUpdate: func(_ context.Context, _, _, definition, name string, body armcompute.GalleryImageVersionUpdate, _ *armcompute.GalleryImageVersionsClientBeginUpdateOptions) (azfake.PollerResponder[armcompute.GalleryImageVersionsClientUpdateResponse], azfake.ErrorResponder) {
			r.check("GalleryImageVersionsClient.BeginUpdate", body)
			found := r.versions[definition+"/"+name]
			found.Tags, found.Properties.PublishingProfile = body.Tags, body.Properties.PublishingProfile
			return put(r, r.versions, definition+"/"+name, found, armcompute.GalleryImageVersionsClientUpdateResponse{GalleryImageVersion: found.GalleryImageVersion})
		},
		BeginDelete: func(_ context.Context, _, _, definition, name string, _ *armcompute.GalleryImageVersionsClientBeginDeleteOptions) (azfake.PollerResponder[armcompute.GalleryImageVersionsClientDeleteResponse], azfake.ErrorResponder) {
			return remove[*version, armcompute.GalleryImageVersionsClientDeleteResponse](r, r.versions, definition+"/"+name)
		},
	}
}

func (r *Resources) beginVersion(ctx context.Context, _, _, definition, name string, body armcompute.GalleryImageVersion, _ *armcompute.GalleryImageVersionsClientBeginCreateOrUpdateOptions) (poller azfake.PollerResponder[armcompute.GalleryImageVersionsClientCreateOrUpdateResponse], failure azfake.ErrorResponder) {
	r.check("GalleryImageVersionsClient.BeginCreateOrUpdate", body)
	source := body.Properties.StorageProfile.OSDiskImage.Source
	content, err := r.content(ctx, source.ID, source.URI)
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.definitions[definition] == nil {
		failure.SetResponseError(http.StatusNotFound, "ParentResourceNotFound")
		return poller, failure
	}
	if err != nil {
		r.wrong = append(r.wrong, err.Error())
		failure.SetResponseError(http.StatusBadRequest, "InvalidSource")
		return poller, failure
	}
	if found := r.versions[definition+"/"+name]; found != nil && found.Content != content {
		r.wrong = append(r.wrong, "version "+name+" was overwritten")
	}
	body.Name, body.Properties.ProvisioningState = &name, to.Ptr(armcompute.GalleryProvisioningStateCreating)
	body.Properties.PublishingProfile.PublishedDate = to.Ptr(time.Now())
	made := &version{GalleryImageVersion: body, Content: content}
	r.versions[definition+"/"+name] = made
	for range r.Polls {
		poller.AddNonTerminalResponse(http.StatusCreated, nil)
	}
	poller.SetTerminalResponse(http.StatusOK, armcompute.GalleryImageVersionsClientCreateOrUpdateResponse{GalleryImageVersion: body}, nil)
	return poller, failure
}

func (r *Resources) imagesServer() fake.ImagesServer {
	return fake.ImagesServer{
		Get: func(_ context.Context, _, name string, _ *armcompute.ImagesClientGetOptions) (azfake.Responder[armcompute.ImagesClientGetResponse], azfake.ErrorResponder) {
			return one(r, r.images, name, func(i *armcompute.Image) armcompute.ImagesClientGetResponse {
				return armcompute.ImagesClientGetResponse{Image: *i}
			})
		},
		NewListByResourceGroupPager: func(string, *armcompute.ImagesClientListByResourceGroupOptions) (pager azfake.PagerResponder[armcompute.ImagesClientListByResourceGroupResponse]) {
			r.mu.Lock()
			defer r.mu.Unlock()
			list := slices.Collect(maps.Values(r.images))
			pager.AddPage(http.StatusOK, armcompute.ImagesClientListByResourceGroupResponse{ImageListResult: armcompute.ImageListResult{Value: list}}, nil)
			return pager
		},
		BeginCreateOrUpdate: func(ctx context.Context, _, name string, body armcompute.Image, _ *armcompute.ImagesClientBeginCreateOrUpdateOptions) (azfake.PollerResponder[armcompute.ImagesClientCreateOrUpdateResponse], azfake.ErrorResponder) {
			r.check("ImagesClient.BeginCreateOrUpdate", body)
			var disk *string
			if body.Properties.StorageProfile.OSDisk.ManagedDisk != nil {
				disk = body.Properties.StorageProfile.OSDisk.ManagedDisk.ID
			}
			if _, err := r.content(ctx, disk, body.Properties.StorageProfile.OSDisk.BlobURI); err != nil {
				r.note(err.Error())
				return refuse[armcompute.ImagesClientCreateOrUpdateResponse](http.StatusBadRequest, "InvalidSource")
			}
			body.Name, body.Properties.ProvisioningState = &name, to.Ptr("Succeeded")
			return put(r, r.images, name, &body, armcompute.ImagesClientCreateOrUpdateResponse{Image: body})
		},
		BeginDelete: func(_ context.Context, _, name string, _ *armcompute.ImagesClientBeginDeleteOptions) (azfake.PollerResponder[armcompute.ImagesClientDeleteResponse], azfake.ErrorResponder) {
			return remove[*armcompute.Image, armcompute.ImagesClientDeleteResponse](r, r.images, name)
		},
	}
}

// diskContainer is where the pages of managed disks lie in Azurite.
const diskContainer = "managed-disks"

func (r *Resources) disksServer() fake.DisksServer {
	return fake.DisksServer{
		Get: func(_ context.Context, _, name string, _ *armcompute.DisksClientGetOptions) (azfake.Responder[armcompute.DisksClientGetResponse], azfake.ErrorResponder) {
			return one(r, r.disks, name, func(d *armcompute.Disk) armcompute.DisksClientGetResponse {
				return armcompute.DisksClientGetResponse{Disk: *d}
			})
		},
		BeginCreateOrUpdate: func(ctx context.Context, _, name string, body armcompute.Disk, _ *armcompute.DisksClientBeginCreateOrUpdateOptions) (azfake.PollerResponder[armcompute.DisksClientCreateOrUpdateResponse], azfake.ErrorResponder) {
			r.check("DisksClient.BeginCreateOrUpdate", body)
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
			poller.SetTerminalResponse(http.StatusOK, armcompute.DisksClientGrantAccessResponse{AccessURI: armcompute.AccessURI{AccessSAS: &address}}, nil)
			return poller, failure
		},
		BeginRevokeAccess: func(_ context.Context, _, name string, _ *armcompute.DisksClientBeginRevokeAccessOptions) (poller azfake.PollerResponder[armcompute.DisksClientRevokeAccessResponse], failure azfake.ErrorResponder) {
			r.setDiskState(name, armcompute.DiskStateUnattached, armcompute.DiskStateActiveUpload, armcompute.DiskStateReadyToUpload)
			poller.SetTerminalResponse(http.StatusOK, armcompute.DisksClientRevokeAccessResponse{}, nil)
			return poller, failure
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

func (r *Resources) diskState(name string) armcompute.DiskState {
	r.mu.Lock()
	defer r.mu.Unlock()
	if disk := r.disks[name]; disk != nil {
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

func (r *Resources) machinesServer() fake.VirtualMachinesServer {
	return fake.VirtualMachinesServer{
		NewListAllPager: func(*armcompute.VirtualMachinesClientListAllOptions) (pager azfake.PagerResponder[armcompute.VirtualMachinesClientListAllResponse]) {
			r.mu.Lock()
			defer r.mu.Unlock()
			pager.AddPage(http.StatusOK, armcompute.VirtualMachinesClientListAllResponse{VirtualMachineListResult: armcompute.VirtualMachineListResult{Value: r.machines}}, nil)
			return pager
		},
	}
}

func (r *Resources) scaleSetsServer() fake.VirtualMachineScaleSetsServer {
	return fake.VirtualMachineScaleSetsServer{
		NewListAllPager: func(*armcompute.VirtualMachineScaleSetsClientListAllOptions) (pager azfake.PagerResponder[armcompute.VirtualMachineScaleSetsClientListAllResponse]) {
			r.mu.Lock()
			defer r.mu.Unlock()
			pager.AddPage(http.StatusOK, armcompute.VirtualMachineScaleSetsClientListAllResponse{VirtualMachineScaleSetListWithLinkResult: armcompute.VirtualMachineScaleSetListWithLinkResult{Value: r.scaleSets}}, nil)
			return pager
		},
	}
}
