package v1alpha1

import (
	"encoding"
	"errors"
	"fmt"
	"iter"
	"maps"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"nodesmith.dev/nodesmith/internal/fault"
	"nodesmith.dev/nodesmith/internal/lazyregexp"
)

// Field documents a field of a kind of file and those below it.
type Field struct {
	// Path is the field's place in a file: spec.files[].mode, "" for the whole.
	Path string
	// Name is the last part of the path: mode.
	Name string
	// Type says what is written there: string, boolean, number, size, object, mapping, list of
	// strings, list of objects, map of strings.
	Type string
	// Text says what the field means, in one or more sentences on one line.
	Text string
	// Required fields have to be given.
	Required bool
	// Default is the value of a field that is not given; "" if it has none.
	Default string
	// Allowed are all values that the field, or each item of a list, may have;
	// nil where Form says it, or nothing.
	Allowed []string
	// Form describes the values of the field, or of each item of a list.
	Form string
	// Example is the field as it is written, name and value, in YAML.
	Example string
	// Fields are those of an object, or of each object of a list.
	Fields []*Field

	kind       string   // of the file, for the whole
	exactlyOne []string // fields of which an object has exactly one
	keys       *syntax  // of the keys of a map
	goType     reflect.Type
	acceptInt  bool
	syntax     *syntax
	example    *yaml.Node
}

// Reference returns the documentation of every field of a NodeImage: the text
// is that of the comments in this package, the defaults are what Default does,
// the examples are taken from a NodeImage and a PublishTarget that together set
// every field.
func Reference(known Known, example, publish []byte) (*Field, error) {
	r := reference{rules: rules{forms: maps.Clone(forms), keys: maps.Clone(keyForms), allowed: known.values(), exactlyOne: maps.Clone(exactlyOne)}}
	r.forms["spec.kubernetes.version"] = known.syntax()
	r.add("spec.publish.", publishRules())
	root, bad := parse(example, Kind)
	if bad != nil {
		return nil, bad
	}
	target, bad := parse(publish, PublishKind)
	if bad != nil {
		return nil, bad
	}
	name := &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: "publish"}
	if spec := valueOf(root, "spec"); spec != nil {
		spec.Content = append(spec.Content, name, valueOf(target, "spec"))
	}
	return r.of(nodeImageKind, root)
}

// valueOf returns the value of a key of a mapping, nil for none.
func valueOf(mapping *yaml.Node, key string) *yaml.Node {
	for i := 0; i+1 < len(mapping.Content); i += 2 {
		if mapping.Content[i].Value == key {
			return mapping.Content[i+1]
		}
	}
	return nil
}

// PublishReference is Reference for a PublishTarget.
func PublishReference(example []byte) (*Field, error) {
	r := reference{rules: rules{
		forms:   map[string]syntax{"metadata.name": nameSyntax},
		allowed: map[string][]string{"apiVersion": {APIVersion}, "kind": {PublishKind}},
	}}
	r.add("spec.", publishRules())
	root, bad := parse(example, PublishKind)
	if bad != nil {
		return nil, bad
	}
	return r.of(publishTargetKind, root)
}

// of returns the documentation of a kind of file.
func (r reference) of(k kind, example *yaml.Node) (_ *Field, err error) {
	if r.texts, err = comments(); err != nil {
		return nil, err
	}
	defaulted := reflect.New(k.object)
	oneItemEach(defaulted.Elem())
	defaulted.Interface().(interface{ Default() }).Default()
	whole := &Field{Type: "object", Text: r.texts[k.name], kind: k.name, goType: k.object, example: example}
	return whole, r.fields(whole, defaulted.Elem(), []*yaml.Node{example})
}

// values are the closed lists of values, by path.
func (k Known) values() map[string][]string {
	versions := slices.Concat(slices.Collect(maps.Values(k.Distributions))...)
	slices.Sort(versions)
	return map[string][]string{
		"apiVersion": {APIVersion}, "kind": {Kind},
		"spec.source.os.type": osSources, "spec.source.kubernetes.type": kubernetesSources,
		"spec.os.distro":       slices.Sorted(maps.Keys(k.Distributions)),
		"spec.os.version":      slices.Compact(versions),
		"spec.infrastructures": k.Infrastructures, "spec.architecture": k.Architectures, "spec.formats": k.Formats,
		"spec.containerRuntime.registryMirrors[].mirrors[].capabilities": capabilities,
		"spec.proxy.usedBy":     proxyUsers,
		"spec.scripts[].when":   scriptPoints,
		"spec.vsphere.firmware": firmwares,
		"spec.disk.firmware":    diskFirmware,
	}
}

// syntax is the form of a Kubernetes version.
func (k Known) syntax() syntax {
	minors := make([]string, 0, len(k.Kubernetes))
	for _, minor := range k.Kubernetes {
		minors = append(minors, regexp.QuoteMeta(minor))
	}
	return syntax{
		"a version", "a version of " + strings.Join(k.Kubernetes, ", ") + " in full, such as v1.34.0",
		lazyregexp.New(`^(` + strings.Join(minors, "|") + `)\.(0|[1-9][0-9]*)(-[0-9A-Za-z.-]+)?$`), 0,
	}
}

// oneItemEach gives every list of structs one item, and every object that need
// not be there one, so that Default shows what
// it does to items.
func oneItemEach(v reflect.Value) {
	switch {
	case v.Kind() == reflect.Struct:
		for i := range v.NumField() {
			oneItemEach(v.Field(i))
		}
	case v.Kind() == reflect.Pointer && v.Type().Elem().Kind() == reflect.Struct:
		v.Set(reflect.New(v.Type().Elem()))
		oneItemEach(v.Elem())
	case v.Kind() == reflect.Slice && v.Type().Elem().Kind() == reflect.Struct:
		v.Set(reflect.MakeSlice(v.Type(), 1, 1))
		oneItemEach(v.Index(0))
	}
}

// reference is one run of Reference.
type reference struct {
	texts map[string]string
	rules
}

// fields fills in the fields of an object of the type of v, which has the
// defaults. examples are the objects of that kind that the example has.
func (r reference) fields(parent *Field, v reflect.Value, examples []*yaml.Node) error {
	for _, at := range reflect.VisibleFields(v.Type()) {
		name, options, _ := strings.Cut(at.Tag.Get("json"), ",")
		f := &Field{
			Path: join(parent.Path, name), Name: name, Required: options == "",
			goType: at.Type, acceptInt: at.Tag.Get("accept") == "int",
		}
		f.Text = name + strings.TrimPrefix(r.texts[v.Type().Name()+"."+at.Name], at.Name)
		f.Allowed = r.allowed[f.Path]
		if form, ok := r.forms[f.Path]; ok {
			f.syntax, f.Form = &form, form.allowed
		}
		values, err := f.quote(examples)
		if err != nil {
			return err
		}
		if err := r.typed(f, v.FieldByIndex(at.Index), values); err != nil {
			return err
		}
		parent.Fields = append(parent.Fields, f)
	}
	return nil
}

// typed fills in what follows from the field's type and from v, its default.
// examples are all values of it that the example has.
func (r reference) typed(f *Field, v reflect.Value, examples []*yaml.Node) error {
	if f.goType.Kind() == reflect.Pointer && f.goType.Elem().Kind() != reflect.String {
		return r.pointed(f, v, examples)
	}
	switch t := f.goType; {
	case t == reflect.TypeFor[Size](), t == reflect.TypeFor[SizeOrContent]():
		f.Type = "size"
		f.Default = text(v)
	case t == reflect.TypeFor[Count]():
		f.Type, f.Default = "number", text(v)
	case t.Kind() == reflect.Bool:
		f.Type, f.Default = "boolean", "false"
	case t.Kind() == reflect.String || t.Kind() == reflect.Pointer && t.Elem().Kind() == reflect.String:
		f.Type = "string"
		if f.acceptInt && f.syntax != nil && *f.syntax == idSyntax {
			f.Type = "number" // quotes are not needed, though they are taken
		}
		if t.Kind() == reflect.String {
			f.Default = v.String()
		}
	case t.Kind() == reflect.Struct:
		f.Type, f.exactlyOne = "object", r.exactlyOne[f.Path]
		return r.fields(f, v, examples)
	case t.Kind() == reflect.Slice && t.Elem().Kind() == reflect.String:
		f.Type = "list of strings"
		f.Default = listText(v)
	case t.Kind() == reflect.Slice && t.Elem().Kind() == reflect.Struct:
		f.Type = "list of objects"
		f.Path += "[]"
		f.exactlyOne = r.exactlyOne[f.Path]
		var items []*yaml.Node
		for _, list := range examples {
			items = append(items, list.Content...)
		}
		return r.fields(f, v.Index(0), items)
	case t == reflect.TypeFor[Settings]():
		f.Type = "mapping"
	case t.Kind() == reflect.Map && t.Elem().Kind() == reflect.String:
		f.Type = "map of strings"
		if form, ok := r.keys[f.Path]; ok {
			f.keys = &form
		}
	default:
		return fmt.Errorf("%s: no description of the type %s", f.Path, t)
	}
	return nil
}

// pointed is typed for something that can be told from its zero value.
func (r reference) pointed(f *Field, v reflect.Value, examples []*yaml.Node) error {
	f.goType = f.goType.Elem()
	if v.IsNil() {
		v = reflect.New(f.goType)
	}
	err := r.typed(f, v.Elem(), examples)
	if f.Type == "boolean" {
		f.Default = strconv.FormatBool(v.Elem().Bool())
	}
	return err
}

// listText returns a list of strings as it is written; "" for an empty one.
func listText(v reflect.Value) string {
	var items []string
	for i := range v.Len() {
		items = append(items, v.Index(i).String())
	}
	if len(items) == 0 {
		return ""
	}
	return "[" + strings.Join(items, ", ") + "]"
}

// text returns a value as it is written; "" for the zero value.
func text(v reflect.Value) string {
	if v.IsZero() {
		return ""
	}
	data, err := v.Interface().(encoding.TextMarshaler).MarshalText()
	if err != nil {
		return ""
	}
	return string(data)
}

// quote takes the field's example from the first of the objects that has it,
// and returns the values that all of them have.
func (f *Field) quote(objects []*yaml.Node) ([]*yaml.Node, error) {
	var values []*yaml.Node
	for _, object := range objects {
		for i := 0; i+1 < len(object.Content); i += 2 {
			if object.Content[i].Value == f.Name {
				values = append(values, withoutComments(object.Content[i+1]))
			}
		}
	}
	if len(values) == 0 {
		return nil, fmt.Errorf("the example does not set %s", f.Path)
	}
	f.example = values[0]
	var text strings.Builder
	encoder := yaml.NewEncoder(&text)
	encoder.SetIndent(2)
	err := errors.Join(encoder.Encode(map[string]*yaml.Node{f.Name: f.example}), encoder.Close())
	f.Example = strings.TrimSuffix(text.String(), "\n")
	return values, err
}

func withoutComments(n *yaml.Node) *yaml.Node {
	bare := *n
	bare.HeadComment, bare.LineComment, bare.FootComment = "", "", ""
	bare.Content = make([]*yaml.Node, 0, len(n.Content))
	for _, child := range n.Content {
		bare.Content = append(bare.Content, withoutComments(child))
	}
	return &bare
}

// index is what a path has behind the name of a list or of a map.
var index = lazyregexp.New(`\[[^\]]*\]`)

// Find returns the field at a path: spec.files[].mode, spec.files.mode and
// spec.files[0].mode are the same, "" is f itself. A path that leads to no field
// is a fault.Usage.
func (f *Field) Find(path string) (*Field, error) {
	at := f
	for _, name := range strings.FieldsFunc(index.ReplaceAllString(path, ""), func(r rune) bool { return r == '.' }) {
		i := slices.IndexFunc(at.Fields, func(f *Field) bool { return f.Name == name })
		if i < 0 {
			return nil, at.unknown(name)
		}
		at = at.Fields[i]
	}
	return at, nil
}

// unknown says that the field has no such field below it.
func (f *Field) unknown(name string) error {
	bad := &FieldError{Field: join(f.Path, name), Problem: "is not a field"}
	for _, below := range f.Fields {
		bad.Allowed = append(bad.Allowed, below.Name)
	}
	bad.Suggestion = nearest(name, bad.Allowed)
	if len(bad.Allowed) == 0 {
		return fault.New(fault.Usage, "nodesmith explain "+f.Path, "%w: %s is a %s", errors.New(bad.Error()), f.Path, f.Type)
	}
	return fault.New(fault.Usage, "nodesmith explain lists the fields at the top", "%w", bad)
}

// Kind is the kind of file that f documents the whole of.
func (f *Field) Kind() string { return f.kind }

// All yields f and every field below it, in the order of the file.
func (f *Field) All() iter.Seq[*Field] {
	return func(yield func(*Field) bool) { f.all(yield) }
}

func (f *Field) all(yield func(*Field) bool) bool {
	if !yield(f) {
		return false
	}
	for _, below := range f.Fields {
		if !below.all(yield) {
			return false
		}
	}
	return true
}
