package v1alpha1

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"

	"go.yaml.in/yaml/v3"
)

// schema is the part of JSON Schema, draft 2020-12, that this package needs
// (https://json-schema.org/draft/2020-12/json-schema-validation).
type schema struct {
	Schema               string     `json:"$schema,omitempty"`
	Title                string     `json:"title,omitempty"`
	Description          string     `json:"description,omitempty"`
	Type                 any        `json:"type,omitempty"` // a name or several
	Enum                 []any      `json:"enum,omitempty"`
	Pattern              string     `json:"pattern,omitempty"`
	MaxLength            int        `json:"maxLength,omitempty"`
	Default              any        `json:"default,omitempty"`
	Examples             []any      `json:"examples,omitempty"`
	Required             []string   `json:"required,omitempty"`
	OneOf                []schema   `json:"oneOf,omitempty"`
	Properties           properties `json:"properties,omitempty"`
	AdditionalProperties any        `json:"additionalProperties,omitempty"` // false or *schema
	PropertyNames        *schema    `json:"propertyNames,omitempty"`
	MinItems             int        `json:"minItems,omitempty"`
	Items                *schema    `json:"items,omitempty"`
}

// properties keep the order of the fields.
type properties []property

type property struct {
	name  string
	value *schema
}

// MarshalJSON writes an object.
func (p properties) MarshalJSON() ([]byte, error) {
	var b bytes.Buffer
	b.WriteByte('{')
	for i, property := range p {
		if i > 0 {
			b.WriteByte(',')
		}
		name, err := json.Marshal(property.name)
		if err != nil {
			return nil, err
		}
		value, err := json.Marshal(property.value)
		if err != nil {
			return nil, err
		}
		b.Write(name)
		b.WriteByte(':')
		b.Write(value)
	}
	b.WriteByte('}')
	return b.Bytes(), nil
}

// Schema returns the JSON Schema (draft 2020-12) of a kind of file, for editors
// and for checks without nodesmith. f is what Reference returned. It takes every
// file that Validate takes, as far as no field is written without a value;
// rules that need more than one field, or the build context, are left to Validate.
func (f *Field) Schema() ([]byte, error) {
	s, err := f.schema()
	if err != nil {
		return nil, err
	}
	s.Schema, s.Title = "https://json-schema.org/draft/2020-12/schema", f.kind
	var b bytes.Buffer
	encoder := json.NewEncoder(&b)
	encoder.SetEscapeHTML(false) // for people
	encoder.SetIndent("", "  ")
	if err := encoder.Encode(s); err != nil {
		return nil, fmt.Errorf("JSON Schema: %w", err)
	}
	return b.Bytes(), nil
}

func (f *Field) schema() (*schema, error) {
	s := &schema{Description: f.Text}
	if f.Form != "" {
		s.Description += " Form: " + f.Form + "."
	}
	if f.Default != "" {
		s.Default = f.Default
	}
	if len(f.Fields) == 0 { // an object's examples stand at its fields
		var example any
		if err := f.example.Decode(&example); err != nil {
			return nil, fmt.Errorf("the example of %s: %w", f.Path, err)
		}
		s.Examples = []any{example}
	}
	switch f.Type {
	case "object":
		return s, f.object(s)
	case "list of objects":
		s.Type, s.Items = "array", &schema{}
		return s, f.object(s.Items)
	case "list of strings":
		s.Type, s.Items = "array", f.scalar(&schema{})
		if f.Required {
			s.MinItems = 1
		}
		if f.Default != "" {
			if err := yaml.Unmarshal([]byte(f.Default), &s.Default); err != nil {
				return nil, fmt.Errorf("the default of %s: %w", f.Path, err)
			}
		}
	case "map of strings":
		s.Type, s.AdditionalProperties = "object", f.scalar(&schema{})
		s.PropertyNames = &schema{}
		if f.keys != nil {
			s.PropertyNames = &schema{Pattern: portable(*f.keys), MaxLength: f.keys.maxLength}
		}
	case "mapping":
		s.Type = "object"
	case "boolean":
		s.Type = "boolean"
		s.Default = f.Default == "true"
	default:
		f.scalar(s)
	}
	return s, nil
}

// object makes s the schema of an object with f's fields and no others.
func (f *Field) object(s *schema) error {
	s.Type, s.AdditionalProperties = "object", false
	for _, below := range f.Fields {
		value, err := below.schema()
		if err != nil {
			return err
		}
		s.Properties = append(s.Properties, property{below.Name, value})
		if below.Required {
			s.Required = append(s.Required, below.Name)
		}
	}
	for _, name := range f.exactlyOne {
		s.OneOf = append(s.OneOf, schema{Required: []string{name}})
	}
	return nil
}

// scalar makes s the schema of one string. Where an integer is taken for its
// digits both types are right.
func (f *Field) scalar(s *schema) *schema {
	s.Type = "string"
	if f.acceptInt {
		s.Type = []string{"string", "integer"}
	}
	for _, value := range f.Allowed {
		s.Enum = append(s.Enum, value)
		if f.acceptInt && plainInt.MatchString(value) {
			s.Enum = append(s.Enum, json.Number(value))
		}
	}
	if f.syntax != nil {
		// JSON Schema counts characters, so no shorter value is refused.
		s.Pattern, s.MaxLength = portable(*f.syntax), f.syntax.maxLength
	}
	return s
}

// portable returns a form's pattern if it means the same in ECMA-262's regular
// expressions, whose names for characters are others than Go's; else "".
func portable(s syntax) string {
	if s.pattern == nil {
		return ""
	}
	pattern := s.pattern.String()
	for _, foreign := range []string{`\p`, `\x{`, `\C`} {
		if strings.Contains(pattern, foreign) {
			return ""
		}
	}
	return pattern
}
