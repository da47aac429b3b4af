package report

import (
	"embed"
	"io/fs"
	"strings"
)

//go:embed assets/*.schema.json
var assets embed.FS

const suffix = ".schema.json"

// Kinds returns the kinds that have a schema, sorted.
func Kinds() []string {
	files, _ := fs.Glob(assets, "assets/*"+suffix) // the pattern is well formed
	var kinds []string
	for _, file := range files {
		kinds = append(kinds, strings.TrimSuffix(strings.TrimPrefix(file, "assets/"), suffix))
	}
	return kinds
}

// Schema returns the JSON Schema (draft 2020-12) of a kind of document.
func Schema(kind string) ([]byte, error) { return assets.ReadFile("assets/" + kind + suffix) }
