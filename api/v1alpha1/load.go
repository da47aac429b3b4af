package v1alpha1

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"nodesmith.dev/nodesmith/internal/lazyregexp"
)

// Document is a file as it was written: its YAML tree with the --set flags
// applied, where every value remembers where it came from.
type Document struct {
	kind kind
	file string
	root *yaml.Node
	// flags are the flags' paths; origin says which flag (from 1) made a node.
	flags  []string
	origin map[*yaml.Node]int
	// problems are the flags that could not be applied.
	problems ErrorList
	// values are the nodes of the fields that the last decode found, by path.
	values map[string]*yaml.Node
}

// kind is one kind of file: its name, and the type that it is decoded into.
type kind struct {
	name   string
	object reflect.Type
}

var (
	nodeImageKind     = kind{Kind, reflect.TypeFor[NodeImage]()}
	publishTargetKind = kind{PublishKind, reflect.TypeFor[PublishTarget]()}
)

// Load reads a NodeImage. name is the file's name, for messages alone; each of
// set is a PATH=VALUE of a --set flag, applied in order:
//
//	spec.kubernetes.version=v1.34.1     a field
//	spec.infrastructures[0]=qemu        an item of a list, or the next one
//	spec.infrastructures=[qemu, aws]    a whole list or mapping, in YAML's flow style
//	spec.sysctls[vm.swappiness]=10      an entry of a mapping with free keys
//	spec.disk=                          as if the field had not been written
//
// Load fails, with kind fault.BadSpec and an ErrorList, if data is not a single
// YAML mapping. Everything else that may be wrong, in the file and in the flags,
// is said by Document.Validate in one list.
func Load(name string, data []byte, set []string) (*Document, error) {
	return load(nodeImageKind, name, data, set)
}

// ReadPublishTarget reads a PublishTarget and returns it with its defaults, if
// it keeps every rule. The arguments are those of Load and Document.Validate,
// and so are the errors.
func ReadPublishTarget(name string, data []byte, set []string, buildContext fs.FS) (*PublishTarget, error) {
	doc, err := load(publishTargetKind, name, data, set)
	if err != nil {
		return nil, err
	}
	target := &PublishTarget{}
	err = doc.decode(target, func() ErrorList {
		target.Default()
		return target.check(buildContext)
	})
	if err != nil {
		return nil, err
	}
	return target, nil
}

// KindOf returns what a file says that it describes, "" if it does not say or
// is no YAML: whoever reads files of several kinds asks it first.
func KindOf(data []byte) string {
	var header struct {
		Kind string `yaml:"kind"`
	}
	if root, bad := parse(data, Kind); bad != nil || root.Decode(&header) != nil {
		return ""
	}
	return header.Kind
}

func load(k kind, name string, data []byte, set []string) (*Document, error) {
	root, bad := parse(data, k.name)
	if bad != nil {
		bad.File = name
		return nil, ErrorList{bad}.asFault()
	}
	if root.Kind != yaml.MappingNode {
		return nil, ErrorList{{
			File: name, Line: root.Line, Column: root.Column, Found: describe(root),
			Problem: "is not a mapping", Allowed: []string{"one " + k.name},
		}}.asFault()
	}
	doc := &Document{kind: k, file: name, root: root, origin: map[*yaml.Node]int{}}
	for _, flag := range set {
		if bad := doc.override(flag); bad != nil {
			doc.problems = append(doc.problems, bad)
		}
	}
	return doc, nil
}

// Validate returns the NodeImage that the document holds, with its defaults
// filled in, if it keeps every rule. Otherwise it returns everything that is
// wrong, with places: an error of kind fault.BadSpec that wraps an ErrorList.
// buildContext is where files[].source is looked up; nil leaves that out.
func (doc *Document) Validate(known Known, buildContext fs.FS) (*NodeImage, error) {
	img := &NodeImage{}
	err := doc.decode(img, func() ErrorList {
		img.Default()
		return img.check(known, buildContext)
	})
	if err != nil {
		return nil, err
	}
	return img, nil
}

// decode fills in object, of the document's kind, and returns everything that
// is wrong with the file: what can't be decoded, and what check says of the
// rest, with places.
func (doc *Document) decode(object any, check func() ErrorList) error {
	dec := newDecoder(doc)
	dec.value("", doc.root, reflect.ValueOf(object).Elem(), false)
	doc.values = dec.values
	foreign := doc.foreign()
	errs := slices.Concat(doc.problems, dec.errs)
	if foreign {
		errs = nil // Of another kind of file only that much is worth saying.
	}
	for _, e := range check() {
		header := e.Field == "apiVersion" || e.Field == "kind"
		if dec.muted(e.Field) || foreign && !header {
			continue
		}
		dec.locate(e)
		errs = append(errs, e)
	}
	return errs.asFault()
}

// foreign says whether the file means to be of another kind than it was read as.
func (doc *Document) foreign() bool {
	value := valueOf(doc.root, "kind")
	return value != nil && value.Kind == yaml.ScalarNode && !isNull(value) && value.Value != "" &&
		value.Value != doc.kind.name && nearest(value.Value, []string{doc.kind.name}) == ""
}

// parse reads data as exactly one YAML document, of a kind, and returns its top
// node.
func parse(data []byte, kind string) (*yaml.Node, *FieldError) {
	var root *yaml.Node
	for decoder := yaml.NewDecoder(bytes.NewReader(data)); ; {
		var doc yaml.Node
		err := decoder.Decode(&doc)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, syntaxError(err)
		}
		if len(doc.Content) == 0 || isNull(doc.Content[0]) {
			continue // nothing but comments between two "---"
		}
		if root != nil {
			return nil, &FieldError{
				Line: doc.Content[0].Line, Column: doc.Content[0].Column,
				Problem: "a second document begins here", Allowed: []string{"one " + kind + " in a file"},
			}
		}
		root = doc.Content[0]
	}
	if root == nil {
		return nil, &FieldError{Problem: "the file is empty", Allowed: []string{"one " + kind}}
	}
	return root, nil
}

// yamlLine matches the place in the parser's messages, which have it as text.
var yamlLine = lazyregexp.New(`^yaml: (?:line (\d+): )?`)

// parserMessage matches the messages of the YAML library's grammar, as against
// its scanner's: it counts the lines of the former from 0 (parser.fail in its
// decode.go, v3.0.5).
var parserMessage = lazyregexp.New(`did not find expected (<|node content|key|'-' indicator|',' or)|found (duplicate %YAML|incompatible YAML|undefined tag|duplicate %TAG)`)

// syntaxError turns an error of the YAML parser into one with a line.
func syntaxError(err error) *FieldError {
	message := err.Error()
	bad := &FieldError{Problem: "not YAML: " + strings.TrimPrefix(message, "yaml: ")}
	if at := yamlLine.FindStringSubmatch(message); at != nil {
		bad.Line, _ = strconv.Atoi(at[1]) // 0 if the message has no line
		bad.Problem = "not YAML: " + message[len(at[0]):]
		if bad.Line > 0 && parserMessage.MatchString(bad.Problem) {
			bad.Line++
		}
	}
	return bad
}

// isNull says whether a node is written as nothing, "~" or "null".
func isNull(n *yaml.Node) bool {
	return n.Kind == yaml.ScalarNode && n.ShortTag() == "!!null"
}

// describe says what a node is, for FieldError.Found.
func describe(n *yaml.Node) string {
	switch n.Kind {
	case yaml.MappingNode:
		return tagged("a mapping", "!!map", n)
	case yaml.SequenceNode:
		return tagged("a list", "!!seq", n)
	case yaml.AliasNode:
		return "the alias *" + n.Value
	case yaml.ScalarNode, yaml.DocumentNode: // below; never part of a tree
	}
	switch n.ShortTag() {
	case "!!str":
		return quote(n.Value)
	case "!!null":
		return "null"
	case "!!int", "!!float":
		return fmt.Sprintf("the number %.40s", n.Value)
	case "!!bool":
		return fmt.Sprintf("the boolean %.40s", n.Value)
	case "!!timestamp":
		return fmt.Sprintf("the date %.40s", n.Value)
	}
	return tagged("a value", "", n)
}

// tagged adds a node's tag to what it is unless the tag is the usual one.
func tagged(what, usual string, n *yaml.Node) string {
	if tag := n.ShortTag(); tag != usual {
		return fmt.Sprintf("%s tagged %.40s", what, tag)
	}
	return what
}
