package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/spf13/cobra"

	"nodesmith.dev/nodesmith/api/v1alpha1"
	"nodesmith.dev/nodesmith/internal/fault"
	"nodesmith.dev/nodesmith/internal/pipeline"
)

// specFlags are the flags that name a NodeImage.
type specFlags struct {
	file            string
	set             []string
	infrastructures []string
}

func (f *specFlags) register(c *cobra.Command) {
	c.Flags().StringVarP(&f.file, "file", "f", "", "the NodeImage `FILE` (- reads standard input)")
	c.Flags().StringArrayVar(&f.set, "set", nil, "override a field: `PATH=VALUE`, e.g. spec.kubernetes.version=v1.34.1 (repeatable)")
}

// registerInfrastructure adds the flag that builds for other infrastructures than
// the NodeImage names.
func (f *specFlags) registerInfrastructure(c *cobra.Command) {
	c.Flags().StringSliceVar(&f.infrastructures, "infrastructure", nil, "for which `NAME` (repeatable; default: spec.infrastructures). A lock that has it is kept to")
}

// overrides are what the flags say, as --set says it.
func (f *specFlags) overrides() ([]string, error) {
	if len(f.infrastructures) == 0 {
		return f.set, nil
	}
	names, err := json.Marshal(f.infrastructures) // which is YAML, whatever is in the names
	if err != nil {
		return nil, err
	}
	return append(slices.Clone(f.set), "spec.infrastructures="+string(names)), nil
}

// spec is a valid NodeImage and where it came from.
type spec struct {
	image    *v1alpha1.NodeImage
	document *v1alpha1.Document
	dir      string // of the file
	root     *os.Root
}

// Close closes the build context.
func (s *spec) Close() error { return s.root.Close() }

// context is where the spec's files[].source are: the folder of the file, and
// nothing outside it.
func (s *spec) context() fs.FS { return s.root.FS() }

// read reads and validates the NodeImage.
func (f *specFlags) read(stdin io.Reader) (*spec, error) {
	file, err := f.open(v1alpha1.Kind, stdin)
	if err != nil {
		return nil, err
	}
	set, err := f.overrides()
	if err != nil {
		return nil, err
	}
	return file.nodeImage(set)
}

// specFile is the text of a file and the build context that it stands in.
type specFile struct {
	name, dir string
	data      []byte
	root      *os.Root
}

// open reads the file, which should be of a kind.
func (f *specFlags) open(kind string, stdin io.Reader) (_ *specFile, err error) {
	if f.file == "" {
		return nil, fault.New(fault.Usage, "name the "+kind+" file with -f FILE", "no %s was given", kind)
	}
	file := &specFile{name: f.file, dir: filepath.Dir(f.file)}
	if f.file == "-" {
		file.name, file.dir = "standard input", "."
		file.data, err = io.ReadAll(stdin)
	} else {
		file.data, err = os.ReadFile(f.file)
	}
	if err != nil {
		return nil, fault.New(fault.BadSpec, "name the file with -f FILE", "reading the %s: %w", kind, err)
	}
	if file.root, err = os.OpenRoot(file.dir); err != nil {
		return nil, fmt.Errorf("build context: %w", err)
	}
	return file, nil
}

// nodeImage validates the file as a NodeImage, and takes its context along.
func (f *specFile) nodeImage(set []string) (*spec, error) {
	document, err := v1alpha1.Load(f.name, f.data, set)
	if err != nil {
		return nil, errors.Join(err, f.root.Close())
	}
	image, err := document.Validate(pipeline.Known(), f.root.FS())
	if err != nil {
		return nil, errors.Join(err, f.root.Close())
	}
	return &spec{image: image, document: document, dir: f.dir, root: f.root}, nil
}

func validateCommand(s streams) *cobra.Command {
	var flags specFlags
	c := &cobra.Command{
		Use: "validate -f FILE", Short: "Check a NodeImage or PublishTarget file", Args: noArguments,
		Long: `Check a NodeImage or PublishTarget file and print everything that is wrong with
it, with line and column.`,
		RunE: func(c *cobra.Command, _ []string) (err error) {
			file, err := flags.open(v1alpha1.Kind, c.InOrStdin())
			if err != nil {
				return err
			}
			if v1alpha1.KindOf(file.data) == v1alpha1.PublishKind {
				defer closing(&err, file.root)
				if _, err := v1alpha1.ReadPublishTarget(file.name, file.data, flags.set, file.root.FS()); err != nil {
					return err
				}
				_, err = fmt.Fprintf(s.out, "%s is a valid PublishTarget\n", flags.file)
				return err
			}
			spec, err := file.nodeImage(flags.set)
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
