package v1alpha1

import (
	"slices"
	"strings"
)

// AzureTarget is one Azure subscription, and what is made in it: a version in an
// Azure Compute Gallery, or a managed image.
type AzureTarget struct {
	// Subscription is the subscription's ID.
	Subscription string `json:"subscription"`
	// ResourceGroup is where everything is made. It has to exist.
	ResourceGroup string `json:"resourceGroup"`
	// Location is the region in which the image is made, and replicated from.
	Location string `json:"location"`
	// Cloud is which of Azure's clouds the subscription is in.
	Cloud string `json:"cloud,omitempty"`
	// Upload is the way of the disk's content to Azure.
	Upload AzureUpload `json:"upload,omitzero"`
	// Gallery is the Azure Compute Gallery (Shared Image Gallery) that gets a
	// version.
	Gallery *AzureGallery `json:"gallery,omitempty"`
	// ManagedImage is made instead of a version in a gallery.
	ManagedImage *AzureManagedImage `json:"managedImage,omitempty"`
}

// AzureUpload is the way of the disk's content to Azure. What it makes is
// deleted when the image is there.
type AzureUpload struct {
	// StorageAccount gets the disk as a page blob. Without one the content goes
	// straight into a managed disk.
	StorageAccount string `json:"storageAccount,omitempty"`
	// StorageResourceGroup is the storage account's; resourceGroup without it.
	StorageResourceGroup string `json:"storageResourceGroup,omitempty"`
	// Container is the blob's. It is made if it is not there.
	Container string `json:"container,omitempty"`
	// Parallel is how many requests are under way at once. Each holds 4 MiB.
	Parallel Count `json:"parallel,omitzero" accept:"int"`
}

// AzureGallery is a gallery, an image definition in it and what its versions are
// like.
type AzureGallery struct {
	// Name is the gallery's. It is made if it is not there.
	Name string `json:"name"`
	// Definition is the name of the image definition, which holds all versions of
	// an image: a template in the language of Go's text/template with the values
	// that the templates of files have. It is made if it is not there.
	Definition string `json:"definition,omitempty"`
	// Publisher is the first of three names that identify the definition in its
	// gallery.
	Publisher string `json:"publisher,omitempty"`
	// Offer is the second of them; without it, the distribution.
	Offer string `json:"offer,omitempty"`
	// SKU is the third of them; without it, the definition's name.
	SKU string `json:"sku,omitempty"`
	// Version is the version's name, three integers. Without it the name is made
	// of the version of Kubernetes and a build number: 1.34.2000001 is the first
	// build for v1.34.2.
	Version string `json:"version,omitempty"`
	// Generation is that of the virtual machines: V2 boots by UEFI, V1 by BIOS.
	// Without it V2 where the disk can.
	Generation string `json:"generation,omitempty"`
	// SecurityType is what machines may ask for. It takes an image that was
	// started with Secure Boot by nodesmith verify; without it such an image gets
	// TrustedLaunchSupported, another one nothing.
	SecurityType string `json:"securityType,omitempty"`
	// AcceleratedNetworking says that the image has drivers for it; true without it.
	AcceleratedNetworking *bool `json:"acceleratedNetworking,omitempty"`
	// DiskControllers are those that the image has drivers for.
	DiskControllers []string `json:"diskControllers,omitempty"`
	// Description says what the image is, for people.
	Description string `json:"description,omitempty"`
	// EULA is the licence of the image, or its address.
	EULA string `json:"eula,omitempty"`
	// PrivacyStatement is the address of a page.
	PrivacyStatement string `json:"privacyStatement,omitempty"`
	// ReleaseNotes is the address of a page.
	ReleaseNotes string `json:"releaseNotes,omitempty"`
	// PurchasePlan is that of the marketplace offer that the image was made of.
	PurchasePlan *AzurePurchasePlan `json:"purchasePlan,omitempty"`
	// Recommended is what a machine should have.
	Recommended AzureRecommended `json:"recommended,omitzero"`
	// Regions are those that get replicas. Location is always one of them.
	Regions []AzureRegion `json:"regions,omitempty"`
	// EndOfLife is the day from which nothing new should be made of the version:
	// 2027-06-30.
	EndOfLife string `json:"endOfLife,omitempty"`
	// ExcludeFromLatest keeps machines that ask for the latest version from this
	// one. A version of an image that nodesmith verify has not booted is always
	// excluded, until it is published again when it has.
	ExcludeFromLatest bool `json:"excludeFromLatest,omitempty"`
	// Sharing is with whom the gallery is shared.
	Sharing AzureSharing `json:"sharing,omitzero"`
}

// AzurePurchasePlan is a plan of Azure's marketplace.
type AzurePurchasePlan struct {
	// Name is the plan's ID.
	Name string `json:"name"`
	// Publisher is the publisher's ID.
	Publisher string `json:"publisher"`
	// Product is the offer's ID.
	Product string `json:"product"`
}

// AzureRecommended is what a machine should have; 0 leaves a bound out.
type AzureRecommended struct {
	// MinCPUs is the least number of virtual CPUs.
	MinCPUs Count `json:"minCPUs,omitzero" accept:"int"`
	// MaxCPUs is the number of virtual CPUs from which more is of no use.
	MaxCPUs Count `json:"maxCPUs,omitzero" accept:"int"`
	// MinMemory is the least memory, in whole GiB.
	MinMemory Size `json:"minMemory,omitzero" accept:"int"`
	// MaxMemory is the memory from which more is of no use, in whole GiB.
	MaxMemory Size `json:"maxMemory,omitzero" accept:"int"`
}

// AzureRegion is a region with replicas of a version.
type AzureRegion struct {
	// Name is the region's: westeurope.
	Name string `json:"name"`
	// Replicas is how many there are. One serves about 20 machines that start at
	// once.
	Replicas Count `json:"replicas,omitzero" accept:"int"`
	// StorageType is that of the replicas; Standard_ZRS survives the loss of a
	// zone.
	StorageType string `json:"storageType,omitempty"`
	// ExcludeFromLatest is as that of the gallery, for this region alone.
	ExcludeFromLatest bool `json:"excludeFromLatest,omitempty"`
}

// AzureSharing is with whom a gallery is shared: all images in it are.
type AzureSharing struct {
	// Subscriptions are the IDs of those with which the gallery is shared directly.
	Subscriptions []string `json:"subscriptions,omitempty"`
	// Tenants are the IDs of those with which the gallery is shared directly.
	Tenants []string `json:"tenants,omitempty"`
	// Community makes the gallery public.
	Community *AzureCommunity `json:"community,omitempty"`
}

// AzureCommunity is what everybody sees of a public gallery.
type AzureCommunity struct {
	// Public has to be true: everybody with an account in Azure can then use every
	// image in the gallery.
	Public bool `json:"public,omitempty"`
	// NamePrefix begins the gallery's public name.
	NamePrefix string `json:"namePrefix"`
	// PublisherURI is the address of the publisher's web site.
	PublisherURI string `json:"publisherURI"`
	// PublisherContact is an address of mail.
	PublisherContact string `json:"publisherContact"`
	// EULA is a licence, or its address.
	EULA string `json:"eula"`
}

// AzureManagedImage is an image outside galleries: in one region, unshared.
type AzureManagedImage struct {
	// Name is the image's: a template like AzureGallery.Definition, to which the
	// first 8 digits of the disk's digest are appended.
	Name string `json:"name,omitempty"`
	// Generation is as that of AzureGallery.
	Generation string `json:"generation,omitempty"`
	// ZoneResilient keeps the image in all zones of the region.
	ZoneResilient bool `json:"zoneResilient,omitempty"`
}

// What a target that does not say otherwise means.
const (
	defaultAzureCloud              = "public"
	defaultAzureContainer          = "nodesmith"
	defaultAzureParallel     Count = 16
	defaultAzureDefinition         = "{{.Image}}"
	defaultAzureManagedImage       = "{{.Image}}-{{.KubernetesVersion}}"
	defaultAzurePublisher          = "nodesmith"
	defaultAzureStorageType        = "Standard_LRS"
)

// setDefaults fills in what was not given.
func (t *AzureTarget) setDefaults() {
	setDefault(&t.Cloud, defaultAzureCloud)
	setDefault(&t.Upload.StorageResourceGroup, t.ResourceGroup)
	setDefault(&t.Upload.Container, defaultAzureContainer)
	setDefault(&t.Upload.Parallel, defaultAzureParallel)
	if t.Gallery != nil {
		gallery := *t.Gallery // the caller may share it with another file
		t.Gallery = &gallery
		gallery.setDefaults(t.Location)
	}
	if t.ManagedImage != nil {
		image := *t.ManagedImage
		t.ManagedImage = &image
		setDefault(&image.Name, defaultAzureManagedImage)
	}
}

func (g *AzureGallery) setDefaults(location string) {
	setDefault(&g.Definition, defaultAzureDefinition)
	setDefault(&g.Publisher, defaultAzurePublisher)
	if g.AcceleratedNetworking == nil {
		yes := true
		g.AcceleratedNetworking = &yes
	}
	if len(g.DiskControllers) == 0 {
		g.DiskControllers = []string{"SCSI"}
	}
	g.Regions = slices.Clone(g.Regions)
	if !slices.ContainsFunc(g.Regions, func(r AzureRegion) bool { return sameAzureRegion(r.Name, location) }) {
		g.Regions = append([]AzureRegion{{Name: location}}, g.Regions...)
	}
	for i := range g.Regions {
		setDefault(&g.Regions[i].Replicas, 1)
		setDefault(&g.Regions[i].StorageType, defaultAzureStorageType)
	}
}

// sameAzureRegion compares names of regions as Azure does: "West Europe" is
// westeurope.
func sameAzureRegion(a, b string) bool {
	return strings.EqualFold(strings.ReplaceAll(a, " ", ""), strings.ReplaceAll(b, " ", ""))
}

// DefinitionName returns the name of the image definition.
func (g AzureGallery) DefinitionName(values TemplateValues) (string, error) {
	return azureName(g.Definition, "", values)
}

// ImageName returns the name of the managed image of a disk with a digest, in
// hexadecimal digits.
func (m AzureManagedImage) ImageName(values TemplateValues, digest string) (string, error) {
	return azureName(m.Name, "-"+digest[:min(8, len(digest))], values)
}

func azureName(text, suffix string, values TemplateValues) (string, error) {
	name, err := renderValues(text, values)
	name += suffix
	if err == nil && !azureDefinitionSyntax.ok(name) {
		err = &FieldError{Found: quote(name), Problem: "is not " + azureDefinitionSyntax.what, Allowed: []string{azureDefinitionSyntax.allowed}}
	}
	return name, err
}
