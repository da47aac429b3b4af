package cli

import (
	"strings"

	"github.com/spf13/cobra"

	"nodesmith.dev/nodesmith/internal/fault"
)

// What commands take besides flags. Each refuses the rest as wrong usage, with what to
// do, which cobra's own do not.

// noArguments refuses arguments that are not flags.
func noArguments(c *cobra.Command, args []string) error {
	if len(args) > 0 {
		return wrongArguments(c, "unexpected argument %q", args[0])
	}
	return nil
}

// oneArgument takes one argument.
func oneArgument(name string) cobra.PositionalArgs {
	return func(c *cobra.Command, args []string) error {
		if len(args) != 1 {
			return wrongArguments(c, "give exactly one %s, not %d", name, len(args))
		}
		return nil
	}
}

// exactly takes one argument for each name.
func exactly(names ...string) cobra.PositionalArgs {
	return func(c *cobra.Command, args []string) error {
		if len(args) != len(names) {
			return wrongArguments(c, "give %s, not %d arguments", strings.Join(names, " and "), len(args))
		}
		return nil
	}
}

// atMostOne takes one argument or none.
func atMostOne(name string) cobra.PositionalArgs {
	return func(c *cobra.Command, args []string) error {
		if len(args) > 1 {
			return wrongArguments(c, "give at most one %s, not %d", name, len(args))
		}
		return nil
	}
}

// atLeastOne takes one argument or more.
func atLeastOne(name string) cobra.PositionalArgs {
	return func(c *cobra.Command, args []string) error {
		if len(args) == 0 {
			return wrongArguments(c, "give at least one %s", name)
		}
		return nil
	}
}

func wrongArguments(c *cobra.Command, format string, args ...any) error {
	return fault.New(fault.Usage, c.CommandPath()+" --help shows how it is called", format, args...)
}
