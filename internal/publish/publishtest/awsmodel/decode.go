package awsmodel

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"unicode"
)

// decode returns the operation that a request asks for and its input by the
// model's names, by the service's protocol.
func (m *model) decode(r *http.Request, body []byte) (operation string, input map[string]any, err error) {
	switch m.Metadata.Protocol {
	case "ec2", "query":
		return m.decodeQuery(body)
	case "json":
		name, found := strings.CutPrefix(r.Header.Get("X-Amz-Target"), m.Metadata.TargetPrefix+".")
		if _, known := m.Operations[name]; !found || !known {
			return "", nil, fmt.Errorf("X-Amz-Target %q names no operation", r.Header.Get("X-Amz-Target"))
		}
		input, err := decodeJSON(body)
		return name, input, err
	case "rest-json", "rest-xml":
		return m.decodeREST(r, body)
	}
	return "", nil, fmt.Errorf("protocol %q is not known", m.Metadata.Protocol)
}

func decodeJSON(body []byte) (map[string]any, error) {
	fields := map[string]any{}
	if len(body) == 0 {
		return fields, nil
	}
	decoder := json.NewDecoder(bytes.NewReader(body))
	decoder.UseNumber()
	err := decoder.Decode(&fields)
	return fields, err
}

func (m *model) decodeQuery(body []byte) (string, map[string]any, error) {
	form, err := url.ParseQuery(string(body))
	if err != nil {
		return "", nil, err
	}
	name := form.Get("Action")
	op, known := m.Operations[name]
	if !known {
		return "", nil, fmt.Errorf("action %q is no operation", name)
	}
	form.Del("Action")
	form.Del("Version")
	q := query{model: m, form: form, used: map[string]bool{}}
	input := map[string]any{}
	if op.Input != nil {
		input, _ = q.value(op.Input.Shape, "").(map[string]any)
		if input == nil {
			input = map[string]any{}
		}
	}
	for key := range form {
		if !q.used[key] {
			err = fmt.Errorf("parameter %s is not in the model", key)
		}
	}
	return name, input, err
}

// query reads a form whose names are paths: TagSpecification.1.Tag.2.Key.
type query struct {
	model *model
	form  url.Values
	used  map[string]bool
}

// value returns what the form says below a path; nil for nothing.
func (q *query) value(name, at string) any {
	s := q.model.Shapes[name]
	switch s.Type {
	case "structure":
		fields := map[string]any{}
		for member, ref := range s.Members {
			if v := q.value(ref.Shape, join(at, queryName(member, ref))); v != nil {
				fields[member] = v
			}
		}
		if len(fields) == 0 {
			return nil
		}
		return fields
	case "list":
		var list []any
		for i := 1; ; i++ {
			v := q.value(s.Member.Shape, join(at, strconv.Itoa(i)))
			if v == nil {
				break
			}
			list = append(list, v)
		}
		if list == nil {
			return nil
		}
		return list
	}
	if !q.form.Has(at) {
		return nil
	}
	q.used[at] = true
	return q.form.Get(at)
}

func join(at, name string) string {
	if at == "" {
		return name
	}
	return at + "." + name
}

// queryName is a member's name in EC2's protocol.
func queryName(member string, ref ref) string {
	switch {
	case ref.QueryName != "":
		return ref.QueryName
	case ref.LocationName != "":
		return string(unicode.ToUpper(rune(ref.LocationName[0]))) + ref.LocationName[1:]
	}
	return member
}
