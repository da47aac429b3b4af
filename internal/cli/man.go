package cli

import (
	"fmt"
	"path/filepath"

	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"
)

func manCommand(s streams) *cobra.Command {
	var output string
	c := &cobra.Command{
		Use: "man -o DIR", Short: "Write the manual pages", Args: noArguments,
		Long: `Write a manual page for each command: nodesmith.1, nodesmith-build.1 and so on. Their
date is today, or that of SOURCE_DATE_EPOCH.`,
		Example: "  nodesmith man -o /usr/local/share/man/man1",
		RunE: func(c *cobra.Command, _ []string) error {
			if err := makeFolder(output); err != nil {
				return err
			}
			root := c.Root()
			root.InitDefaultCompletionCmd()
			root.DisableAutoGenTag = true // a line with the date, once more
			header := &doc.GenManHeader{Section: "1", Source: "nodesmith " + programVersion(), Manual: "nodesmith"}
			if err := doc.GenManTree(root, header, output); err != nil {
				return fmt.Errorf("manual pages: %w", err)
			}
			_, err := fmt.Fprintln(s.out, filepath.Join(output, "nodesmith.1"))
			return err
		},
	}
	c.Flags().StringVarP(&output, "output", "o", "man", "the `DIR` that receives the pages")
	return c
}
