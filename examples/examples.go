// Package examples holds NodeImages that build, and PublishTargets. What the documentation of
// fields quotes is embedded.
package examples

import _ "embed"

// Full is the NodeImage with every field, full.yaml.
//
//go:embed full.yaml
var Full []byte

// Publish is the PublishTarget with every field, publish/full.yaml.
//
//go:embed publish/full.yaml
var Publish []byte
