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

func schemaCommand(s streams) *cobra.Command {
	var kind kindFlag
	c := &cobra.Command{
		Use: "schema", Short: "Print the JSON Schema of a NodeImage or PublishTarget", Args: noArguments,
		Long: `Print the JSON Schema (draft 2020-12) of a kind of file, for editors and for checks
without nodesmith. nodesmith validate checks more: what depends on several fields
or on files, with line and column.`,
		Example: "  nodesmith schema > nodeimage.schema.json\n  nodesmith schema --kind PublishTarget > publishtarget.schema.json",
		RunE: func(*cobra.Command, []string) error {
			whole, err := kind.reference()
			if err != nil {
				return err
			}
			data, err := whole.Schema()
			if err != nil {
				return err
			}
			_, err = s.out.Write(data)
			return err
		},
	}
	kind.register(c)
	return c
}
