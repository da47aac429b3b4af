package awsmodel

import (
	"encoding/xml"
	"fmt"
	"net/http"
	"net/url"
	"strings"
)

// match returns the operation that a request asks for, and the values in its path
// by their names. Several may have the method and the path: then that one counts
// of which most is there that it needs in the query and in headers.
func (m *model) match(r *http.Request) (name string, values map[string]string) {
	best := 0
	for candidate, op := range m.Operations {
		pattern, wanted, _ := strings.Cut(op.HTTP.RequestURI, "?")
		found, ok := matchPath(pattern, r.URL.Path)
		if op.HTTP.Method != r.Method || !ok {
			continue
		}
		if score, ok := m.score(op, wanted, r); ok && (name == "" || score > best) {
			name, values, best = candidate, found, score
		}
	}
	return name, values
}

// score counts what is there of what an operation needs; ok is false if the query
// lacks a word of the operation's address, such as uploads.
func (m *model) score(op operation, wanted string, r *http.Request) (score int, ok bool) {
	query := r.URL.Query()
	words, _ := url.ParseQuery(wanted) // AWS's own
	for word := range words {
		if !query.Has(word) {
			return 0, false
		}
		score++
	}
	if op.Input == nil {
		return score, true
	}
	in := m.Shapes[op.Input.Shape]
	for _, member := range in.Required {
		there := true
		switch ref := in.Members[member]; ref.Location {
		case "querystring":
			there = query.Has(ref.LocationName)
		case "header":
			there = r.Header.Get(ref.LocationName) != ""
		default:
			continue
		}
		if there {
			score++
		} else {
			score -= 10
		}
	}
	return score, true
}

// matchPath holds a path against a pattern with {names}; {name+} takes the rest.
func matchPath(pattern, path string) (map[string]string, bool) {
	want, got := strings.Split(pattern, "/"), strings.Split(path, "/")
	values := map[string]string{}
	for i := range want {
		name, isName := strings.CutPrefix(want[i], "{")
		name, isRest := strings.CutSuffix(strings.TrimSuffix(name, "}"), "+")
		switch {
		case i >= len(got):
			return nil, false
		case isName && isRest:
			values[name] = strings.Join(got[i:], "/")
			return values, values[name] != ""
		case isName && got[i] != "":
			values[name] = got[i]
		case want[i] != got[i]:
			return nil, false
		}
	}
	return values, len(want) == len(got)
}

// decodeREST takes the input's members from the path, the query, the headers and
// the body.
func (m *model) decodeREST(r *http.Request, body []byte) (string, map[string]any, error) {
	name, path := m.match(r)
	if name == "" {
		return "", nil, fmt.Errorf("%s %s is no operation", r.Method, r.URL.Path)
	}
	in := m.Shapes[m.Operations[name].Input.Shape]
	input, err := m.decodeBody(in, body)
	if err != nil {
		return name, nil, err
	}
	for member, ref := range in.Members {
		switch ref.Location {
		case "uri":
			input[member] = path[ref.LocationName]
		case "querystring":
			if values, ok := r.URL.Query()[ref.LocationName]; ok {
				input[member] = values[0]
			}
		case "header":
			if value := r.Header.Get(ref.LocationName); value != "" {
				input[member] = value
			}
		}
	}
	return name, input, nil
}

// decodeBody returns the members that the body has: one that is all of it, or
// those of a JSON document.
func (m *model) decodeBody(in *shape, body []byte) (map[string]any, error) {
	if in.Payload == "" {
		if m.Metadata.Protocol == "rest-xml" {
			return map[string]any{}, nil
		}
		return decodeJSON(body)
	}
	payload := in.Members[in.Payload].Shape
	if m.Shapes[payload].Type != "structure" {
		return map[string]any{in.Payload: body}, nil
	}
	if len(body) == 0 {
		return map[string]any{}, nil
	}
	var root node
	if err := xml.Unmarshal(body, &root); err != nil {
		return nil, err
	}
	return map[string]any{in.Payload: m.decodeXML(payload, root)}, nil
}

// node is an element of an XML document.
type node struct {
	XMLName  xml.Name
	Text     string `xml:",chardata"`
	Elements []node `xml:",any"`
}

// decodeXML returns what an element says as a value of a shape. Elements that the
// shape has not keep their names, which check then refuses.
func (m *model) decodeXML(name string, n node) any {
	s := m.Shapes[name]
	switch s.Type {
	case "structure":
		fields := map[string]any{}
		for _, element := range n.Elements {
			member, ref := s.memberOf(element.XMLName.Local)
			if ref == nil {
				fields[element.XMLName.Local] = element.Text
				continue
			}
			value := m.decodeXML(ref.Shape, element)
			if list := m.Shapes[ref.Shape]; list.Type == "list" && list.Flattened {
				before, _ := fields[member].([]any)
				value = append(before, m.decodeXML(list.Member.Shape, element))
			}
			fields[member] = value
		}
		return fields
	case "list":
		list := []any{}
		for _, element := range n.Elements {
			list = append(list, m.decodeXML(s.Member.Shape, element))
		}
		return list
	}
	return n.Text
}

// memberOf returns the member that has a name in XML; nil for none.
func (s *shape) memberOf(name string) (string, *ref) {
	for member, ref := range s.Members {
		if ref.LocationName == name || ref.LocationName == "" && member == name {
			return member, &ref
		}
	}
	return "", nil
}
