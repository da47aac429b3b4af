package v1alpha1

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"text/template"
	grammar "text/template/parse"
	"unicode/utf8"

	"nodesmith.dev/nodesmith/internal/lazyregexp"
)

// Values are what templates of files name, {{.Image}}. The comment of
// File.Template lists them for users.
type Values struct {
	// Image is metadata.name.
	Image string
	// OSDistro, OSVersion and OSCodename are debian, 12 and bookworm.
	OSDistro, OSVersion, OSCodename string
	// KubernetesVersion and ContainerdVersion have a leading v.
	KubernetesVersion, ContainerdVersion string
	// PauseImage is the sandbox image that kubeadm asks for.
	PauseImage     string
	Infrastructure string
	Architecture   string
}

// sample returns the values of a spec on one of its infrastructures, with
// something like them for those that only a lock knows.
func (spec *Spec) sample(infrastructure string) Values {
	return Values{
		Image: "node", OSDistro: spec.OS.Distro, OSVersion: spec.OS.Version, OSCodename: "bookworm",
		KubernetesVersion: spec.Kubernetes.Version, ContainerdVersion: "v2.1.4",
		PauseImage: "registry.k8s.io/pause:3.10.1", Infrastructure: infrastructure, Architecture: spec.Architecture,
	}
}

// maxTemplate bounds what is read of a template's file.
const maxTemplate = 1 << 20

// Render returns the text of a file that is a template.
func (f File) Render(values Values, buildContext fs.FS) (string, error) {
	text, err := f.text(buildContext)
	if err != nil {
		return "", err
	}
	return render(text, values)
}

// render returns the text of a template.
func render(text string, values Values) (string, error) { return renderValues(text, values) }

// renderValues returns the text of a template that names fields of values, a
// struct of strings.
func renderValues(text string, values any) (string, error) {
	parsed, bad := parseTemplate(text, fieldsOf(values))
	if bad != nil {
		return "", bad
	}
	var out strings.Builder
	if err := parsed.Execute(&out, values); err != nil {
		return "", templateError(err)
	}
	return out.String(), nil
}

// text returns the file's content, from the build context if it has a source.
func (f File) text(buildContext fs.FS) (string, error) {
	if f.Source == "" {
		return *f.Content, nil
	}
	text, err := readText(buildContext, f.Source, maxTemplate)
	if err == nil && !utf8.ValidString(text) {
		err = errors.New("is not UTF-8 text")
	}
	return text, err
}

// readText returns a file of the build context that has at most limit bytes.
func readText(buildContext fs.FS, source string, limit int64) (string, error) {
	file, err := buildContext.Open(source)
	if err != nil {
		return "", fmt.Errorf("can't be read from the build context: %w", err)
	}
	defer file.Close() // only read from
	text, err := io.ReadAll(io.LimitReader(file, limit+1))
	if err != nil {
		return "", fmt.Errorf("can't be read from the build context: %w", err)
	}
	if int64(len(text)) > limit {
		return "", fmt.Errorf("is larger than %d bytes", limit)
	}
	return string(text), nil
}

// template checks a file that is a template: its grammar, the names in it and
// that it renders on each infrastructure.
func (c *checker) template(at string, file File, spec *Spec, buildContext fs.FS) {
	field := at + ".content"
	if file.Source != "" {
		if field = at + ".source"; buildContext == nil {
			return
		}
	}
	for _, infrastructure := range append([]string{""}, spec.Infrastructures...) {
		_, err := file.Render(spec.sample(infrastructure), buildContext)
		if err == nil {
			continue
		}
		bad, ok := errors.AsType[*FieldError](err)
		switch {
		case !ok:
			bad = &FieldError{Found: quote(file.Source), Problem: err.Error()}
		case file.Source != "":
			bad.Found = fmt.Sprintf("%s:%d: %s", file.Source, bad.lineOfText, bad.Found)
			bad.lineOfText = 0
		}
		bad.Field = field
		c.add(*bad)
		return
	}
}

// parseTemplate reads a template and holds every name in it against those that
// it may name, so that one in a branch that is not taken is found as well.
func parseTemplate(text string, allowed []string) (*template.Template, *FieldError) {
	parsed, err := template.New("text").Option("missingkey=error").Parse(text)
	if err != nil {
		return nil, templateError(err)
	}
	for _, t := range parsed.Templates() {
		if bad := unknownValue(t.Tree, t.Root, allowed); bad != nil {
			return nil, bad
		}
	}
	return parsed, nil
}

// unknownValue finds the first name below a node of a template that is not
// allowed. What they name are strings and have no fields themselves.
func unknownValue(tree *grammar.Tree, node grammar.Node, allowed []string) *FieldError {
	var names []string
	switch n := node.(type) {
	case *grammar.FieldNode:
		names = n.Ident
	case *grammar.VariableNode:
		names = n.Ident[1:] // the first is the variable's own
	case *grammar.ChainNode:
		names = n.Field
	}
	if len(names) > 1 || len(names) == 1 && !slices.Contains(allowed, names[0]) {
		at, _ := tree.ErrorContext(node)
		bad := &FieldError{Found: "{{." + strings.Join(names, ".") + "}}", Problem: "is not a value of templates", Allowed: allowed}
		bad.Suggestion = nearest(names[0], bad.Allowed)
		bad.lineOfText = lineOf(at + ":")
		return bad
	}
	for _, below := range children(node) {
		if bad := unknownValue(tree, below, allowed); bad != nil {
			return bad
		}
	}
	return nil
}

// fieldsOf are the names of a struct's fields.
func fieldsOf(values any) []string {
	var names []string
	for _, field := range reflect.VisibleFields(reflect.TypeOf(values)) {
		names = append(names, field.Name)
	}
	return names
}

// children returns what stands below a node of a template.
func children(node grammar.Node) []grammar.Node {
	var below []grammar.Node
	switch n := node.(type) {
	case *grammar.ListNode:
		if n != nil {
			below = n.Nodes
		}
	case *grammar.ActionNode:
		below = append(below, n.Pipe)
	case *grammar.IfNode:
		below = append(below, n.Pipe, n.List, n.ElseList)
	case *grammar.RangeNode:
		below = append(below, n.Pipe, n.List, n.ElseList)
	case *grammar.WithNode:
		below = append(below, n.Pipe, n.List, n.ElseList)
	case *grammar.TemplateNode:
		below = append(below, n.Pipe)
	case *grammar.PipeNode:
		if n != nil {
			for _, command := range n.Cmds {
				below = append(below, command)
			}
		}
	case *grammar.CommandNode:
		below = n.Args
	case *grammar.ChainNode:
		below = append(below, n.Node)
	}
	return below
}

// templateMessage matches the messages of package text/template: a name, a
// line, perhaps a column, and for those of rendering what was rendered.
var templateMessage = lazyregexp.New(`^(?:template: )?text:(\d+):(?:\d+:)?(?: executing "text" at)? ?(.*)$`)

// templateError turns an error of package text/template into one with a line.
func templateError(err error) *FieldError {
	bad := &FieldError{Problem: "is not a template: " + err.Error()}
	if at := templateMessage.FindStringSubmatch(err.Error()); at != nil {
		bad.Problem, bad.lineOfText = "is not a template: "+at[2], lineOf(err.Error())
	}
	bad.Found = "the text"
	return bad
}

// lineOf returns the line that a message of text/template begins with, or 0.
func lineOf(message string) int {
	at := templateMessage.FindStringSubmatch(message)
	if at == nil {
		return 0
	}
	line, _ := strconv.Atoi(at[1]) // digits
	return line
}
