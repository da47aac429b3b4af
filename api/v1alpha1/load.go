package v1alpha1

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Document is a NodeImage as it was written: the YAML tree of the file with the
// --set flags applied, where every value remembers where it came from.
type Document struct {
	file string
	root *yaml.Node
	// flags are the flags' paths; origin says which flag (from 1) made a node.
	flags  []string
	origin map[*yaml.Node]int
	// problems are the flags that could not be applied.
	problems ErrorList
}

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
	root, bad := parse(data)
	if bad != nil {
		bad.File = name
		return nil, ErrorList{bad}.asFault()
	}
	if root.Kind != yaml.MappingNode {
		return nil, ErrorList{{
			File: name, Line: root.Line, Column: root.Column, Found: describe(root),
			Problem: "is not a mapping", Allowed: []string{"one " + Kind},
		}}.asFault()
	}
	doc := &Document{file: name, root: root, origin: map[*yaml.Node]int{}}
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
	dec := newDecoder(doc)
	img := dec.nodeImage()
	img.Default()
	rules := img.check(known, buildContext)
	errs := slices.Concat(doc.problems, dec.errs)
	if foreignKind(img) {
		errs = nil // Of another kind of file only that much is worth saying.
	}
	for _, e := range rules {
		header := e.Field == "apiVersion" || e.Field == "kind"
		if dec.muted(e.Field) || foreignKind(img) && !header {
			continue
		}
		dec.locate(e)
		errs = append(errs, e)
	}
	if err := errs.asFault(); err != nil {
		return nil, err
	}
	return img, nil
}

// foreignKind says whether the file means to be something other than a NodeImage.
func foreignKind(img *NodeImage) bool {
	return img.Kind != "" && img.Kind != Kind && nearest(img.Kind, []string{Kind}) == ""
}

// parse reads data as exactly one YAML document and returns its top node.
func parse(data []byte) (*yaml.Node, *FieldError) {
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
				Problem: "a second document begins here", Allowed: []string{"one " + Kind + " in a file"},
			}
		}
		root = doc.Content[0]
	}
	if root == nil {
		return nil, &FieldError{Problem: "the file is empty", Allowed: []string{"one " + Kind}}
	}
	return root, nil
}

// yamlLine matches the place in the parser's messages, which have it as text.
var yamlLine = regexp.MustCompile(`^yaml: (?:line (\d+): )?`)

// parserMessage matches the messages of the YAML library's grammar, as against
// its scanner's: it counts the lines of the former from 0 (parser.fail in its
// decode.go, v3.0.5).
var parserMessage = regexp.MustCompile(`did not find expected (<|node content|key|'-' indicator|',' or)|found (duplicate %YAML|incompatible YAML|undefined tag|duplicate %TAG)`)

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
