package azure

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/to"
	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/compute/armcompute/v7"

	"nodesmith.dev/nodesmith/api/v1alpha1"
	"nodesmith.dev/nodesmith/internal/fault"
	"nodesmith.dev/nodesmith/internal/publish"
)

// valuesOf are what names are made of.
func valuesOf(image *publish.Image) v1alpha1.TemplateValues {
	return v1alpha1.TemplateValues{
		Image: image.Name, OSDistro: image.Distro, OSVersion: image.DistroVersion, OSRelease: strings.ReplaceAll(image.DistroVersion, ".", ""),
		KubernetesVersion: image.Kubernetes, Architecture: image.Architecture,
	}
}

// permissions are how the gallery has to be shared.
func permissions(sharing v1alpha1.AzureSharing) armcompute.GallerySharingPermissionTypes {
	switch {
	case sharing.Community != nil:
		return armcompute.GallerySharingPermissionTypesCommunity
	case len(sharing.Subscriptions)+len(sharing.Tenants) > 0:
		return armcompute.GallerySharingPermissionTypesGroups
	}
	return armcompute.GallerySharingPermissionTypesPrivate
}

// galleryBody is the request that makes the gallery.
func galleryBody(target v1alpha1.AzureTarget) armcompute.Gallery {
	properties := &armcompute.GalleryProperties{Description: to.Ptr("Kubernetes node images")}
	if profile := sharingProfile(target.Gallery.Sharing); profile != nil {
		properties.SharingProfile = profile
	}
	return armcompute.Gallery{
		Location: to.Ptr(target.Location), Properties: properties,
		Tags: map[string]*string{publish.TagBy: to.Ptr("gallery")},
	}
}

// sharingProfile is how a gallery says that it may be shared; nil where it is not.
func sharingProfile(sharing v1alpha1.AzureSharing) *armcompute.SharingProfile {
	kind := permissions(sharing)
	if kind == armcompute.GallerySharingPermissionTypesPrivate {
		return nil
	}
	profile := &armcompute.SharingProfile{Permissions: to.Ptr(kind)}
	if c := sharing.Community; c != nil {
		profile.CommunityGalleryInfo = &armcompute.CommunityGalleryInfo{
			Eula: to.Ptr(c.EULA), PublicNamePrefix: to.Ptr(c.NamePrefix),
			PublisherContact: to.Ptr(c.PublisherContact), PublisherURI: to.Ptr(c.PublisherURI),
		}
	}
	return profile
}

func (p *Publisher) gallery(ctx context.Context) (*armcompute.Gallery, error) {
	answer, err := get(ctx, func(ctx context.Context) (armcompute.GalleriesClientGetResponse, error) {
		return p.api.galleries.Get(ctx, p.target.ResourceGroup, p.target.Gallery.Name,
			&armcompute.GalleriesClientGetOptions{Select: to.Ptr(armcompute.SelectPermissionsPermissions), Expand: to.Ptr(armcompute.GalleryExpandParamsSharingProfileGroups)})
	})
	if err != nil || answer == nil {
		return nil, err
	}
	if answer.Properties == nil {
		answer.Properties = &armcompute.GalleryProperties{}
	}
	return &answer.Gallery, nil
}

// galleryStep makes the gallery, or lets it be shared.
func (p *Publisher) galleryStep(found *armcompute.Gallery) publish.Step {
	step := publish.Step{ID: "gallery", Kind: "gallery", Name: p.target.Gallery.Name, Region: p.target.Location, Action: publish.Exists}
	wanted := sharingProfile(p.target.Gallery.Sharing)
	switch {
	case found == nil:
		step.Action = publish.Create
		step.Do = p.explained(func(ctx context.Context, run *publish.Run) error {
			poller, err := p.api.galleries.BeginCreateOrUpdate(ctx, p.target.ResourceGroup, p.target.Gallery.Name, galleryBody(p.target), nil)
			_, err = await(ctx, run, p.api.poll, poller, err)
			return err
		})
	case wanted != nil && sharedAs(found) != *wanted.Permissions:
		step.Action, step.Why = publish.Change, "is to be shared: "+string(*wanted.Permissions)
		step.Do = p.explained(func(ctx context.Context, run *publish.Run) error {
			poller, err := p.api.galleries.BeginUpdate(ctx, p.target.ResourceGroup, p.target.Gallery.Name,
				armcompute.GalleryUpdate{Properties: &armcompute.GalleryProperties{SharingProfile: wanted}}, nil)
			_, err = await(ctx, run, p.api.poll, poller, err)
			return err
		})
	}
	return step
}

// sharedAs is how a gallery may be shared now.
func sharedAs(gallery *armcompute.Gallery) armcompute.GallerySharingPermissionTypes {
	if profile := gallery.Properties.SharingProfile; profile != nil && profile.Permissions != nil {
		return *profile.Permissions
	}
	return armcompute.GallerySharingPermissionTypesPrivate
}

// sharingStep shares the gallery with whom it is not shared yet; nil where
// nothing is to be shared.
func (p *Publisher) sharingStep(found *armcompute.Gallery) *publish.Step {
	update := sharingUpdate(p.target.Gallery.Sharing, found)
	if permissions(p.target.Gallery.Sharing) == armcompute.GallerySharingPermissionTypesPrivate {
		return nil
	}
	step := publish.Step{ID: "sharing", Needs: []string{"gallery", "version"}, Kind: "sharing", Name: p.target.Gallery.Name, Action: publish.Exists}
	if update != nil {
		step.Action, step.Why = publish.Change, sharedWith(p.target.Gallery.Sharing)
		step.Do = p.explained(func(ctx context.Context, run *publish.Run) error {
			poller, err := p.api.sharing.BeginUpdate(ctx, p.target.ResourceGroup, p.target.Gallery.Name, *update, nil)
			_, err = await(ctx, run, p.api.poll, poller, err)
			return err
		})
	}
	return &step
}

// sharedWith says with whom a gallery is shared.
func sharedWith(s v1alpha1.AzureSharing) string {
	if s.Community != nil {
		return "public: everybody in Azure can use its images"
	}
	return "with " + strings.Join(slices.Concat(s.Subscriptions, s.Tenants), ", ")
}

// sharingUpdate is the request that shares a gallery with whom it is not shared
// yet; nil for nobody.
func sharingUpdate(s v1alpha1.AzureSharing, found *armcompute.Gallery) *armcompute.SharingUpdate {
	var profile armcompute.SharingProfile
	if found != nil {
		profile = deref(found.Properties.SharingProfile)
	}
	if s.Community != nil {
		if profile.CommunityGalleryInfo != nil && deref(profile.CommunityGalleryInfo.CommunityGalleryEnabled) {
			return nil
		}
		return &armcompute.SharingUpdate{OperationType: to.Ptr(armcompute.SharingUpdateOperationTypesEnableCommunity)}
	}
	shared := map[string]bool{}
	for _, group := range profile.Groups {
		for _, id := range group.IDs {
			shared[strings.ToLower(deref(id))] = true
		}
	}
	var groups []*armcompute.SharingProfileGroup
	for _, kind := range []struct {
		name armcompute.SharingProfileGroupTypes
		ids  []string
	}{{armcompute.SharingProfileGroupTypesSubscriptions, s.Subscriptions}, {armcompute.SharingProfileGroupTypesAADTenants, s.Tenants}} {
		var missing []*string
		for _, id := range kind.ids {
			if !shared[strings.ToLower(id)] {
				missing = append(missing, to.Ptr(id))
			}
		}
		if missing != nil {
			groups = append(groups, &armcompute.SharingProfileGroup{Type: to.Ptr(kind.name), IDs: missing})
		}
	}
	if groups == nil {
		return nil
	}
	return &armcompute.SharingUpdate{OperationType: to.Ptr(armcompute.SharingUpdateOperationTypesAdd), Groups: groups}
}

// day reads a day that the target has been checked for.
func day(text string) (*time.Time, error) {
	if text == "" {
		return nil, nil
	}
	t, err := time.Parse(time.DateOnly, text)
	if err != nil {
		return nil, fault.New(fault.BadSpec, "", "azure: endOfLife: %w", err)
	}
	return &t, nil
}

// explained makes what a step does say what Azure said.
func (p *Publisher) explained(do func(context.Context, *publish.Run) error) func(context.Context, *publish.Run) error {
	return func(ctx context.Context, run *publish.Run) error { return explain(do(ctx, run)) }
}

func (p *Publisher) id(format string, args ...any) string {
	return fmt.Sprintf("/subscriptions/%s/resourceGroups/%s/providers/Microsoft.Compute/", p.target.Subscription, p.target.ResourceGroup) + fmt.Sprintf(format, args...)
}
