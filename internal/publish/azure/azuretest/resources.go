package azuretest

import (
	"context"
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
)

// The fakes are one function for each operation, whose shapes follow from the depth
// of the address and from the operation's own options and answer. These make those
// that do the same for every kind of thing.

// get returns the function that answers with a thing of a map.
func get[O, R, T any](r *Resources, things map[string]T, answer func(T) R) func(context.Context, string, string, *O) (azfake.Responder[R], azfake.ErrorResponder) {
	return func(_ context.Context, _, name string, _ *O) (azfake.Responder[R], azfake.ErrorResponder) {
		return one(r, things, name, answer)
	}
}

// getBelow is get for things below a gallery: tests have one gallery.
func getBelow[O, R, T any](r *Resources, things map[string]T, answer func(T) R) func(context.Context, string, string, string, *O) (azfake.Responder[R], azfake.ErrorResponder) {
	return func(_ context.Context, _, _, name string, _ *O) (azfake.Responder[R], azfake.ErrorResponder) {
		return one(r, things, name, answer)
	}
}

// list returns the function that answers with all things of a resource group.
func list[O, R, T any](r *Resources, things map[string]T, answer func([]T) R) func(string, *O) azfake.PagerResponder[R] {
	return func(string, *O) azfake.PagerResponder[R] {
		r.mu.Lock()
		defer r.mu.Unlock()
		return page(answer(slices.Collect(maps.Values(things))))
	}
}

// listAll is list for what is in the whole subscription.
func listAll[O, R, T any](r *Resources, things *[]T, answer func([]T) R) func(*O) azfake.PagerResponder[R] {
	return func(*O) azfake.PagerResponder[R] {
		r.mu.Lock()
		defer r.mu.Unlock()
		return page(answer(*things))
	}
}

func page[R any](answer R) (pager azfake.PagerResponder[R]) {
	pager.AddPage(http.StatusOK, answer, nil)
	return pager
}

// one answers a question for a thing of a map.
func one[T, R any](r *Resources, things map[string]T, name string, answer func(T) R) (response azfake.Responder[R], failure azfake.ErrorResponder) {
	r.mu.Lock()
	defer r.mu.Unlock()
	thing, ok := things[name]
	if !ok {
		failure.SetResponseError(http.StatusNotFound, "ResourceNotFound")
		return response, failure
	}
	response.SetResponse(http.StatusOK, answer(thing), nil)
	return response, failure
}

// put keeps a thing and answers with it.
func put[T, R any](r *Resources, things map[string]T, name string, thing T, answer R) (poller azfake.PollerResponder[R], failure azfake.ErrorResponder) {
	r.mu.Lock()
	defer r.mu.Unlock()
	things[name] = thing
	return done(answer)
}

// remove takes a thing away.
func remove[T, R any](r *Resources, things map[string]T, name string) (poller azfake.PollerResponder[R], failure azfake.ErrorResponder) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(things, name)
	var none R
	return done(none)
}

// done answers an operation that takes no time.
func done[R any](answer R) (poller azfake.PollerResponder[R], failure azfake.ErrorResponder) {
	poller.SetTerminalResponse(http.StatusOK, answer, nil)
	return poller, failure
}

func refuse[R any](status int, code string) (poller azfake.PollerResponder[R], failure azfake.ErrorResponder) {
	failure.SetResponseError(status, code)
	return poller, failure
}

func (r *Resources) galleriesServer() fake.GalleriesServer {
	return fake.GalleriesServer{
		Get: get[armcompute.GalleriesClientGetOptions](r, r.galleries, func(g *armcompute.Gallery) armcompute.GalleriesClientGetResponse {
			return armcompute.GalleriesClientGetResponse{Gallery: *g}
		}),
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
		Get: getBelow[armcompute.GalleryImagesClientGetOptions](r, r.definitions, func(d *armcompute.GalleryImage) armcompute.GalleryImagesClientGetResponse {
			return armcompute.GalleryImagesClientGetResponse{GalleryImage: *d}
		}),
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
			var all []*armcompute.GalleryImageVersion
			for _, name := range slices.Sorted(maps.Keys(r.versions)) {
				if path.Dir(name) == definition {
					all = append(all, &r.versions[name].GalleryImageVersion)
				}
			}
			return page(armcompute.GalleryImageVersionsClientListByGalleryImageResponse{GalleryImageVersionList: armcompute.GalleryImageVersionList{Value: all}})
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
		Get: get[armcompute.ImagesClientGetOptions](r, r.images, func(i *armcompute.Image) armcompute.ImagesClientGetResponse {
			return armcompute.ImagesClientGetResponse{Image: *i}
		}),
		NewListByResourceGroupPager: list[armcompute.ImagesClientListByResourceGroupOptions](r, r.images, func(all []*armcompute.Image) armcompute.ImagesClientListByResourceGroupResponse {
			return armcompute.ImagesClientListByResourceGroupResponse{ImageListResult: armcompute.ImageListResult{Value: all}}
		}),
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

func (r *Resources) machinesServer() fake.VirtualMachinesServer {
	return fake.VirtualMachinesServer{
		NewListAllPager: listAll[armcompute.VirtualMachinesClientListAllOptions](r, &r.machines, func(all []*armcompute.VirtualMachine) armcompute.VirtualMachinesClientListAllResponse {
			return armcompute.VirtualMachinesClientListAllResponse{VirtualMachineListResult: armcompute.VirtualMachineListResult{Value: all}}
		}),
	}
}

func (r *Resources) scaleSetsServer() fake.VirtualMachineScaleSetsServer {
	return fake.VirtualMachineScaleSetsServer{
		NewListAllPager: listAll[armcompute.VirtualMachineScaleSetsClientListAllOptions](r, &r.scaleSets, func(all []*armcompute.VirtualMachineScaleSet) armcompute.VirtualMachineScaleSetsClientListAllResponse {
			return armcompute.VirtualMachineScaleSetsClientListAllResponse{VirtualMachineScaleSetListWithLinkResult: armcompute.VirtualMachineScaleSetListWithLinkResult{Value: all}}
		}),
	}
}
