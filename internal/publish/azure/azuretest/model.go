package azuretest

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os/exec"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"sync"
	"testing"
)

const module = "github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/compute/armcompute/v7"

// Model is what the source of the SDK's module says of requests: which fields
// have to be there, which must not be, which values there are, and which fields
// Microsoft's own examples set.
type Model struct {
	// required and readOnly are fields, "Disk.Location".
	required, readOnly map[string]bool
	// values are those of enumerations, by type.
	values map[string][]string
	// examples are the fields that the examples of an operation set:
	// "DisksClient.BeginCreateOrUpdate", "Properties.CreationData.CreateOption".
	examples map[string]map[string]bool
}

var loadModel = sync.OnceValues(func() (*Model, error) {
	out, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", module).Output()
	if err != nil {
		return nil, fmt.Errorf("find the SDK's module: %w", err)
	}
	m := &Model{map[string]bool{}, map[string]bool{}, map[string][]string{}, map[string]map[string]bool{}}
	dir := strings.TrimSpace(string(out))
	files, err := filepath.Glob(filepath.Join(dir, "*_client_example_test.go"))
	if err != nil {
		return nil, err
	}
	for _, path := range append(files, filepath.Join(dir, "models.go"), filepath.Join(dir, "constants.go")) {
		// Only those that the publisher needs: the rest is large.
		name := filepath.Base(path)
		if strings.HasSuffix(name, "_test.go") && !strings.HasPrefix(name, "galler") && !strings.HasPrefix(name, "disks_") && !strings.HasPrefix(name, "images_") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ParseComments)
		if err != nil {
			return nil, err
		}
		m.read(file)
	}
	return m, nil
})

// LoadModel reads the SDK's source where the go command keeps it.
func LoadModel(t testing.TB) *Model {
	t.Helper()
	m, err := loadModel()
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func (m *Model) read(file *ast.File) {
	for _, declaration := range file.Decls {
		switch d := declaration.(type) {
		case *ast.FuncDecl:
			m.readExample(d)
		case *ast.GenDecl:
			for _, spec := range d.Specs {
				switch s := spec.(type) {
				case *ast.TypeSpec:
					m.readType(s)
				case *ast.ValueSpec:
					m.readConstant(s)
				}
			}
		}
	}
}

func (m *Model) readType(s *ast.TypeSpec) {
	fields, ok := s.Type.(*ast.StructType)
	if !ok {
		return
	}
	for _, field := range fields.Fields.List {
		for _, name := range field.Names {
			text := field.Doc.Text()
			m.required[s.Name.Name+"."+name.Name] = strings.HasPrefix(text, "REQUIRED")
			m.readOnly[s.Name.Name+"."+name.Name] = strings.HasPrefix(text, "READ-ONLY")
		}
	}
}

func (m *Model) readConstant(s *ast.ValueSpec) {
	kind, ok := s.Type.(*ast.Ident)
	if !ok || len(s.Values) != 1 {
		return
	}
	if literal, ok := s.Values[0].(*ast.BasicLit); ok && literal.Kind == token.STRING {
		if value, err := strconv.Unquote(literal.Value); err == nil {
			m.values[kind.Name] = append(m.values[kind.Name], value)
		}
	}
}

// readExample takes the bodies that an example sends: ExampleDisksClient_BeginCreateOrUpdate_....
func (m *Model) readExample(d *ast.FuncDecl) {
	parts := strings.SplitN(strings.TrimPrefix(d.Name.Name, "Example"), "_", 3)
	if len(parts) < 2 || !strings.HasPrefix(d.Name.Name, "Example") {
		return
	}
	operation := parts[0] + "." + parts[1]
	ast.Inspect(d.Body, func(n ast.Node) bool {
		call, ok := n.(*ast.CallExpr)
		if !ok {
			return true
		}
		selector, ok := call.Fun.(*ast.SelectorExpr)
		if !ok || selector.Sel.Name != parts[1] {
			return true
		}
		for _, argument := range call.Args {
			if body, ok := argument.(*ast.CompositeLit); ok {
				if m.examples[operation] == nil {
					m.examples[operation] = map[string]bool{}
				}
				collect(body, "", m.examples[operation])
			}
		}
		return true
	})
}

// collect adds the paths of all fields that a literal sets.
func collect(node ast.Expr, path string, into map[string]bool) {
	switch n := node.(type) {
	case *ast.UnaryExpr:
		collect(n.X, path, into)
	case *ast.CompositeLit:
		for _, element := range n.Elts {
			pair, ok := element.(*ast.KeyValueExpr)
			if !ok {
				collect(element, path, into) // an item of a list
				continue
			}
			name, ok := pair.Key.(*ast.Ident)
			if !ok {
				continue // a map's key
			}
			at := strings.TrimPrefix(path+"."+name.Name, ".")
			into[at] = true
			collect(pair.Value, at, into)
		}
	}
}

// Check says what is wrong with the body of an operation: fields that lack or
// that only answers have, values that are none, and fields that no example of
// the operation sets. The last may be fine: allowed names them.
func (m *Model) Check(operation string, body any, allowed map[string]string) (wrong []string) {
	m.walk(reflect.ValueOf(body), "", func(path, problem string) {
		wrong = append(wrong, operation+": "+path+" "+problem)
	}, func(path string) {
		if !m.examples[operation][path] && allowed[path] == "" {
			wrong = append(wrong, operation+": "+path+" is set by none of Microsoft's examples")
		}
	})
	return wrong
}

func (m *Model) walk(v reflect.Value, path string, report func(path, problem string), set func(path string)) {
	switch v.Kind() {
	case reflect.Pointer:
		if !v.IsNil() {
			m.walk(v.Elem(), path, report, set)
		}
	case reflect.Slice:
		for i := range v.Len() {
			m.walk(v.Index(i), path, report, set)
		}
	case reflect.String:
		if known := m.values[v.Type().Name()]; known != nil && !contains(known, v.String()) {
			report(path, fmt.Sprintf("is %q, not one of %s", v.String(), strings.Join(known, ", ")))
		}
	case reflect.Struct:
		if !strings.HasSuffix(v.Type().PkgPath(), "/armcompute/v7") {
			return
		}
		for i := range v.NumField() {
			name := v.Type().Field(i).Name
			key, at := v.Type().Name()+"."+name, strings.TrimPrefix(path+"."+name, ".")
			field := v.Field(i)
			switch {
			case m.required[key] && field.IsZero():
				report(at, "is required and not there")
			case m.readOnly[key] && !field.IsZero():
				report(at, "is read-only and there")
			case !field.IsZero():
				set(at)
				m.walk(field, at, report, set)
			}
		}
	}
}

func contains(list []string, one string) bool {
	for _, item := range list {
		if item == one {
			return true
		}
	}
	return false
}
