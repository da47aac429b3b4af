package v1alpha1

import (
	"fmt"
	"io/fs"
	"maps"
	"reflect"
	"slices"
)

// PublishKind is the value of kind of a PublishTarget.
const PublishKind = "PublishTarget"

// PublishTarget says where images are published: vCenters, AWS accounts and
// Azure subscriptions. It holds no credentials: those come from where the
// infrastructure's own tools keep them.
type PublishTarget struct {
	// APIVersion is the version of this format.
	APIVersion string `json:"apiVersion"`
	// Kind is what the file describes.
	Kind string `json:"kind"`
	// Metadata names the target.
	Metadata Metadata `json:"metadata"`
	// Spec is where images are published; at least one place has to be given.
	Spec PublishSpec `json:"spec"`
}

// PublishSpec is where images are published.
type PublishSpec struct {
	// VSphere are the vCenters that get a template of the image.
	VSphere []VSphereTarget `json:"vsphere,omitempty"`
	// AWS are the accounts that get an AMI of the image.
	AWS []AWSTarget `json:"aws,omitempty"`
	// Azure are the subscriptions that get a version of the image in a gallery.
	Azure []AzureTarget `json:"azure,omitempty"`
}

// publishRules are the rules of single fields below a PublishSpec.
func publishRules() rules {
	all := rules{}
	all.add("vsphere[].", vsphereTargetRules)
	all.add("aws[].", awsTargetRules)
	all.add("azure[].", azureTargetRules)
	return all
}

// Default fills in every optional field that is empty and has a default.
// A second call changes nothing.
func (t *PublishTarget) Default() { t.Spec.setDefaults() }

func (p *PublishSpec) setDefaults() {
	// The caller may share the lists with another file.
	p.VSphere, p.AWS, p.Azure = slices.Clone(p.VSphere), slices.Clone(p.AWS), slices.Clone(p.Azure)
	for i := range p.VSphere {
		p.VSphere[i].setDefaults()
	}
	for i := range p.AWS {
		p.AWS[i].setDefaults()
	}
	for i := range p.Azure {
		p.Azure[i].setDefaults()
	}
}

// Validate checks a PublishTarget that was not read from a file, after Default,
// as NodeImage.Validate does.
func (t *PublishTarget) Validate(buildContext fs.FS) error { return t.check(buildContext).asFault() }

// check returns what is wrong with a PublishTarget, without places.
func (t *PublishTarget) check(buildContext fs.FS) ErrorList {
	c := checker{paths: map[string]claim{}}
	c.oneOf("apiVersion", t.APIVersion, "is not an API version of nodesmith", []string{APIVersion})
	c.oneOf("kind", t.Kind, "is not a kind of file that nodesmith reads", []string{PublishKind})
	c.matches("metadata.name", t.Metadata.Name, nameSyntax)
	if t.Spec.empty() {
		c.require("spec", fieldNames(reflect.TypeFor[PublishSpec]())...)
	}
	c.publish("spec", t.Spec, buildContext)
	return c.errs
}

func (p PublishSpec) empty() bool { return len(p.VSphere)+len(p.AWS)+len(p.Azure) == 0 }

// publish checks where images are published, for a field at a path.
func (c *checker) publish(at string, p PublishSpec, buildContext fs.FS) {
	for i, target := range p.VSphere {
		c.vsphereTarget(item(at+".vsphere", i), target, buildContext)
	}
	for i, target := range p.AWS {
		c.awsTarget(item(at+".aws", i), target)
	}
	for i, target := range p.Azure {
		c.azureTarget(item(at+".azure", i), target)
	}
}

// item is the path of an item of a list.
func item(list string, i int) string { return fmt.Sprintf("%s[%d]", list, i) }

// rules are what Validate demands of single fields, by path, for Reference and
// Schema.
type rules struct {
	// forms are the forms of strings, keys those of the keys of maps.
	forms, keys map[string]syntax
	// allowed are closed lists of values.
	allowed map[string][]string
	// exactlyOne lists the fields of which an object has exactly one.
	exactlyOne map[string][]string
}

// add adds the rules of fields below a path, which ends in a dot or is empty.
func (r *rules) add(at string, below rules) {
	r.forms = addBelow(r.forms, at, below.forms)
	r.keys = addBelow(r.keys, at, below.keys)
	r.allowed = addBelow(r.allowed, at, below.allowed)
	r.exactlyOne = addBelow(r.exactlyOne, at, below.exactlyOne)
}

func addBelow[T any](all map[string]T, at string, below map[string]T) map[string]T {
	if all == nil {
		all = map[string]T{}
	}
	for _, path := range slices.Sorted(maps.Keys(below)) {
		all[at+path] = below[path]
	}
	return all
}
