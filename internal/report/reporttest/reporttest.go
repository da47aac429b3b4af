// Package reporttest holds documents against their schemas in tests.
package reporttest

import (
	"bytes"
	"encoding/json"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"nodesmith.dev/nodesmith/internal/report"
)

// Validate fails the test unless the document, a value or its JSON text, fits the
// schema of that kind.
func Validate(t testing.TB, kind string, document any) {
	t.Helper()
	text, ok := document.([]byte)
	if !ok {
		var err error
		if text, err = json.Marshal(document); err != nil {
			t.Fatal(err)
		}
	}
	value, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		t.Fatalf("no JSON document: %v\n%s", err, text)
	}
	if err := compiled(t, kind).Validate(value); err != nil {
		t.Errorf("%v\n%s", err, text)
	}
}

func compiled(t testing.TB, kind string) *jsonschema.Schema {
	t.Helper()
	data, err := report.Schema(kind)
	if err != nil {
		t.Fatal(err)
	}
	document, err := jsonschema.UnmarshalJSON(bytes.NewReader(data))
	if err != nil {
		t.Fatalf("schema of %s: %v", kind, err)
	}
	c := jsonschema.NewCompiler()
	c.DefaultDraft(jsonschema.Draft4) // the schema has to say which one it is
	name := kind + ".json"
	if err := c.AddResource(name, document); err != nil {
		t.Fatal(err)
	}
	schema, err := c.Compile(name)
	if err != nil {
		t.Fatal(err)
	}
	return schema
}
