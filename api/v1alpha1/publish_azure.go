package v1alpha1

// AzureTarget is one Azure subscription, and what is made in it.
type AzureTarget struct {
	// Location is the region in which the image is made, and replicated from.
	Location string `json:"location"`
}

// azureTargetRules are the rules of single fields below an AzureTarget.
var azureTargetRules = rules{
	forms: map[string]syntax{"location": azureLocationSyntax},
}

// setDefaults fills in what was not given.
func (t *AzureTarget) setDefaults() {}

// azureTarget checks a subscription, which stands at a path.
func (c *checker) azureTarget(at string, t AzureTarget) {
	c.matches(at+".location", t.Location, azureLocationSyntax)
}
