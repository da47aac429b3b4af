package cli

import (
	_ "embed"
	"fmt"
	"io"
	"strings"
	"text/template"

	"github.com/spf13/cobra"

	"nodesmith.dev/nodesmith/api/v1alpha1"
)

//go:generate sh -c "go run ../../cmd/nodesmith explain --markdown > ../../docs/spec.md"
//go:generate sh -c "go run ../../cmd/nodesmith explain --kind PublishTarget --markdown > ../../docs/publishtarget.md"

func explainCommand(s streams) *cobra.Command {
	var markdown bool
	var kind kindFlag
	c := &cobra.Command{
		Use: "explain [FIELD]", Short: "Say what the fields of a NodeImage or PublishTarget mean",
		Long: `Say what a field of a file means, what may stand there, its default and an
example; without an argument, for the fields at the top.`,
		Example: "  nodesmith explain spec.disk\n  nodesmith explain spec.files.mode\n  nodesmith explain --kind PublishTarget spec.vsphere",
		Args:    atMostOne("FIELD"),
		RunE: func(_ *cobra.Command, args []string) error {
			whole, err := kind.reference()
			if err != nil {
				return err
			}
			field, err := whole.Find(strings.Join(args, ""))
			if err != nil {
				return err
			}
			if markdown {
				return writeMarkdown(s.out, field)
			}
			return explain(s.out, field)
		},
	}
	kind.register(c)
	c.Flags().BoolVar(&markdown, "markdown", false, "print the field and all below it as a Markdown page")
	return c
}

// explain writes what a field means and, in short, the fields right below it.
func explain(w io.Writer, f *v1alpha1.Field) error {
	var b strings.Builder
	if f.Path == "" {
		fmt.Fprintf(&b, "%s\n\n", f.Kind())
	} else {
		fmt.Fprintf(&b, "%s (%s)\n\n", f.Path, traits(f))
	}
	paragraph(&b, "  ", f.Text)
	if len(f.Allowed) > 0 {
		paragraph(&b, "  ", "Allowed: "+strings.Join(f.Allowed, ", "))
	}
	if f.Form != "" {
		paragraph(&b, "  ", "Form: "+f.Form)
	}
	if len(f.Fields) > 0 {
		b.WriteString("\nFields:\n")
		for _, below := range f.Fields {
			fmt.Fprintf(&b, "  %s (%s)\n", below.Name, traits(below))
			paragraph(&b, "      ", below.Text)
		}
	}
	if f.Example != "" {
		b.WriteString("\nExample:\n")
		for line := range strings.Lines(f.Example) {
			b.WriteString("  " + strings.TrimSuffix(line, "\n") + "\n")
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// traits are a field's type, and whether it has to be given or its default.
func traits(f *v1alpha1.Field) string {
	switch {
	case f.Required:
		return f.Type + ", required"
	case f.Default != "":
		return f.Type + ", default " + f.Default
	default:
		return f.Type
	}
}

// lineWidth is how wide explain's text gets.
const lineWidth = 80

// paragraph writes a text in lines that begin with indent.
func paragraph(b *strings.Builder, indent, text string) {
	width := 0
	for _, word := range strings.Fields(text) {
		if width > 0 && width+1+len(word) <= lineWidth {
			b.WriteString(" " + word)
			width += 1 + len(word)
			continue
		}
		if width > 0 {
			b.WriteByte('\n')
		}
		b.WriteString(indent + word)
		width = len(indent) + len(word)
	}
	b.WriteByte('\n')
}

// page is the form of docs/spec.md.
//
//go:embed assets/spec.md.tmpl
var page string

func writeMarkdown(w io.Writer, f *v1alpha1.Field) error {
	t, err := template.New("spec.md").Funcs(template.FuncMap{"traits": traits, "hasPrefix": strings.HasPrefix}).Parse(page)
	if err != nil {
		return err
	}
	return t.Execute(w, f)
}
