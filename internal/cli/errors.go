package cli

import (
	"fmt"
	"io"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"nodesmith.dev/nodesmith/internal/fault/manual"
)

func errorsCommand(s streams) *cobra.Command {
	var markdown bool
	c := &cobra.Command{
		Use: "errors", Short: "List the exit codes, and what to do about each", Args: noArguments,
		Example: "  nodesmith errors",
		RunE: func(*cobra.Command, []string) error {
			if markdown {
				_, err := io.WriteString(s.out, manual.Markdown())
				return err
			}
			t := tabwriter.NewWriter(s.out, 0, 0, 2, ' ', 0)
			for _, k := range manual.Kinds() {
				fmt.Fprintf(t, "%d\t%s\t%s\n", k.ExitCode(), k, manual.Of(k).Means)
			}
			return t.Flush()
		},
	}
	c.Flags().BoolVar(&markdown, "markdown", false, "print the page docs/errors.md")
	return c
}
