package v1alpha1

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// azureTarget checks a subscription, which stands at a path.
func (c *checker) azureTarget(at string, t AzureTarget) {
	c.matches(at+".subscription", t.Subscription, azureIDSyntax)
	c.matches(at+".resourceGroup", t.ResourceGroup, azureResourceGroupSyntax)
	c.matches(at+".location", t.Location, azureLocationSyntax)
	c.oneOf(at+".cloud", t.Cloud, "is not a cloud of Azure", azureClouds)
	c.optional(at+".upload.storageAccount", t.Upload.StorageAccount, azureStorageAccountSyntax)
	c.optional(at+".upload.storageResourceGroup", t.Upload.StorageResourceGroup, azureResourceGroupSyntax)
	c.matches(at+".upload.container", t.Upload.Container, azureContainerSyntax)
	c.count(at+".upload.parallel", t.Upload.Parallel, 1, maxAzureParallel)
	switch {
	case t.Gallery == nil && t.ManagedImage == nil:
		c.require(at+".gallery", "gallery or managedImage")
	case t.Gallery != nil && t.ManagedImage != nil:
		c.add(FieldError{Field: at + ".managedImage", Problem: "can't stand beside gallery: an image goes one way"})
	case t.Gallery != nil:
		c.azureGallery(at+".gallery", *t.Gallery)
	default:
		c.azureManagedImage(at+".managedImage", *t.ManagedImage)
	}
}

// azureGallery checks a gallery and what is made in it.
func (c *checker) azureGallery(at string, g AzureGallery) {
	c.matches(at+".name", g.Name, azureGallerySyntax)
	c.azureTemplate(at+".definition", g.Definition, "")
	c.matches(at+".publisher", g.Publisher, azureIdentifierSyntax)
	c.optional(at+".offer", g.Offer, azureIdentifierSyntax)
	c.optional(at+".sku", g.SKU, azureIdentifierSyntax)
	c.azureVersion(at+".version", g.Version)
	c.azureGeneration(at+".generation", g.Generation)
	if g.SecurityType != "" {
		c.oneOf(at+".securityType", g.SecurityType, "is not a security type of Azure", azureSecurityTypes)
		if g.Generation == "V1" {
			c.add(FieldError{Field: at + ".securityType", Found: quote(g.SecurityType), Problem: "needs generation V2"})
		}
	}
	for at, controller := range c.unique(at+".diskControllers", g.DiskControllers) {
		c.oneOf(at, controller, "is not a disk controller of Azure", azureControllers)
	}
	c.optional(at+".description", g.Description, lineSyntax)
	c.optional(at+".eula", g.EULA, documentSyntax)
	c.optional(at+".privacyStatement", g.PrivacyStatement, webAddressSyntax)
	c.optional(at+".releaseNotes", g.ReleaseNotes, webAddressSyntax)
	if p := g.PurchasePlan; p != nil {
		c.matches(at+".purchasePlan.name", p.Name, lineSyntax)
		c.matches(at+".purchasePlan.publisher", p.Publisher, lineSyntax)
		c.matches(at+".purchasePlan.product", p.Product, lineSyntax)
	}
	c.azureRecommended(at+".recommended", g.Recommended)
	c.azureRegions(at+".regions", g.Regions)
	if g.EndOfLife != "" {
		if _, err := time.Parse(time.DateOnly, g.EndOfLife); err != nil {
			c.add(FieldError{Field: at + ".endOfLife", Found: quote(g.EndOfLife), Problem: "is not " + dateSyntax.what, Allowed: []string{dateSyntax.allowed}})
		}
	}
	c.azureSharing(at+".sharing", g.Sharing)
}

// azureManagedImage checks an image outside galleries.
func (c *checker) azureManagedImage(at string, m AzureManagedImage) {
	c.azureTemplate(at+".name", m.Name, "-0a1b2c3d")
	c.azureGeneration(at+".generation", m.Generation)
}

func (c *checker) azureGeneration(at, generation string) {
	if generation != "" {
		c.oneOf(at, generation, "is not a generation of Azure's virtual machines", azureGenerations)
	}
}

// azureTemplate checks a template of a name with values like those of an image.
func (c *checker) azureTemplate(at, text, suffix string) {
	_, err := azureName(text, suffix, sampleTemplate)
	if err == nil {
		return
	}
	bad, ok := errors.AsType[*FieldError](err)
	if !ok {
		bad = &FieldError{Found: quote(text), Problem: err.Error()}
	}
	bad.Field, bad.lineOfText = at, 0
	c.add(*bad)
}

// azureVersion checks the name of a version: Azure's numbers have 31 bits.
func (c *checker) azureVersion(at, version string) {
	if version == "" {
		return
	}
	ok := azureVersionSyntax.ok(version)
	for number := range strings.SplitSeq(version, ".") {
		if _, err := strconv.ParseInt(number, 10, 32); err != nil {
			ok = false
		}
	}
	if !ok {
		c.add(FieldError{Field: at, Found: quote(version), Problem: "is not " + azureVersionSyntax.what, Allowed: []string{azureVersionSyntax.allowed}})
	}
}

func (c *checker) azureRecommended(at string, r AzureRecommended) {
	if r.MaxCPUs != 0 && r.MinCPUs > r.MaxCPUs {
		c.add(FieldError{Field: at + ".minCPUs", Found: quote(r.MinCPUs.String()), asWritten: true, Problem: "is more than maxCPUs"})
	}
	for _, memory := range []struct {
		name string
		size Size
	}{{"minMemory", r.MinMemory}, {"maxMemory", r.MaxMemory}} {
		name, size := memory.name, memory.size
		if size < 0 || size%(1<<30) != 0 || size > 24<<40 {
			c.add(FieldError{
				Field: at + "." + name, Found: quote(size.String()), asWritten: true, Problem: "is not a size of memory",
				Allowed: []string{"whole GiB up to 24TiB"},
			})
		}
	}
	if r.MaxMemory != 0 && r.MinMemory > r.MaxMemory {
		c.add(FieldError{Field: at + ".minMemory", Found: quote(r.MinMemory.String()), asWritten: true, Problem: "is more than maxMemory"})
	}
}

func (c *checker) azureRegions(at string, regions []AzureRegion) {
	for i, region := range regions {
		at := fmt.Sprintf("%s[%d]", at, i)
		c.matches(at+".name", region.Name, azureLocationSyntax)
		c.count(at+".replicas", region.Replicas, 1, maxAzureReplicas)
		c.oneOf(at+".storageType", region.StorageType, "is not a type of storage for replicas", azureStorageTypes)
		for _, earlier := range regions[:i] {
			if sameAzureRegion(earlier.Name, region.Name) {
				c.add(FieldError{Field: at + ".name", Found: quote(region.Name), Problem: "is given twice"})
			}
		}
	}
}

func (c *checker) azureSharing(at string, s AzureSharing) {
	for at, id := range c.unique(at+".subscriptions", s.Subscriptions) {
		c.matches(at, id, azureIDSyntax)
	}
	for at, id := range c.unique(at+".tenants", s.Tenants) {
		c.matches(at, id, azureIDSyntax)
	}
	if s.Community == nil {
		return
	}
	if len(s.Subscriptions)+len(s.Tenants) > 0 {
		c.add(FieldError{Field: at + ".community", Problem: "can't stand beside subscriptions and tenants: a gallery is shared one way"})
	}
	at += ".community"
	if !s.Community.Public {
		c.add(FieldError{Field: at + ".public", Problem: "has to be true: everybody can then use every image in the gallery", Allowed: []string{"true"}})
	}
	c.matches(at+".namePrefix", s.Community.NamePrefix, azurePrefixSyntax)
	c.matches(at+".publisherURI", s.Community.PublisherURI, webAddressSyntax)
	c.matches(at+".publisherContact", s.Community.PublisherContact, lineSyntax)
	c.matches(at+".eula", s.Community.EULA, documentSyntax)
}
