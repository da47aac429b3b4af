package v1alpha1

import (
	"fmt"
	"math"

	"go.yaml.in/yaml/v3"
)

// Settings is a mapping that belongs to another program: what may stand in it
// is that program's to say. Its values are those of JSON.
type Settings map[string]any

// settings decodes a mapping whose content is not this package's.
func (d *decoder) settings(path string, n *yaml.Node) Settings {
	if n.Kind != yaml.MappingNode || n.ShortTag() != "!!map" {
		_ = d.wrongType(path, n, "a mapping")
		return nil
	}
	settings := Settings{}
	for key, value := range d.pairs(path, n, func(key string) string { return join(path, key) }) {
		settings[key] = d.free(join(path, key), value)
	}
	return settings
}

// free decodes a value of such a mapping.
func (d *decoder) free(path string, n *yaml.Node) any {
	d.values[path] = n
	switch n.Kind {
	case yaml.MappingNode:
		return map[string]any(d.settings(path, n))
	case yaml.SequenceNode:
		list := make([]any, 0, len(n.Content))
		for i, item := range n.Content {
			list = append(list, d.free(fmt.Sprintf("%s[%d]", path, i), item))
		}
		return list
	case yaml.ScalarNode:
		return d.scalar(path, n)
	case yaml.AliasNode, yaml.DocumentNode:
	}
	_ = d.wrongType(path, n, "a value")
	return nil
}

// scalar decodes a string, number, boolean or null.
func (d *decoder) scalar(path string, n *yaml.Node) any {
	switch n.ShortTag() {
	case "!!null":
		return nil
	case "!!bool":
		var b bool
		if n.Decode(&b) == nil {
			return b
		}
	case "!!int":
		var i int64
		if plainInt.MatchString(n.Value) && n.Decode(&i) == nil {
			return i
		}
	case "!!float":
		var f float64
		if n.Decode(&f) == nil && !math.IsInf(f, 0) && !math.IsNaN(f) {
			if i := int64(f); math.Abs(f) < 1<<53 && float64(i) == f { // as JSON writes it
				return i
			}
			return f
		}
	case "!!str", "!!merge":
		if contentSyntax.ok(n.Value) {
			return n.Value
		}
	}
	_ = d.wrongType(path, n, "a value that every reader of YAML takes alike: write it in quotes")
	return nil
}
