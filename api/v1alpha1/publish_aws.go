package v1alpha1

// AWSTarget is one AWS account, and what is made in it.
type AWSTarget struct {
	// Region is where the image is made, and copied to other regions from.
	Region string `json:"region"`
}

// awsTargetRules are the rules of single fields below an AWSTarget.
var awsTargetRules = rules{
	forms: map[string]syntax{"region": awsRegionSyntax},
}

// setDefaults fills in what was not given.
func (t *AWSTarget) setDefaults() {}

// awsTarget checks an account, which stands at a path.
func (c *checker) awsTarget(at string, t AWSTarget) {
	c.matches(at+".region", t.Region, awsRegionSyntax)
}
