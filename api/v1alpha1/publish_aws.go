package v1alpha1

import (
	"errors"

	"nodesmith.dev/nodesmith/internal/lazyregexp"
)

// AWSTarget is one AWS account, and what is made in it. Credentials are those
// that AWS's own tools use: the environment, profiles, roles, single sign-on.
type AWSTarget struct {
	// Profile is the profile in AWS's configuration files that has the credentials.
	// Without it they are found as AWS's tools find them.
	Profile string `json:"profile,omitempty"`
	// Region is where the image is made, and copied to other regions from.
	Region string `json:"region"`
	// CopyTo are regions that get a copy of the image.
	CopyTo []string `json:"copyTo,omitempty"`
	// Name is the AMI's name up to the time and digest of the image, which follow:
	// a template in the language of Go's text/template with the values that the
	// names of vSphere's templates have. Cluster API's provider looks for
	// capa-ami-DISTRO-VERSION-KUBERNETES-*.
	Name string `json:"name,omitempty"`
	// Import sends the disk through a bucket of S3 and has EC2 import it, for
	// accounts that may not write snapshots themselves.
	Import AWSImport `json:"import,omitzero"`
	// Encrypt makes the snapshots encrypted.
	Encrypt bool `json:"encrypt,omitempty"`
	// KMSKeys are the keys' ARNs by region. A region without one has the account's
	// own key for EBS, with which an image can't be shared.
	KMSKeys map[string]string `json:"kmsKeys,omitempty"`
	// TPM gives machines a TPM; they boot on UEFI alone then.
	TPM bool `json:"tpm,omitempty"`
	// Share says who else may launch the image.
	Share AWSShare `json:"share,omitzero"`
	// DeprecateAfter is the number of days after the image was built on which EC2
	// marks it as deprecated. Without it the image stays as it is.
	DeprecateAfter Count `json:"deprecateAfter,omitzero" accept:"int"`
	// Parameter is the name of a parameter in each region's Systems Manager that
	// holds the AMI's ID: a template, like name.
	Parameter string `json:"parameter,omitempty"`
	// Keep is how many images of the same name, operating system, Kubernetes and
	// architecture are left in each region, this one included. Those in use stay.
	// Without it all are left.
	Keep Count `json:"keep,omitzero" accept:"int"`
	// Tags are those of AMIs and snapshots, besides the ones that say what the
	// image is.
	Tags map[string]string `json:"tags,omitempty" accept:"int"`
}

// AWSImport is the way through S3.
type AWSImport struct {
	// Bucket is a bucket in the target's region.
	Bucket string `json:"bucket,omitempty"`
	// Role is the service role with which EC2 reads the bucket.
	Role string `json:"role,omitempty"`
}

// AWSShare says who may launch an image besides its owner.
type AWSShare struct {
	// Accounts are the numbers of accounts.
	Accounts []string `json:"accounts,omitempty"`
	// Organizations are AWS organizations, by their ARNs.
	Organizations []string `json:"organizations,omitempty"`
	// OrganizationalUnits are parts of organizations, by their ARNs.
	OrganizationalUnits []string `json:"organizationalUnits,omitempty"`
	// Everyone lets everyone launch the image and read all that is in it; public
	// has to say so too.
	Everyone bool `json:"everyone,omitempty"`
	// Public is the second word that everyone needs.
	Public bool `json:"public,omitempty"`
}

// What an AWSTarget that does not say otherwise means.
const (
	defaultAMIName    = "capa-ami-{{.OSDistro}}-{{.OSVersion}}-{{.KubernetesVersion}}" // as Cluster API's
	defaultImportRole = "vmimport"                                                     // as AWS's documentation has it
)

var (
	// The name that is left for what follows it is 128 less 24.
	amiNameSyntax = syntax{
		"the beginning of an AMI's name", "3 to 104 letters, digits, spaces and ( ) [ ] . / - ' @ _",
		lazyregexp.New(`^[A-Za-z0-9()\[\] ./\-'@_]{3,}$`), 104,
	}
	parameterSyntax = syntax{
		"the name of a parameter", "letters, digits and . - _ /, with a slash first if there is one",
		lazyregexp.New(`^(/[A-Za-z0-9_.-]+)+$|^[A-Za-z0-9_.-]+$`), 1011,
	}
	amiNameForm   = syntax{amiNameSyntax.what, "a template such as " + defaultAMIName + " that becomes " + amiNameSyntax.allowed, nil, 0}
	parameterForm = syntax{parameterSyntax.what, "a template that becomes " + parameterSyntax.allowed, nil, 0}

	profileSyntax    = syntax{"a profile", "a profile's name", lazyregexp.New(`^[^` + control + `\]]+$`), 255}
	bucketSyntax     = syntax{"a bucket", "3 to 63 small letters, digits, dots and hyphens", lazyregexp.New(`^[a-z0-9][a-z0-9.-]+[a-z0-9]$`), 63}
	roleSyntax       = syntax{"a role", "the name of a role", lazyregexp.New(`^[A-Za-z0-9+=,.@_-]+$`), 64}
	accountSyntax    = syntax{"an account", "12 digits", lazyregexp.New(`^[0-9]{12}$`), 12}
	kmsKeySyntax     = syntax{"a key", "the ARN of a key", lazyregexp.New(`^arn:[a-z-]+:kms:[a-z0-9-]+:[0-9]{12}:(key|alias)/[A-Za-z0-9/_-]+$`), 2048}
	organization     = syntax{"an organization", "the ARN of an organization", lazyregexp.New(`^arn:[a-z-]+:organizations::[0-9]{12}:organization/o-[a-z0-9]+$`), 255}
	organizationUnit = syntax{"an organizational unit", "the ARN of an organizational unit", lazyregexp.New(`^arn:[a-z-]+:organizations::[0-9]{12}:ou/o-[a-z0-9]+/ou-[a-z0-9-]+$`), 255}
	awsTagKeySyntax  = syntax{"a tag's key", "up to 128 characters; not aws: or nodesmith first", lazyregexp.New(`^[^` + control + `]+$`), 128}
	awsTagSyntax     = syntax{"a tag's value", "up to 256 characters", lazyregexp.New(`^[^` + control + `]+$`), 256}
)

// Bounds of counts.
const (
	maxDeprecateAfter Count = 3650 // AWS takes ten years
	maxKept           Count = 1000
)

// awsTargetRules are the rules of single fields below an AWSTarget.
var awsTargetRules = rules{
	forms: map[string]syntax{
		"region": awsRegionSyntax, "copyTo[]": awsRegionSyntax, "profile": profileSyntax,
		"import.bucket": bucketSyntax, "import.role": roleSyntax, "kmsKeys": kmsKeySyntax,
		"share.accounts[]": accountSyntax, "share.organizations[]": organization, "share.organizationalUnits[]": organizationUnit,
		"deprecateAfter": {"a number of days", "1 to " + maxDeprecateAfter.String(), countSyntax, 0},
		"keep":           {"a number", "1 to " + maxKept.String(), countSyntax, 0},
		"tags":           awsTagSyntax, "name": amiNameForm, "parameter": parameterForm,
	},
	keys: map[string]syntax{"kmsKeys": awsRegionSyntax, "tags": awsTagKeySyntax},
}

// setDefaults fills in what was not given.
func (t *AWSTarget) setDefaults() {
	setDefault(&t.Name, defaultAMIName)
	if t.Import.Bucket != "" {
		setDefault(&t.Import.Role, defaultImportRole)
	}
}

// awsTarget checks an account, which stands at a path.
func (c *checker) awsTarget(at string, t AWSTarget) {
	c.matches(at+".region", t.Region, awsRegionSyntax)
	c.optional(at+".profile", t.Profile, profileSyntax)
	seen := map[string]string{t.Region: at + ".region"}
	for i, region := range t.CopyTo {
		if at := item(at+".copyTo", i); c.matches(at, region, awsRegionSyntax) {
			c.repeated(seen, at, region, region)
		}
	}
	for field, text := range map[string]string{"name": t.Name, "parameter": t.Parameter} {
		if _, err := t.render(field, text, sampleTemplate); err != nil && text != "" {
			bad, ok := errors.AsType[*FieldError](err)
			if !ok {
				bad = &FieldError{Found: quote(text), Problem: err.Error()}
			}
			bad.Field, bad.lineOfText = at+"."+field, 0
			c.add(*bad)
		}
	}
	c.optional(at+".import.bucket", t.Import.Bucket, bucketSyntax)
	c.optional(at+".import.role", t.Import.Role, roleSyntax)
	if t.Import.Role != "" && t.Import.Bucket == "" {
		c.require(at+".import.bucket", bucketSyntax.allowed)
	}
	c.pairs(at+".kmsKeys", t.KMSKeys, awsRegionSyntax, kmsKeySyntax)
	c.awsShare(at, t)
	if t.DeprecateAfter != 0 {
		c.count(at+".deprecateAfter", t.DeprecateAfter, 1, maxDeprecateAfter)
	}
	if t.Keep != 0 {
		c.count(at+".keep", t.Keep, 1, maxKept)
	}
	c.pairs(at+".tags", t.Tags, awsTagKeySyntax, awsTagSyntax)
}

// awsShare checks whom an image is shared with.
func (c *checker) awsShare(at string, t AWSTarget) {
	for _, list := range []struct {
		field string
		items []string
		form  syntax
	}{
		{"accounts", t.Share.Accounts, accountSyntax}, {"organizations", t.Share.Organizations, organization},
		{"organizationalUnits", t.Share.OrganizationalUnits, organizationUnit},
	} {
		for i, value := range list.items {
			c.matches(item(at+".share."+list.field, i), value, list.form)
		}
	}
	if t.Share.Everyone && !t.Share.Public {
		c.require(at+".share.public", "true, if everyone may read all that is in the image")
	}
	if t.Share.Everyone && t.Encrypt {
		c.add(FieldError{Field: at + ".share.everyone", Found: "true", Problem: "is not possible: EC2 shares no encrypted image with everyone", Allowed: []string{"without encrypt"}})
	}
}

// Shared says whether others than the owner may launch the image.
func (t AWSTarget) Shared() bool {
	s := t.Share
	return s.Everyone || len(s.Accounts)+len(s.Organizations)+len(s.OrganizationalUnits) > 0
}

// ImageName returns the beginning of the name of an image's AMI.
func (t AWSTarget) ImageName(values TemplateValues) (string, error) {
	return t.render("name", t.Name, values)
}

// ParameterName returns the name of the parameter that holds an AMI's ID; "" for
// none.
func (t AWSTarget) ParameterName(values TemplateValues) (string, error) {
	if t.Parameter == "" {
		return "", nil
	}
	return t.render("parameter", t.Parameter, values)
}

func (t AWSTarget) render(field, text string, values TemplateValues) (string, error) {
	form := map[string]syntax{"name": amiNameSyntax, "parameter": parameterSyntax}[field]
	made, err := renderValues(text, values)
	if err == nil && !form.ok(made) {
		err = &FieldError{Found: quote(made), Problem: "is not " + form.what, Allowed: []string{form.allowed}}
	}
	return made, err
}
