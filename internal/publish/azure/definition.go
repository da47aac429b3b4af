package azure

import (
	"context"
	"slices"
	"strings"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/to"
	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/compute/armcompute/v7"

	"nodesmith.dev/nodesmith/api/v1alpha1"
	"nodesmith.dev/nodesmith/internal/fault"
	"nodesmith.dev/nodesmith/internal/publish"
)

// The features of an image definition that are set here.
const (
	featureSecurity    = "SecurityType"
	featureNetworking  = "IsAcceleratedNetworkSupported"
	featureControllers = "DiskControllerTypes"
)

// definitionBody is the request that makes an image definition.
func definitionBody(target v1alpha1.AzureTarget, name string, image *publish.Image) (armcompute.GalleryImage, error) {
	none := armcompute.GalleryImage{}
	g := target.Gallery
	hyperV, err := generation(g.Generation, image)
	if err != nil {
		return none, err
	}
	architecture, err := architectureOf(image)
	if err != nil {
		return none, err
	}
	features, err := featuresOf(g, hyperV, image)
	if err != nil {
		return none, err
	}
	offer, sku := g.Offer, g.SKU
	if offer == "" {
		offer = image.Distro
	}
	if sku == "" {
		sku = name
	}
	properties := &armcompute.GalleryImageProperties{
		Identifier: &armcompute.GalleryImageIdentifier{Publisher: to.Ptr(g.Publisher), Offer: to.Ptr(offer), SKU: to.Ptr(sku)},
		OSType:     to.Ptr(armcompute.OperatingSystemTypesLinux), OSState: to.Ptr(armcompute.OperatingSystemStateTypesGeneralized),
		HyperVGeneration: to.Ptr(hyperV), Architecture: to.Ptr(architecture), Features: features,
		Description: optional(g.Description), Eula: optional(g.EULA),
		PrivacyStatementURI: optional(g.PrivacyStatement), ReleaseNoteURI: optional(g.ReleaseNotes),
		Recommended: recommended(g.Recommended),
	}
	if plan := g.PurchasePlan; plan != nil {
		properties.PurchasePlan = &armcompute.ImagePurchasePlan{Name: to.Ptr(plan.Name), Publisher: to.Ptr(plan.Publisher), Product: to.Ptr(plan.Product)}
	}
	return armcompute.GalleryImage{
		Location: to.Ptr(target.Location), Properties: properties,
		Tags: map[string]*string{publish.TagBy: to.Ptr(image.Name), publish.TagOS: to.Ptr(image.Tags()[publish.TagOS])},
	}, nil
}

// optional is a string that is left out if it is empty.
func optional(text string) *string {
	if text == "" {
		return nil
	}
	return &text
}

// featuresOf are the features of the definition: nothing is promised that the
// image was not proven to do.
func featuresOf(g *v1alpha1.AzureGallery, hyperV armcompute.HyperVGeneration, image *publish.Image) (features []*armcompute.GalleryImageFeature, err error) {
	add := func(name, value string) {
		features = append(features, &armcompute.GalleryImageFeature{Name: to.Ptr(name), Value: to.Ptr(value)})
	}
	security := g.SecurityType
	switch {
	case security == "" && image.SecureBoot && hyperV == armcompute.HyperVGenerationV2:
		security = "TrustedLaunchSupported"
	case security != "" && hyperV != armcompute.HyperVGenerationV2:
		return nil, fault.New(fault.BadSpec, "leave securityType out, or use generation V2", "securityType %s needs machines of generation V2", security)
	case security != "" && !image.SecureBoot:
		return nil, fault.New(fault.BadSpec, "run nodesmith verify --level boot on it where Secure Boot can be tried, or leave securityType out",
			"securityType %s promises that %s starts with Secure Boot, and that was not proven", security, image.Reference)
	}
	if security != "" {
		add(featureSecurity, security)
	}
	if g.AcceleratedNetworking != nil {
		value := "False"
		if *g.AcceleratedNetworking {
			value = "True"
		}
		add(featureNetworking, value)
	}
	if slices.Contains(g.DiskControllers, "NVMe") {
		add(featureControllers, strings.Join(g.DiskControllers, ", "))
	}
	return features, nil
}

// recommended is what a machine should have; nil for nothing.
func recommended(r v1alpha1.AzureRecommended) *armcompute.RecommendedMachineConfiguration {
	bounds := func(least, most int64) *armcompute.ResourceRange {
		if least == 0 && most == 0 {
			return nil
		}
		var r armcompute.ResourceRange
		if least != 0 {
			r.Min = to.Ptr(int32(least))
		}
		if most != 0 {
			r.Max = to.Ptr(int32(most))
		}
		return &r
	}
	const gib = 1 << 30
	config := armcompute.RecommendedMachineConfiguration{
		VCPUs:  bounds(int64(r.MinCPUs), int64(r.MaxCPUs)),
		Memory: bounds(int64(r.MinMemory)/gib, int64(r.MaxMemory)/gib),
	}
	if config.VCPUs == nil && config.Memory == nil {
		return nil
	}
	return &config
}

func (p *Publisher) definition(ctx context.Context, name string) (*armcompute.GalleryImage, error) {
	answer, err := get(ctx, func(ctx context.Context) (armcompute.GalleryImagesClientGetResponse, error) {
		return p.api.definitions.Get(ctx, p.target.ResourceGroup, p.target.Gallery.Name, name, nil)
	})
	if err != nil || answer == nil {
		return nil, err
	}
	return &answer.GalleryImage, nil
}

// definitionStep makes the definition, or says why the one that is there does not
// fit: what it promises can't be changed.
func (p *Publisher) definitionStep(name string, found *armcompute.GalleryImage, image *publish.Image) (publish.Step, error) {
	step := publish.Step{ID: "definition", Needs: []string{"gallery"}, Kind: "image definition", Name: name, Region: p.target.Location, Action: publish.Exists}
	body, err := definitionBody(p.target, name, image)
	if err != nil {
		return step, err
	}
	if found != nil {
		return step, fits(name, found, body)
	}
	step.Action = publish.Create
	step.Do = p.explained(func(ctx context.Context, run *publish.Run) error {
		poller, err := p.api.definitions.BeginCreateOrUpdate(ctx, p.target.ResourceGroup, p.target.Gallery.Name, name, body, nil)
		_, err = await(ctx, run, p.api.poll, poller, err)
		return err
	})
	return step, nil
}

// fits says whether an image with a definition like wanted can be a version of
// the one that is there.
func fits(name string, found *armcompute.GalleryImage, wanted armcompute.GalleryImage) error {
	have, want := deref(found.Properties), *wanted.Properties
	for _, property := range []struct{ what, has, wants string }{
		{"generation", string(deref(have.HyperVGeneration)), string(deref(want.HyperVGeneration))},
		{"architecture", string(deref(have.Architecture)), string(deref(want.Architecture))},
		{"operating system", string(deref(have.OSType)), string(deref(want.OSType))},
		{"state of the operating system", string(deref(have.OSState)), string(deref(want.OSState))},
	} {
		// Definitions that were made without one say nothing.
		if property.has != "" && !strings.EqualFold(property.has, property.wants) {
			return fault.New(fault.BadSpec, "set another gallery.definition: this can't be changed",
				"the image definition %s has %s %s, and the image needs %s", name, property.what, property.has, property.wants)
		}
	}
	if promised := feature(have.Features, featureSecurity); strings.HasPrefix(promised, "Trusted") && feature(want.Features, featureSecurity) == "" {
		return fault.New(fault.BadSpec, "run nodesmith verify --level boot on it where Secure Boot can be tried, or set another gallery.definition",
			"the image definition %s promises %s, and that the image starts with Secure Boot was not proven", name, promised)
	}
	return nil
}

func feature(features []*armcompute.GalleryImageFeature, name string) string {
	for _, f := range features {
		if f != nil && strings.EqualFold(deref(f.Name), name) {
			return deref(f.Value)
		}
	}
	return ""
}
