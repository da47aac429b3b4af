package v1alpha1

import (
	"errors"
	"io/fs"
	"maps"
	"slices"

	"nodesmith.dev/nodesmith/internal/certificate"
	"nodesmith.dev/nodesmith/internal/lazyregexp"
)

// VSphereTarget is one vCenter, and where in it the template goes. Users and
// passwords are those of govc: its environment and its session files.
type VSphereTarget struct {
	// Server is the vCenter, by name or address, with its port unless that is 443.
	Server string `json:"server"`
	// Thumbprint is the SHA-256 or SHA-1 of the certificate that the vCenter
	// shows. Without it the certificate has to be vouched for by ca, or by what
	// this machine trusts.
	Thumbprint string `json:"thumbprint,omitempty"`
	// CA is a certificate that vouches for the vCenter's.
	CA TargetCA `json:"ca,omitzero"`
	// Datacenter is the datacenter's name or inventory path. Without it the
	// vCenter must have one only; and so with the other places.
	Datacenter string `json:"datacenter,omitempty"`
	// Datastore is where the template's files lie.
	Datastore string `json:"datastore,omitempty"`
	// DatastoreCluster takes the place of datastore: vSphere chooses one of its
	// datastores.
	DatastoreCluster string `json:"datastoreCluster,omitempty"`
	// Folder is the folder of virtual machines that gets the template, by name or
	// inventory path. It has to be there.
	Folder string `json:"folder,omitempty"`
	// Cluster is the compute cluster, or the host, whose resource pool the image
	// is imported into.
	Cluster string `json:"cluster,omitempty"`
	// ResourcePool takes the place of cluster.
	ResourcePool string `json:"resourcePool,omitempty"`
	// Networks map the networks of the OVA, nic0 unless the image says otherwise,
	// to the vCenter's. Without an entry a network is mapped to one of its name,
	// or to the only one that there is.
	Networks map[string]string `json:"networks,omitempty"`
	// Provisioning is how the disk takes room on the datastore.
	Provisioning string `json:"provisioning,omitempty"`
	// HardwareVersion is the N of vmx-N that the template is upgraded to. Without
	// it the template has that of the OVA.
	HardwareVersion Count `json:"hardwareVersion,omitzero" accept:"int"`
	// Name is the template's name: a template in the language of Go's
	// text/template with the values Image, OSDistro, OSVersion, OSRelease (2404
	// for 24.04), KubernetesVersion and Architecture.
	Name string `json:"name,omitempty"`
	// As is what the image becomes: a template in the inventory, or an item of a
	// content library.
	As string `json:"as,omitempty"`
	// Library is the content library that gets the item.
	Library string `json:"library,omitempty"`
	// Clones are what clusters make of the template: linked clones share its disk
	// by a snapshot that is made, full ones copy it.
	Clones string `json:"clones,omitempty"`
	// Attributes are custom attributes besides those that say what the image is,
	// which begin with nodesmith.
	Attributes map[string]string `json:"attributes,omitempty" accept:"int"`
	// Tags are vSphere's tags by their category. What is not there is made.
	Tags map[string]string `json:"tags,omitempty" accept:"int"`
	// Replace takes the place of another template of the same name. It keeps its
	// name until the new one is ready. Without replace such a template is an error.
	Replace bool `json:"replace,omitempty"`
}

// TargetCA is a CA certificate. Exactly one of Content and Source is set.
type TargetCA struct {
	// Content is the certificate, one PEM block.
	Content string `json:"content,omitempty"`
	// Source is the path of a PEM file in the folder of the file that names it:
	// relative to it, with slashes.
	Source string `json:"source,omitempty"`
}

// Read returns the certificate, from the build context if it has a source.
func (ca TargetCA) Read(buildContext fs.FS) (certificate.CA, error) {
	return CACertificate{Content: ca.Content, Source: ca.Source}.Read(buildContext)
}

// The values of VSphereTarget's fields, and what one that does not say otherwise
// means.
const (
	AsTemplate    = "template"
	AsLibraryItem = "libraryItem"
	LinkedClones  = "linked"
	FullClones    = "full"

	defaultTemplateName = "{{.OSDistro}}-{{.OSRelease}}-kube-{{.KubernetesVersion}}" // as TKG's
	defaultProvisioning = "thin"
)

var (
	provisionings = []string{"thin", "thick", "eagerZeroedThick"}
	templateForms = []string{AsTemplate, AsLibraryItem}
	cloneForms    = []string{LinkedClones, FullClones}
)

var (
	// What Go's net/url takes between https:// and /sdk.
	serverAddressSyntax = syntax{
		"the address of a server", "HOST or HOST:PORT, such as vcenter.example.com",
		lazyregexp.New(`^([A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?$`), 255,
	}
	thumbprintSyntax = syntax{
		"a thumbprint", "20 or 32 bytes in capital hexadecimal digits with colons between them, as govc about.cert -thumbprint prints it",
		lazyregexp.New(`^([0-9A-F]{2}:){19}(([0-9A-F]{2}:){12})?[0-9A-F]{2}$`), 0,
	}
	// Objects of the inventory have up to 80 characters a level.
	inventorySyntax = syntax{
		"a place in the inventory", "a name, or a path such as /DC0/vm/templates",
		lazyregexp.New(`^[^` + control + `]+$`), 1024,
	}
	attributeSyntax = syntax{
		"the name of a custom attribute", "a line of at most 80 bytes that does not begin with nodesmith",
		lazyregexp.New(`^[^` + control + `]+$`), 80,
	}
	tagSyntax = syntax{"a tag", "a line of at most 80 bytes", attributeSyntax.pattern, 80}
	// Linked to the check of vsphere.name, that of the OVA.
	templateNameForm = syntax{
		machineNameSyntax.what, "a template such as " + defaultTemplateName + " that becomes " + machineNameSyntax.allowed, nil, 0,
	}

	awsRegionSyntax     = syntax{"an AWS region", "a region's name, such as eu-central-1", lazyregexp.New(`^[a-z]{2,}(-[a-z]+)+-[0-9]+$`), 32}
	azureLocationSyntax = syntax{"an Azure location", "a location's name, such as westeurope", lazyregexp.New(`^[a-z][a-z0-9]+$`), 64}
)

// vsphereTargetRules are the rules of single fields below a VSphereTarget.
var vsphereTargetRules = rules{
	forms: map[string]syntax{
		"server": serverAddressSyntax, "thumbprint": thumbprintSyntax,
		"ca.content": {"a certificate", certificateForm, nil, 0}, "ca.source": sourceSyntax,
		"datacenter": inventorySyntax, "datastore": inventorySyntax, "datastoreCluster": inventorySyntax,
		"folder": inventorySyntax, "cluster": inventorySyntax, "resourcePool": inventorySyntax,
		"networks": inventorySyntax, "library": inventorySyntax, "name": templateNameForm,
		"hardwareVersion": {"a number", minHardwareVersion.String() + " to " + maxHardwareVersion.String(), countSyntax, 0},
		"attributes":      lineSyntax, "tags": tagSyntax,
	},
	keys:       map[string]syntax{"networks": lineSyntax, "attributes": attributeSyntax, "tags": tagSyntax},
	allowed:    map[string][]string{"provisioning": provisionings, "as": templateForms, "clones": cloneForms},
	exactlyOne: map[string][]string{"ca": {"content", "source"}},
}

// setDefaults fills in what was not given.
func (t *VSphereTarget) setDefaults() {
	setDefault(&t.Provisioning, defaultProvisioning)
	setDefault(&t.Name, defaultTemplateName)
	setDefault(&t.As, AsTemplate)
	setDefault(&t.Clones, LinkedClones)
}

// vsphereTarget checks a vCenter, which stands at a path.
func (c *checker) vsphereTarget(at string, t VSphereTarget, buildContext fs.FS) {
	c.matches(at+".server", t.Server, serverAddressSyntax)
	c.optional(at+".thumbprint", t.Thumbprint, thumbprintSyntax)
	if t.CA != (TargetCA{}) {
		c.certificate(at+".ca", t.CA.Content, t.CA.Source, buildContext)
	}
	for _, place := range []struct{ field, value string }{
		{"datacenter", t.Datacenter}, {"datastore", t.Datastore}, {"datastoreCluster", t.DatastoreCluster}, {"folder", t.Folder},
		{"cluster", t.Cluster}, {"resourcePool", t.ResourcePool}, {"library", t.Library},
	} {
		c.optional(at+"."+place.field, place.value, inventorySyntax)
	}
	c.notBoth(at, "datastore", t.Datastore, "datastoreCluster", t.DatastoreCluster)
	c.notBoth(at, "cluster", t.Cluster, "resourcePool", t.ResourcePool)
	c.oneOf(at+".provisioning", t.Provisioning, "is not a way to provision a disk", provisionings)
	c.oneOf(at+".as", t.As, "is not what an image can become", templateForms)
	c.oneOf(at+".clones", t.Clones, "is not a kind of clone", cloneForms)
	if t.HardwareVersion != 0 {
		c.count(at+".hardwareVersion", t.HardwareVersion, minHardwareVersion, maxHardwareVersion)
	}
	switch {
	case t.As == AsLibraryItem && t.Library == "":
		c.require(at+".library", "the name of a content library")
	case t.As == AsTemplate && t.Library != "":
		c.add(FieldError{Field: at + ".library", Found: quote(t.Library), Problem: "is of no use: as is " + AsTemplate})
	}
	if _, err := t.TemplateName(sampleTemplate); err != nil {
		bad, ok := errors.AsType[*FieldError](err)
		if !ok {
			bad = &FieldError{Found: quote(t.Name), Problem: err.Error()}
		}
		bad.Field, bad.lineOfText = at+".name", 0
		c.add(*bad)
	}
	c.pairs(at+".networks", t.Networks, lineSyntax, inventorySyntax)
	c.pairs(at+".attributes", t.Attributes, attributeSyntax, lineSyntax)
	c.pairs(at+".tags", t.Tags, tagSyntax, tagSyntax)
}

// notBoth checks that one of two fields at most is given.
func (c *checker) notBoth(at, first, one, second, other string) {
	if one != "" && other != "" {
		c.add(FieldError{Field: at + "." + second, Found: quote(other), Problem: "is there besides " + first, Allowed: []string{"one of the two"}})
	}
}

// pairs checks the keys and values of a map of strings.
func (c *checker) pairs(at string, pairs map[string]string, key, value syntax) {
	for _, name := range slices.Sorted(maps.Keys(pairs)) {
		at := at + "[" + name + "]"
		if !key.ok(name) {
			c.add(FieldError{Field: at, Found: quote(name), Problem: "is not " + key.what, Allowed: []string{key.allowed}, onKey: true})
			continue
		}
		if !value.ok(pairs[name]) {
			c.add(FieldError{Field: at, Found: quote(pairs[name]), Problem: "is not " + value.what, Allowed: []string{value.allowed}})
		}
	}
}

// TemplateValues are what the name of a template can be made of.
type TemplateValues struct {
	Image, OSDistro, OSVersion, OSRelease, KubernetesVersion, Architecture string
}

// sampleTemplate are values of about the usual length.
var sampleTemplate = TemplateValues{"node", "ubuntu", "24.04", "2404", "v1.34.0", "amd64"}

// TemplateName returns the name of the template of an image.
func (t VSphereTarget) TemplateName(values TemplateValues) (string, error) {
	name, err := renderValues(t.Name, values)
	if err == nil && !machineNameSyntax.ok(name) {
		err = &FieldError{Found: quote(name), Problem: "is not " + machineNameSyntax.what, Allowed: []string{machineNameSyntax.allowed}}
	}
	return name, err
}

// URL is the address of the vCenter's API.
func (t VSphereTarget) URL() string { return "https://" + t.Server + "/sdk" }
