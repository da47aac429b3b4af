package azure

import (
	"context"
	"strings"

	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/compute/armcompute/v7"
	"github.com/opencontainers/go-digest"

	"nodesmith.dev/nodesmith/internal/publish"
)

// held is a definition with its versions.
type held struct {
	name       string
	definition *armcompute.GalleryImage
	versions   []*armcompute.GalleryImageVersion
}

// holdings returns all that is in the gallery.
func (p *Publisher) holdings(ctx context.Context) (all []held, err error) {
	var definitions []*armcompute.GalleryImage
	err = eachPage(ctx, p.api.definitions.NewListByGalleryPager(p.target.ResourceGroup, p.target.Gallery.Name, nil),
		func(page armcompute.GalleryImagesClientListByGalleryResponse) {
			definitions = append(definitions, page.Value...)
		})
	switch {
	case isNotFound(err):
		return nil, nil // no gallery yet
	case err != nil:
		return nil, explain(err)
	}
	for _, definition := range definitions {
		h := held{name: deref(definition.Name), definition: definition}
		if h.versions, err = p.versionsOf(ctx, h.name); err != nil {
			return nil, err
		}
		all = append(all, h)
	}
	return all, nil
}

// latestOf returns which version of a definition, by ID, a machine gets that asks
// for the latest.
func (p *Publisher) latestOf(all []held) func(id string) string {
	latest := map[string]string{}
	for _, h := range all {
		var best number
		for _, v := range h.versions {
			n, ok := parseNumber(deref(v.Name))
			hidden := v.Properties.PublishingProfile != nil && deref(v.Properties.PublishingProfile.ExcludeFromLatest)
			if ok && !hidden && n.compare(best) > 0 {
				best = n
				latest[strings.ToLower(p.definitionID(h.name))] = n.String()
			}
		}
	}
	return func(id string) string { return latest[strings.ToLower(id)] }
}

func (p *Publisher) definitionID(name string) string {
	return p.id("galleries/%s/images/%s", p.target.Gallery.Name, name)
}

func (p *Publisher) versionID(definition, name string) string {
	return p.definitionID(definition) + "/versions/" + name
}

// List returns the versions in the gallery, or the managed images in the resource
// group, and what uses them.
func (p *Publisher) List(ctx context.Context) ([]publish.Published, error) {
	if p.target.ManagedImage != nil {
		list, err := p.listImages(ctx)
		return list, explain(err)
	}
	all, err := p.holdings(ctx)
	if err != nil {
		return nil, explain(err)
	}
	used, err := p.usage(ctx, p.latestOf(all))
	if err != nil {
		return nil, explain(err)
	}
	var list []publish.Published
	for _, h := range all {
		for _, v := range h.versions {
			name := deref(v.Name)
			published := publish.Published{
				Place: p.Place(), Region: regionsOf(v), Kind: "image version", ID: p.versionID(h.name, name), Name: h.name + "/" + name,
				UsedBy: used.by(p.versionID(h.name, name)),
			}
			describe(&published, v.Tags)
			if profile := v.Properties.PublishingProfile; profile != nil {
				published.Created = deref(profile.PublishedDate)
			}
			list = append(list, published)
		}
	}
	return list, nil
}

// describe fills in what tags say.
func describe(p *publish.Published, tags map[string]*string) {
	p.Digest = digest.Digest(tag(tags, publish.TagDigest))
	p.Kubernetes, p.Level = tag(tags, publish.TagKubernetes), tag(tags, publish.TagLevel)
}

// regionsOf names the regions that have replicas.
func regionsOf(v *armcompute.GalleryImageVersion) string {
	if v.Properties.PublishingProfile == nil {
		return deref(v.Location)
	}
	var names []string
	for _, region := range v.Properties.PublishingProfile.TargetRegions {
		if region != nil {
			names = append(names, regionKey(deref(region.Name)))
		}
	}
	return strings.Join(names, " ")
}

// imagesThere returns the managed images in the resource group.
func (p *Publisher) imagesThere(ctx context.Context) (all []*armcompute.Image, err error) {
	err = eachPage(ctx, p.api.images.NewListByResourceGroupPager(p.target.ResourceGroup, nil),
		func(page armcompute.ImagesClientListByResourceGroupResponse) { all = append(all, page.Value...) })
	return all, explain(err)
}

func (p *Publisher) listImages(ctx context.Context) ([]publish.Published, error) {
	images, err := p.imagesThere(ctx)
	if err != nil {
		return nil, err
	}
	used, err := p.usage(ctx, nil)
	if err != nil {
		return nil, err
	}
	var list []publish.Published
	for _, image := range images {
		name := deref(image.Name)
		published := publish.Published{
			Place: p.Place(), Region: deref(image.Location), Kind: "managed image", ID: p.id("images/%s", name), Name: name,
			UsedBy: used.by(p.id("images/%s", name)),
		}
		describe(&published, image.Tags)
		list = append(list, published)
	}
	return list, nil
}
