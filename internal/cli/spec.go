package cli

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"nodesmith.dev/nodesmith/api/v1alpha1"
	"nodesmith.dev/nodesmith/internal/fault"
	"nodesmith.dev/nodesmith/internal/pipeline"
)

// specFlags are the flags that name a NodeImage.
type specFlags struct {
	file string
	set  []string
}

func (f *specFlags) register(c *cobra.Command) {
	c.Flags().StringVarP(&f.file, "file", "f", "", "the NodeImage `FILE` (- reads standard input)")
	c.Flags().StringArrayVar(&f.set, "set", nil, "override a field: `PATH=VALUE`, e.g. spec.kubernetes.version=v1.34.1 (repeatable)")
}

// spec is a valid NodeImage and where it came from.
type spec struct {
	image *v1alpha1.NodeImage
	dir   string // of the file
	root  *os.Root
}

// Close closes the build context.
func (s *spec) Close() error { return s.root.Close() }

// context is where the spec's files[].source are: the folder of the file, and
// nothing outside it.
func (s *spec) context() fs.FS { return s.root.FS() }

// read reads and validates the NodeImage.
func (f *specFlags) read(stdin io.Reader) (_ *spec, err error) {
	if f.file == "" {
		return nil, fault.New(fault.Usage, "name the NodeImage file with -f FILE", "no NodeImage was given")
	}
	var data []byte
	dir, name := filepath.Dir(f.file), f.file
	if f.file == "-" {
		dir, name = ".", "standard input"
		data, err = io.ReadAll(stdin)
	} else {
		data, err = os.ReadFile(f.file)
	}
	if err != nil {
		return nil, fault.New(fault.BadSpec, "", "reading the NodeImage: %w", err)
	}
	document, err := v1alpha1.Load(name, data, f.set)
	if err != nil {
		return nil, err
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("build context: %w", err)
	}
	image, err := document.Validate(pipeline.Known(), root.FS())
	if err != nil {
		return nil, errors.Join(err, root.Close())
	}
	return &spec{image: image, dir: dir, root: root}, nil
}

func validateCommand(s streams) *cobra.Command {
	var flags specFlags
	c := &cobra.Command{
		Use: "validate -f FILE", Short: "Check a NodeImage file", Args: noArguments,
		Long: "Check a NodeImage file and print everything that is wrong with it, with line and column.",
		RunE: func(c *cobra.Command, _ []string) error {
			spec, err := flags.read(c.InOrStdin())
			if err != nil {
				return err
			}
			defer closing(&err, spec)
			_, err = fmt.Fprintf(s.out, "%s is a valid NodeImage: %s %s, Kubernetes %s, for %v\n", flags.file,
				spec.image.Spec.OS.Distro, spec.image.Spec.OS.Version, spec.image.Spec.Kubernetes.Version, spec.image.Spec.Infrastructures)
			return err
		},
	}
	flags.register(c)
	return c
}
