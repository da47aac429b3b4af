package v1alpha1

import (
	"encoding"
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"

	"go.yaml.in/yaml/v3"
)

// Value is one value of a NodeImage and where it was written.
type Value struct {
	Path string // spec.files[0].mode
	Text string
	// Flag is the flag that set it: "--set spec.disk.size".
	Flag string
	// File, Line and Column are where it stands if no flag set it. A default
	// stands nowhere.
	File         string
	Line, Column int
}

// Default says whether nobody wrote the value.
func (v Value) Default() bool { return v.Flag == "" && v.File == "" }

// Values lists every value of an image that Validate returned, the defaults
// among them, in the order of the format. Items of lists are values of their own.
func (doc *Document) Values(img *NodeImage) []Value {
	l := valueList{doc: doc}
	l.add("metadata", reflect.ValueOf(img.Metadata))
	l.add("spec", reflect.ValueOf(img.Spec))
	return l.values
}

// valueList is one run of Values.
type valueList struct {
	doc    *Document
	values []Value
}

// add adds what v holds, which is at path.
func (l *valueList) add(path string, v reflect.Value) {
	if v.Kind() == reflect.Pointer {
		if !v.IsNil() {
			l.add(path, v.Elem())
		}
		return
	}
	if text, ok := v.Interface().(encoding.TextMarshaler); ok {
		if !v.IsZero() {
			data, err := text.MarshalText()
			l.leaf(path, string(data), err)
		}
		return
	}
	if settings, ok := v.Interface().(Settings); ok {
		if len(settings) > 0 {
			data, err := json.Marshal(settings)
			l.leaf(path, string(data), err)
		}
		return
	}
	switch v.Kind() {
	case reflect.Struct:
		for _, field := range reflect.VisibleFields(v.Type()) {
			l.add(join(path, fieldName(field)), v.FieldByIndex(field.Index))
		}
	case reflect.Slice:
		for i := range v.Len() {
			l.add(fmt.Sprintf("%s[%d]", path, i), v.Index(i))
		}
	case reflect.Map:
		keys := map[string]reflect.Value{}
		for key, value := range v.Seq2() {
			keys[key.String()] = value
		}
		for _, key := range slices.Sorted(maps.Keys(keys)) {
			l.add(path+"["+key+"]", keys[key])
		}
	default: // a string or a boolean
		if !v.IsZero() || l.node(path) != nil {
			l.leaf(path, fmt.Sprint(v.Interface()), nil)
		}
	}
}

// node returns where a value is written, nil for nowhere.
func (l *valueList) node(path string) *yaml.Node {
	if n := l.doc.values[path]; n != nil && !isNull(n) {
		return n
	}
	return nil
}

func (l *valueList) leaf(path, text string, err error) {
	if err != nil { // of a value that was read from text: it has one
		text = err.Error()
	}
	v := Value{Path: path, Text: text}
	if n := l.node(path); n != nil {
		if flag := l.doc.origin[n]; flag > 0 {
			v.Flag = setFlag(l.doc.flags[flag-1])
		} else {
			v.File, v.Line, v.Column = l.doc.file, n.Line, n.Column
		}
	}
	l.values = append(l.values, v)
}
