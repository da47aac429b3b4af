package v1alpha1

import (
	"encoding"
	"errors"
	"fmt"
	"iter"
	"reflect"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"nodesmith.dev/nodesmith/internal/lazyregexp"
)

// decoder fills an object from a YAML tree. Unlike yaml.Node.Decode it never
// guesses a type, goes on after an error, and remembers places. Its work is
// bounded by the size of the tree because it follows no alias.
type decoder struct {
	doc  *Document
	errs ErrorList
	// values and keys are the nodes of each field path: its value, and the
	// name it stands under.
	values, keys map[string]*yaml.Node
	// silent are the paths that have been complained about, with all below them.
	silent map[string]bool
}

func newDecoder(doc *Document) *decoder {
	return &decoder{
		doc:    doc,
		values: map[string]*yaml.Node{},
		keys:   map[string]*yaml.Node{},
		silent: map[string]bool{},
	}
}

// value decodes a node into v. What could not be decoded is in d.errs and has
// its zero value, or the text as it is written, in the result. acceptInt lets a
// string be written as a number where that can't be misread. A null leaves v as
// it is.
func (d *decoder) value(path string, n *yaml.Node, v reflect.Value, acceptInt bool) {
	d.values[path] = n
	if isNull(n) {
		return
	}
	if _, ok := v.Addr().Interface().(encoding.TextUnmarshaler); ok || v.Kind() == reflect.String {
		d.text(path, n, v, acceptInt)
		return
	}
	if v.Type() == reflect.TypeFor[Settings]() {
		v.Set(reflect.ValueOf(d.settings(path, n)))
		return
	}
	switch v.Kind() {
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		d.value(path, n, v.Elem(), acceptInt)
	case reflect.Bool:
		d.boolean(path, n, v)
	case reflect.Struct:
		d.structure(path, n, v)
	case reflect.Slice:
		d.list(path, n, v, acceptInt)
	case reflect.Map:
		d.entries(path, n, v, acceptInt)
	default:
		_ = d.wrongType(path, n, "a value that can be written here")
	}
}

// text decodes a scalar into a string or an encoding.TextUnmarshaler.
func (d *decoder) text(path string, n *yaml.Node, v reflect.Value, acceptInt bool) {
	if !d.isText(n, acceptInt) {
		bad := d.wrongType(path, n, "a string")
		if n.Kind == yaml.ScalarNode && n.Style == 0 {
			bad.Problem += ": it needs quotes"
			bad.Suggestion = n.Value // printed in quotes
			if v.Kind() == reflect.String {
				v.SetString(n.Value) // "is required" would be wrong to say as well
			}
		}
		return
	}
	t, ok := v.Addr().Interface().(encoding.TextUnmarshaler)
	if !ok {
		v.SetString(n.Value)
		return
	}
	if err := t.UnmarshalText([]byte(n.Value)); err != nil {
		bad, ok := errors.AsType[*FieldError](err)
		if !ok {
			bad = &FieldError{Found: describe(n), Problem: err.Error()}
		}
		bad.Field = path
		d.fail(n, bad)
	}
}

// plainInt matches the numbers that every YAML reader and writer leaves as they
// are: 12, not 012 (octal for some), 1_2 or 0xc.
var plainInt = lazyregexp.New(`^(0|-?[1-9][0-9]*)$`)

// isText says whether a node may be taken as a string by its characters.
// A number of a file is none, since 12.10 and 12.1 are the same number and 0644
// is 420, except for integers where a field accepts them. What follows the "="
// of a flag is always meant by its characters.
func (d *decoder) isText(n *yaml.Node, acceptInt bool) bool {
	if n.Kind != yaml.ScalarNode {
		return false
	}
	tag := n.ShortTag()
	return tag == "!!str" || tag == "!!merge" || // "<<" is special only as a key
		d.doc.origin[n] > 0 && n.Style == 0 ||
		acceptInt && tag == "!!int" && plainInt.MatchString(n.Value)
}

func (d *decoder) boolean(path string, n *yaml.Node, v reflect.Value) {
	text := ""
	if n.Kind == yaml.ScalarNode {
		text = strings.ToLower(n.Value)
	}
	if n.Kind == yaml.ScalarNode && n.ShortTag() == "!!bool" && (text == "true" || text == "false") {
		v.SetBool(text == "true")
		return
	}
	bad := &FieldError{Field: path, Found: describe(n), Problem: "is not a boolean", Allowed: []string{"true", "false"}}
	switch text { // YAML 1.1's other words for them
	case "true", "yes", "y", "on", "1":
		bad.Suggestion = "true"
	case "false", "no", "n", "off", "0":
		bad.Suggestion = "false"
	}
	d.fail(n, bad)
}

// structure decodes a mapping whose keys are the fields of a struct.
func (d *decoder) structure(path string, n *yaml.Node, v reflect.Value) {
	names := fieldNames(v.Type())
	if n.Kind != yaml.MappingNode || n.ShortTag() != "!!map" {
		_ = d.wrongType(path, n, "a mapping", names...)
		return
	}
	at := func(name string) string { return join(path, name) }
	for name, value := range d.pairs(path, n, at) {
		field, ok := fieldByName(v.Type(), name)
		if !ok {
			bad := &FieldError{
				Field: at(name), Problem: "is not a field", Allowed: names,
				Suggestion: nearest(name, names),
			}
			if bad.Suggestion != "" {
				// That this one is missing has the same cause.
				d.silent[at(bad.Suggestion)] = true
			}
			d.report(d.keys[bad.Field], bad)
			continue
		}
		d.value(at(name), value, v.FieldByIndex(field.Index), field.Tag.Get("accept") == "int")
	}
}

// list decodes a sequence. An item that can't be decoded keeps its place.
func (d *decoder) list(path string, n *yaml.Node, v reflect.Value, acceptInt bool) {
	if n.Kind != yaml.SequenceNode || n.ShortTag() != "!!seq" {
		_ = d.wrongType(path, n, "a list")
		return
	}
	v.Set(reflect.MakeSlice(v.Type(), len(n.Content), len(n.Content)))
	for i, item := range n.Content {
		at := fmt.Sprintf("%s[%d]", path, i)
		if isNull(item) {
			d.empty(at, item)
			continue
		}
		d.value(at, item, v.Index(i), acceptInt)
	}
}

// entries decodes a mapping with free keys.
func (d *decoder) entries(path string, n *yaml.Node, v reflect.Value, acceptInt bool) {
	if n.Kind != yaml.MappingNode || n.ShortTag() != "!!map" {
		_ = d.wrongType(path, n, "a mapping")
		return
	}
	v.Set(reflect.MakeMap(v.Type()))
	at := func(key string) string { return path + "[" + key + "]" }
	for key, value := range d.pairs(path, n, at) {
		item := reflect.New(v.Type().Elem()).Elem()
		if isNull(value) {
			d.empty(at(key), value)
		} else {
			d.value(at(key), value, item, acceptInt)
		}
		v.SetMapIndex(reflect.ValueOf(key), item)
	}
}

// pairs yields the keys of a mapping that are scalars, each once, and complains
// about the others. at makes a key's path from the key.
func (d *decoder) pairs(path string, n *yaml.Node, at func(key string) string) iter.Seq2[string, *yaml.Node] {
	return func(yield func(string, *yaml.Node) bool) {
		seen := map[string]*yaml.Node{}
		for i := 0; i+1 < len(n.Content); i += 2 {
			key, value := n.Content[i], n.Content[i+1]
			if key.Kind != yaml.ScalarNode {
				d.report(key, &FieldError{Field: path, Found: describe(key), Problem: "is not a field's name"})
				continue
			}
			if first := seen[key.Value]; first != nil {
				d.report(key, &FieldError{Field: at(key.Value), Problem: fmt.Sprintf("is given twice; first on line %d", first.Line)})
				continue
			}
			seen[key.Value], d.keys[at(key.Value)] = key, key
			if !yield(key.Value, value) {
				return
			}
		}
	}
}

// empty reports an item or entry without a value.
func (d *decoder) empty(path string, n *yaml.Node) {
	d.fail(n, &FieldError{Field: path, Problem: "has no value"})
}

// wrongType reports a node of another type than the field's.
func (d *decoder) wrongType(path string, n *yaml.Node, want string, allowed ...string) *FieldError {
	bad := &FieldError{Field: path, Found: describe(n), Problem: "is not " + want, Allowed: allowed}
	if n.Kind == yaml.AliasNode {
		bad.Problem, bad.Allowed = "is not supported: write the value out", nil
	}
	d.fail(n, bad)
	return bad
}

// fail records an error at a node and silences what else may be said of its field.
func (d *decoder) fail(n *yaml.Node, e *FieldError) {
	d.silent[e.Field] = true
	d.report(n, e)
}

// report records an error at a node.
func (d *decoder) report(n *yaml.Node, e *FieldError) {
	d.place(e, n)
	d.errs = append(d.errs, e)
}

// muted says whether a field, or one that it is part of, was complained about.
func (d *decoder) muted(path string) bool {
	for ; path != ""; path = parent(path) {
		if d.silent[path] {
			return true
		}
	}
	return false
}

// locate gives an error about a field its place: the field's value or name, or
// the name of the nearest field around it that is there.
func (d *decoder) locate(e *FieldError) {
	n := d.values[e.Field]
	if n != nil && n.Kind == yaml.ScalarNode && !isNull(n) && e.asWritten {
		e.Found = quote(n.Value)
	}
	if n == nil || e.onKey || isNull(n) {
		n = d.nearestName(e.Field)
	}
	d.place(e, n)
	if e.lineOfText > 0 && n == d.values[e.Field] && n.Style == yaml.LiteralStyle && e.Line > 0 {
		// Written as it is, from the line below the indicator on.
		e.Line, e.Column, e.lineOfText = e.Line+e.lineOfText, 0, 0
	}
}

// nearestName returns the node that names a field or the nearest one around it.
// What a flag set, or took away, is named by the flag.
func (d *decoder) nearestName(path string) *yaml.Node {
	for ; path != ""; path = parent(path) {
		value := d.values[path]
		if value != nil && d.doc.origin[value] > 0 {
			return value
		}
		if key := d.keys[path]; key != nil {
			return key
		}
		if value != nil {
			return value // items of lists have no name
		}
	}
	return d.doc.root
}

// place gives an error the place of a node.
func (d *decoder) place(e *FieldError, n *yaml.Node) {
	if i := d.doc.origin[n]; i > 0 {
		e.Flag, e.flagIndex = setFlag(d.doc.flags[i-1]), i
		return
	}
	e.File, e.Line, e.Column = d.doc.file, n.Line, n.Column
}

// join appends a field's name to a path.
func join(path, name string) string {
	if path == "" {
		return name
	}
	return path + "." + name
}

// parent cuts the last name, index or key off a path.
func parent(path string) string {
	if strings.HasSuffix(path, "]") {
		if i := strings.LastIndexByte(path, '['); i >= 0 {
			return path[:i]
		}
	}
	return path[:max(0, strings.LastIndexByte(path, '.'))]
}

// fieldNames returns the names of a struct's fields in YAML, in their order.
func fieldNames(t reflect.Type) []string {
	var names []string
	for _, field := range reflect.VisibleFields(t) {
		names = append(names, fieldName(field))
	}
	return names
}

// fieldByName finds a field by its name in YAML.
func fieldByName(t reflect.Type, name string) (reflect.StructField, bool) {
	fields := reflect.VisibleFields(t)
	i := slices.IndexFunc(fields, func(f reflect.StructField) bool { return fieldName(f) == name })
	if i < 0 {
		return reflect.StructField{}, false
	}
	return fields[i], true
}

// fieldName returns the name that a field's json tag gives it.
func fieldName(field reflect.StructField) string {
	name, _, _ := strings.Cut(field.Tag.Get("json"), ",")
	return name
}
