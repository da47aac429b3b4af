// Package cli is nodesmith's command line: flags in, calls of the pipeline,
// results on stdout, everything else on stderr, an exit code for each kind of
// error (internal/fault).
package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime/debug"
	"strings"
	"syscall"

	"github.com/sirupsen/logrus"
	"github.com/spf13/cobra"

	"nodesmith.dev/nodesmith/internal/fault"
	"nodesmith.dev/nodesmith/internal/rootless"
	"nodesmith.dev/nodesmith/internal/scratch"
)

// streams are where a command writes.
type streams struct{ out, err io.Writer }

// memoryGoal is what the garbage collector keeps the process to if it can (bytes):
// the indices of two archives are 220 MB while they are solved, of which it would let
// 450 MB become before it looks.
const memoryGoal = 320 << 20

// Main runs one command and returns the process's exit code. Ctrl-C and
// SIGTERM cancel it, as does a terminal that goes away; a second one ends the
// process at once.
func Main(args []string, out, errOut io.Writer) int {
	if code, is := rootless.Child(errOut); is {
		return code
	}
	if os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(memoryGoal)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	context.AfterFunc(ctx, stop)
	// Where no folder can be made, the command that needs one says so.
	if end, err := scratch.Own(); err == nil {
		defer func() { _ = end() }() // what it can't remove goes with the next one
	}
	// BuildKit and containerd log what matters to a daemon's operator; what
	// fails comes back as an error.
	logrus.SetOutput(io.Discard)
	err := run(ctx, args, streams{out, errOut})
	if err == nil {
		return 0
	}
	if code, is := rootless.ExitCode(err); is {
		return code
	}
	err = interruption(ctx, err)
	if told := (toldError{}); !errors.As(err, &told) {
		printError(errOut, err)
	}
	return fault.KindOf(err).ExitCode()
}

// interruption is what an error is where the user ended the command.
func interruption(ctx context.Context, err error) error {
	if err == nil || ctx.Err() == nil || fault.KindOf(err) == fault.Interrupted {
		return err
	}
	return fault.New(fault.Interrupted, "run the same command again: it goes on where it stopped", "%w", err)
}

func run(ctx context.Context, args []string, s streams) error {
	root := &cobra.Command{
		Use:   "nodesmith",
		Short: "Build, prove and publish Kubernetes node VM images",
		Long: `nodesmith turns one declarative file into a bootable Kubernetes node image:
an operating system, one Kubernetes version and your own customizations.`,
		SilenceErrors: true, SilenceUsage: true,
	}
	root.SetArgs(args)
	root.SetOut(s.out)
	root.SetErr(s.err)
	root.SetFlagErrorFunc(func(c *cobra.Command, err error) error {
		return fault.New(fault.Usage, fmt.Sprintf("%s --help lists the flags", c.CommandPath()), "%w", err)
	})
	root.AddCommand(buildCommand(s), planCommand(s), lockCommand(s), validateCommand(s), schemaCommand(s), explainCommand(s),
		verifyCommand(s), publishCommand(s), contractCommand(s), diffCommand(s), convertCommand(s), inspectCommand(s),
		imagesCommand(s), exportCommand(s), pushCommand(s), pullCommand(s), tagCommand(s), removeCommand(s), pruneCommand(s), configCommand(s),
		versionCommand(s), errorsCommand(s), manCommand(s))
	err := root.ExecuteContext(ctx)
	if err != nil && strings.HasPrefix(err.Error(), "unknown command") {
		return fault.New(fault.Usage, "nodesmith --help lists the commands", "%w", err)
	}
	return err
}

// printError writes the error, then what to do about it.
func printError(w io.Writer, err error) {
	fmt.Fprintf(w, "nodesmith: %v\n", err)
	if remedy := fault.RemedyOf(err); remedy != "" {
		fmt.Fprintf(w, "  -> %s\n", remedy)
	}
}

// closing joins the error of closing something to that of what was done with it.
func closing(err *error, closer io.Closer) { *err = errors.Join(*err, closer.Close()) }

// makeFolder makes the folder that -o names, or says before any work that files can't
// be made in it.
func makeFolder(path string) error {
	err := os.MkdirAll(path, 0o755)
	if err == nil {
		err = writable(path)
	}
	if err == nil {
		return nil
	}
	if err = fault.NoSpaceOr(err); fault.KindOf(err) == fault.NoSpace {
		return err
	}
	return fault.New(fault.Usage, "name a folder that can be written to", "-o %s: %w", path, err)
}
