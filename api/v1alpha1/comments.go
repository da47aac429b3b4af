package v1alpha1

import (
	"embed"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"strings"
)

// sources are the files whose comments describe the fields.
//
//go:embed nodeimage.go sources.go containerimages.go directories.go scripts.go runtime.go kubelet.go proxy.go disk.go vsphere.go publish.go publish_vsphere.go publish_aws.go publish_azure.go
var sources embed.FS

// comments returns the comments of the types (File) and of their fields
// (File.Mode) in this package's sources, each on one line.
func comments() (map[string]string, error) {
	files, err := sources.ReadDir(".")
	if err != nil {
		return nil, fmt.Errorf("comments of fields: %w", err)
	}
	texts := map[string]string{}
	for _, file := range files {
		text, err := sources.ReadFile(file.Name())
		if err != nil {
			return nil, fmt.Errorf("comments of fields: %w", err)
		}
		parsed, err := parser.ParseFile(token.NewFileSet(), file.Name(), text, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			return nil, fmt.Errorf("comments of fields: %w", err)
		}
		for _, decl := range parsed.Decls {
			if group, ok := decl.(*ast.GenDecl); ok && group.Tok == token.TYPE {
				typeComments(group, texts)
			}
		}
	}
	return texts, nil
}

// typeComments adds the comments of one type declaration to texts.
func typeComments(group *ast.GenDecl, texts map[string]string) {
	spec := group.Specs[0].(*ast.TypeSpec)
	first, _, _ := strings.Cut(group.Doc.Text(), "\n\n") // what follows is for programmers
	texts[spec.Name.Name] = oneLine(first)
	fields, ok := spec.Type.(*ast.StructType)
	if !ok {
		return
	}
	for _, field := range fields.Fields.List {
		for _, name := range field.Names {
			texts[spec.Name.Name+"."+name.Name] = oneLine(field.Doc.Text())
		}
	}
}

func oneLine(text string) string { return strings.Join(strings.Fields(text), " ") }
