package cli

import (
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"nodesmith.dev/nodesmith/api/v1alpha1"
	"nodesmith.dev/nodesmith/examples"
	"nodesmith.dev/nodesmith/internal/fault"
	"nodesmith.dev/nodesmith/internal/pipeline"
	"nodesmith.dev/nodesmith/internal/report"
)

// references make the documentation of the kinds of file of this nodesmith.
var references = map[string]func() (*v1alpha1.Field, error){
	v1alpha1.Kind: func() (*v1alpha1.Field, error) {
		return v1alpha1.Reference(pipeline.Known(), examples.Full, examples.Publish)
	},
	v1alpha1.PublishKind: func() (*v1alpha1.Field, error) { return v1alpha1.PublishReference(examples.Publish) },
}

// kindFlag is the flag that names a kind of file.
type kindFlag struct{ name string }

func (f *kindFlag) register(c *cobra.Command) {
	c.Flags().StringVar(&f.name, "kind", v1alpha1.Kind, "the kind of file: `"+strings.Join(slices.Sorted(maps.Keys(references)), "|")+"`")
}

func (f *kindFlag) reference() (*v1alpha1.Field, error) {
	of := references[f.name]
	if of == nil {
		return nil, fault.New(fault.Usage, "", "--kind %q is not one of %s", f.name, strings.Join(slices.Sorted(maps.Keys(references)), ", "))
	}
	return of()
}

// schemas are those of the files that nodesmith reads and of the documents that
// it prints, by kind.
func schemas() map[string]func() ([]byte, error) {
	all := map[string]func() ([]byte, error){}
	for kind, reference := range references {
		all[kind] = func() ([]byte, error) {
			whole, err := reference()
			if err != nil {
				return nil, err
			}
			return whole.Schema()
		}
	}
	for _, kind := range report.Kinds() {
		all[kind] = func() ([]byte, error) { return report.Schema(kind) }
	}
	return all
}

func schemaCommand(s streams) *cobra.Command {
	known := schemas()
	kinds := strings.Join(slices.Sorted(maps.Keys(known)), ", ")
	var kind string
	c := &cobra.Command{
		Use: "schema [--kind KIND]", Short: "Print the JSON Schema of a document", Args: noArguments,
		Long: `Print the JSON Schema (draft 2020-12) of a document that nodesmith reads or prints,
for editors and for checks without nodesmith: ` + kinds + `.
nodesmith validate checks more of a NodeImage: what depends on several fields or
on files, with line and column.`,
		Example: "  nodesmith schema > nodeimage.schema.json\n  nodesmith schema --kind BuildReport > build.schema.json",
		RunE: func(*cobra.Command, []string) error {
			schema, ok := known[kind]
			if !ok {
				return fault.New(fault.Usage, "", "--kind %q is not one of %s", kind, kinds)
			}
			data, err := schema()
			if err != nil {
				return err
			}
			_, err = s.out.Write(data)
			return err
		},
	}
	c.Flags().StringVar(&kind, "kind", v1alpha1.Kind, "the document's `KIND`")
	return c
}
