// Package examples holds NodeImages that build. What the documentation of
// fields quotes is embedded.
package examples

import _ "embed"

// Full is the NodeImage with every field, full.yaml.
//
//go:embed full.yaml
var Full []byte
