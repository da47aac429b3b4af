package v1alpha1

import (
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"

	"nodesmith.dev/nodesmith/internal/lazyregexp"
)

// override applies PATH=VALUE to the tree. The path is followed in the Go types
// and in the tree at once: the types say which fields there are, and whether a
// bracket holds an index or a key, also where the tree has nothing yet.
func (doc *Document) override(flag string) *FieldError {
	path, text, ok := strings.Cut(flag, "=")
	doc.flags = append(doc.flags, path)
	fail := func(e *FieldError) *FieldError {
		e.Flag, e.flagIndex = setFlag(path), len(doc.flags)
		return e
	}
	if !ok {
		return fail(&FieldError{Problem: "has no value", Allowed: []string{"PATH=VALUE, such as spec.kubernetes.version=v1.34.0"}})
	}
	if !utf8.ValidString(text) { // as YAML demands of a file
		return fail(&FieldError{Found: quote(text), Problem: "is not UTF-8"})
	}
	steps, bad := splitPath(path)
	if bad != nil {
		return fail(bad)
	}
	value, bad := flagValue(text, doc.kind.name)
	if bad != nil {
		bad.Line, bad.Column = 0, 0 // of the value, of which there is one line
		return fail(bad)
	}
	// The whole path is checked before anything is changed.
	types := []reflect.Type{doc.kind.object}
	for _, s := range steps {
		t, bad := childType(types[len(types)-1], s)
		if bad != nil {
			return fail(bad)
		}
		types = append(types, t)
	}
	node := &doc.root
	for i, s := range steps {
		if isNull(*node) {
			*node = doc.mark(emptyNode(types[i]))
		}
		if node, bad = doc.child(*node, types[i], s); bad != nil {
			return fail(bad)
		}
		if node == nil {
			return nil // the file is wrong there, which Validate says
		}
	}
	*node = doc.mark(value)
	return nil
}

// step is one part of a path: a field's name, or what a bracket holds.
type step struct {
	name    string
	bracket bool
	path    string // up to here
}

var stepSyntax = lazyregexp.New(`^(?:\.?([A-Za-z0-9_-]+)|\[([^\[\]]+)\])`)

// splitPath cuts spec.files[0].path into its steps.
func splitPath(path string) ([]step, *FieldError) {
	var steps []step
	for rest := path; rest != "" || len(steps) == 0; {
		m := stepSyntax.FindStringSubmatch(rest)
		if m == nil || len(steps) == 0 && (m[2] != "" || rest[0] == '.') || len(steps) > 0 && m[1] != "" && rest[0] != '.' {
			return nil, &FieldError{Problem: "is not the path of a field", Allowed: []string{"names with dots, indexes and keys in brackets, such as spec.files[0].path or spec.sysctls[vm.swappiness]"}}
		}
		rest = rest[len(m[0]):]
		steps = append(steps, step{name: m[1] + m[2], bracket: m[2] != "", path: path[:len(path)-len(rest)]})
	}
	return steps, nil
}

// childType returns the type of what a step names in a value of type t.
func childType(t reflect.Type, s step) (reflect.Type, *FieldError) {
	switch t.Kind() {
	case reflect.Struct:
		names := fieldNames(t)
		field, ok := fieldByName(t, s.name)
		if !ok || s.bracket {
			return nil, &FieldError{Field: s.path, Problem: "is not a field", Allowed: names, Suggestion: nearest(s.name, names)}
		}
		return field.Type, nil
	case reflect.Map:
		if !s.bracket {
			return nil, &FieldError{Field: s.path, Problem: "is not a key", Allowed: []string{"the key in brackets"}}
		}
		return t.Elem(), nil
	case reflect.Slice:
		if _, err := strconv.ParseUint(s.name, 10, 31); !s.bracket || err != nil {
			return nil, &FieldError{Field: s.path, Problem: "is not an item of a list", Allowed: []string{"the index in brackets, from 0"}}
		}
		return t.Elem(), nil
	default:
		return nil, &FieldError{Field: s.path, Problem: "is not a field: what it would be part of has none"}
	}
}

// child returns the place of the child of n, of type t, that a step names,
// making it if need be. It is nil if n is no node for a value of type t.
func (doc *Document) child(n *yaml.Node, t reflect.Type, s step) (**yaml.Node, *FieldError) {
	if t.Kind() != reflect.Slice {
		return doc.entry(n, s.name), nil
	}
	if n.Kind != yaml.SequenceNode {
		return nil, nil
	}
	index, err := strconv.Atoi(s.name)
	if err != nil || index > len(n.Content) {
		return nil, &FieldError{
			Field: s.path, Problem: fmt.Sprintf("is past the end of a list of %d", len(n.Content)),
			Allowed: []string{fmt.Sprintf("an index from 0 to %d", len(n.Content))},
		}
	}
	if index == len(n.Content) {
		n.Content = append(n.Content, doc.mark(nullNode()))
	}
	return &n.Content[index], nil
}

// entry returns the place of a key's value in a mapping, making it if need be.
// A repeated key, which is an error, counts at its first place.
func (doc *Document) entry(n *yaml.Node, key string) **yaml.Node {
	if n.Kind != yaml.MappingNode {
		return nil
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Kind == yaml.ScalarNode && n.Content[i].Value == key {
			return &n.Content[i+1]
		}
	}
	name := doc.mark(&yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: key})
	n.Content = append(n.Content, name, doc.mark(nullNode()))
	return &n.Content[len(n.Content)-1]
}

// mark notes that the last flag made the nodes of a tree.
func (doc *Document) mark(n *yaml.Node) *yaml.Node {
	doc.origin[n] = len(doc.flags)
	for _, child := range n.Content {
		doc.mark(child)
	}
	return n
}

// flagValue reads a flag's value: a list, a mapping or a string in quotes in
// YAML's flow style, otherwise a scalar of these very characters, so that keys
// ("ssh-ed25519 AAAA... me: laptop") and paths need no quoting.
func flagValue(text, kind string) (*yaml.Node, *FieldError) {
	if text != "" && strings.ContainsRune(`[{"'`, rune(text[0])) {
		return parse([]byte(text), kind)
	}
	return &yaml.Node{Kind: yaml.ScalarNode, Value: text}, nil
}

func nullNode() *yaml.Node { return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!null"} }

// emptyNode returns an empty node for a value of type t.
func emptyNode(t reflect.Type) *yaml.Node {
	switch t.Kind() {
	case reflect.Struct, reflect.Map:
		return &yaml.Node{Kind: yaml.MappingNode, Tag: "!!map"}
	case reflect.Slice:
		return &yaml.Node{Kind: yaml.SequenceNode, Tag: "!!seq"}
	default:
		return nullNode()
	}
}
