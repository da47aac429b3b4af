package awsmodel

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"unicode/utf8"
)

// A value is what a request says: a string, a list (of any), or a structure or
// map (by name). Numbers and truth values are json.Number, bool or, where the
// protocol has nothing else, strings.

// check returns what breaks the rules in a value of a shape.
func (m *model) check(at string, name string, value any) []string {
	s := m.Shapes[name]
	switch s.Type {
	case "structure":
		return m.checkStructure(at, s, value)
	case "list":
		list, ok := value.([]any)
		if !ok {
			return []string{fmt.Sprintf("%s is %T, not a list", at, value)}
		}
		bad := s.bounds(at, "elements", float64(len(list)))
		for i, element := range list {
			bad = append(bad, m.check(fmt.Sprintf("%s[%d]", at, i), s.Member.Shape, element)...)
		}
		return bad
	case "map":
		fields, ok := value.(map[string]any)
		if !ok {
			return []string{fmt.Sprintf("%s is %T, not a map", at, value)}
		}
		var bad []string
		for key, element := range fields {
			bad = append(bad, m.check(at+" key", s.Key.Shape, key)...)
			bad = append(bad, m.check(at+"."+key, s.Value.Shape, element)...)
		}
		return bad
	}
	return s.checkScalar(at, value)
}

func (m *model) checkStructure(at string, s *shape, value any) (bad []string) {
	fields, ok := value.(map[string]any)
	if !ok {
		return []string{fmt.Sprintf("%s is %T, not a structure", at, value)}
	}
	for _, name := range s.Required {
		if _, ok := fields[name]; !ok {
			bad = append(bad, fmt.Sprintf("%s.%s is required", at, name))
		}
	}
	for name, element := range fields {
		member, ok := s.Members[name]
		if !ok {
			bad = append(bad, fmt.Sprintf("%s.%s is not in the model", at, name))
			continue
		}
		bad = append(bad, m.check(at+"."+name, member.Shape, element)...)
	}
	return bad
}

// checkScalar checks a string, a number, a truth value or a time.
func (s *shape) checkScalar(at string, value any) []string {
	if s.Type == "timestamp" || s.Type == "blob" { // a blob's text would be half a megabyte of numbers
		return nil
	}
	text := fmt.Sprint(value)
	switch s.Type {
	case "integer", "long":
		n, err := strconv.ParseInt(text, 10, 64)
		if err != nil {
			return []string{fmt.Sprintf("%s is %q, not a whole number", at, text)}
		}
		return s.bounds(at, "value", float64(n))
	case "float", "double":
		n, err := strconv.ParseFloat(text, 64)
		if err != nil {
			return []string{fmt.Sprintf("%s is %q, not a number", at, text)}
		}
		return s.bounds(at, "value", n)
	case "boolean":
		if text != "true" && text != "false" {
			return []string{fmt.Sprintf("%s is %q, neither true nor false", at, text)}
		}
		return nil
	}
	if _, number := value.(json.Number); number {
		return []string{fmt.Sprintf("%s is a number, not a string", at)}
	}
	bad := s.bounds(at, "characters", float64(utf8.RuneCountInString(text)))
	if len(s.Enum) > 0 && !slices.Contains(s.Enum, text) {
		bad = append(bad, fmt.Sprintf("%s is %q, not one of %q", at, text, s.Enum))
	}
	if s.expression != nil && !s.expression.MatchString(text) {
		bad = append(bad, fmt.Sprintf("%s is %q, which does not match %s", at, text, s.Pattern))
	}
	return bad
}

func (s *shape) bounds(at, what string, n float64) []string {
	switch {
	case s.Min != nil && n < *s.Min:
		return []string{fmt.Sprintf("%s: %s %v, at least %v", at, what, n, *s.Min)}
	case s.Max != nil && n > *s.Max:
		return []string{fmt.Sprintf("%s: %s %v, at most %v", at, what, n, *s.Max)}
	}
	return nil
}
