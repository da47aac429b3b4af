package cli

import (
	"github.com/spf13/cobra"

	"nodesmith.dev/nodesmith/api/v1alpha1"
	"nodesmith.dev/nodesmith/examples"
	"nodesmith.dev/nodesmith/internal/pipeline"
)

// reference is the documentation of the NodeImage of this nodesmith.
func reference() (*v1alpha1.Field, error) {
	return v1alpha1.Reference(pipeline.Known(), examples.Full)
}

func schemaCommand(s streams) *cobra.Command {
	return &cobra.Command{
		Use: "schema", Short: "Print the JSON Schema of a NodeImage", Args: noArguments,
		Long: `Print the JSON Schema (draft 2020-12) of a NodeImage, for editors and for checks
without nodesmith. nodesmith validate checks more: what depends on several fields
or on files, with line and column.`,
		Example: "  nodesmith schema > nodeimage.schema.json",
		RunE: func(*cobra.Command, []string) error {
			image, err := reference()
			if err != nil {
				return err
			}
			data, err := image.Schema()
			if err != nil {
				return err
			}
			_, err = s.out.Write(data)
			return err
		},
	}
}
