package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/spf13/cobra"

	"nodesmith.dev/nodesmith/api/v1alpha1"
	"nodesmith.dev/nodesmith/internal/build/tree"
	"nodesmith.dev/nodesmith/internal/fault"
	"nodesmith.dev/nodesmith/internal/format/ova"
	"nodesmith.dev/nodesmith/internal/host"
	"nodesmith.dev/nodesmith/internal/lock"
	"nodesmith.dev/nodesmith/internal/pipeline"
	"nodesmith.dev/nodesmith/internal/progress/display"
)

// building is a pipeline, and the display of what it does.
type building struct {
	*pipeline.Pipeline
	display display.Display
}

// Close ends both. The display outlives the engine, which says how steps end.
func (b *building) Close() error {
	defer b.display.Close()
	return b.Pipeline.Close()
}

// open starts a pipeline for an image on this machine; signing is nil for what
// makes no OVA.
func open(ctx context.Context, image *v1alpha1.NodeImage, progress progressFlag, engine engineFlags, signing *signingFlags, s streams) (*building, error) {
	settings, err := settingsFor(image, engine)
	if err != nil {
		return nil, err
	}
	var signer *ova.Signer
	if signing != nil {
		if signer, err = signing.or(settings.OVASigning).signer(); err != nil {
			return nil, err
		}
	}
	shown, err := progress.show(ctx, s.err, titleOf(image), tree.Stages())
	if err != nil {
		return nil, err
	}
	p, err := pipeline.Open(ctx, pipeline.Options{
		Settings: settings, Progress: shown.Event, OVASigner: signer, Version: programVersion(),
	})
	if err != nil {
		shown.Close()
		return nil, err
	}
	return &building{p, shown}, nil
}

// settingsFor returns the machine's settings for an image.
func settingsFor(image *v1alpha1.NodeImage, engine engineFlags) (host.Settings, error) {
	if proxy := image.Spec.Proxy; proxy.Building() {
		if err := host.SetProxy(proxy.Environment()); err != nil {
			return host.Settings{}, err
		}
	}
	settings, err := host.Read()
	if err != nil {
		return settings, err
	}
	settings.Engine = engine.or(settings.Engine)
	return settings, nil
}

func buildCommand(s streams) *cobra.Command {
	var flags specFlags
	var progress progressFlag
	var engine engineFlags
	var signing signingFlags
	var publishing publishFlags
	var output string
	var locked, asJSON bool
	c := &cobra.Command{
		Use: "build -f FILE", Short: "Build the image files that a NodeImage describes", Args: noArguments,
		Long: `Build the image files that a NodeImage describes.

The lock beside the NodeImage (NAME.lock.yaml), or else the one in the output
folder, decides every input; if neither fits the NodeImage, build locks first.
The output folder receives NAME-INFRASTRUCTURE.FORMAT, for each infrastructure a
manifest of what went in (docs/manifest.md), and the lock it was built from.

Standard output receives the paths of the image files, a line each, or with --json
one document, a BuildReport (nodesmith schema --kind BuildReport). Everything else
goes to standard error.`,
		Example: `  nodesmith build -f examples/debian-12.yaml -o out
  nodesmith build -f examples/debian-12.yaml --json | jq -r '.artifacts[].digest'
  nodesmith build -f examples/debian-12.yaml --set spec.kubernetes.version=v1.34.1
  nodesmith build -f examples/debian-12.yaml --infrastructure vsphere,aws`,
		RunE: progress.told(s, func(c *cobra.Command, _ []string) (err error) {
			start := time.Now()
			spec, err := flags.read(c.InOrStdin())
			if err != nil {
				return err
			}
			defer closing(&err, spec)
			if err := publishing.check(spec); err != nil {
				return err
			}
			l, err := findLock(spec.image, locked, spec.dir, output)
			if err != nil {
				return err
			}
			if err := makeFolder(output); err != nil {
				return err
			}
			p, err := open(c.Context(), spec.image, progress, engine, &signing, s)
			if err != nil {
				return err
			}
			defer closing(&err, p)
			if l == nil {
				if l, err = p.Lock(c.Context(), spec.image, spec.context()); err != nil {
					return err
				}
				// Kept even if the build fails: the next one starts from it.
				if err := l.Write(filepath.Join(output, pipeline.LockName(spec.image))); err != nil {
					return err
				}
			}
			artifacts, err := p.Build(c.Context(), spec.image, l, spec.context(), output)
			if err != nil {
				return err
			}
			var digests []digest.Digest
			if asJSON {
				if digests, err = p.Digests(c.Context(), artifacts); err != nil {
					return err
				}
			}
			stages := p.Stages(artifacts)
			p.display.Close()
			if progress.mode != progressJSON {
				if err := printClosing(s.err, spec.image, artifacts, stages, time.Since(start)); err != nil {
					return err
				}
			}
			if asJSON {
				err = printBuild(s.out, spec.image, artifacts, digests, stages)
			} else {
				err = printPaths(s.out, artifacts)
			}
			if err != nil {
				return err
			}
			return publishing.run(c.Context(), s, spec, flags, output, progress)
		}),
	}
	flags.register(c)
	flags.registerInfrastructure(c)
	progress.register(c)
	engine.register(c)
	signing.register(c)
	publishing.register(c)
	c.Flags().StringVarP(&output, "output", "o", "out", "the `DIR` that receives the image files and the lock")
	c.Flags().BoolVar(&asJSON, "json", false, "print one JSON document, a BuildReport, on standard output")
	c.Flags().BoolVar(&locked, "locked", false, "fail if there is no lock that fits the NodeImage")
	return c
}

// findLock returns the first lock that fits the image, beside the NodeImage or
// in the output folder; nil if there is none and that is allowed.
func findLock(image *v1alpha1.NodeImage, required bool, dirs ...string) (*lock.Lock, error) {
	found, err := lookForLock(image, required, dirs...)
	return found.lock, err
}

// foundLock is what lookForLock found.
type foundLock struct {
	lock  *lock.Lock // nil if none fits
	path  string     // of it, else of the stale one, else of where it would be
	stale bool
}

// lookForLock looks for a lock that fits the image in one folder after the other.
// That there is none is an error if one is required.
func lookForLock(image *v1alpha1.NodeImage, required bool, dirs ...string) (foundLock, error) {
	found := foundLock{path: filepath.Join(dirs[0], pipeline.LockName(image))}
	for _, dir := range dirs {
		path := filepath.Join(dir, pipeline.LockName(image))
		l, err := lock.Read(path)
		switch {
		case errors.Is(err, fs.ErrNotExist):
		case err != nil:
			return found, err
		case pipeline.Fits(l, image):
			return foundLock{lock: l, path: path}, nil
		case !found.stale:
			found = foundLock{path: path, stale: true}
		}
	}
	switch {
	case !required:
		return found, nil
	case found.stale:
		return found, fault.New(fault.BadSpec, "run nodesmith lock, review the change and build again", "--locked: %s was made for other inputs than the NodeImage now has", found.path)
	}
	return found, fault.New(fault.BadSpec, "run nodesmith lock first", "--locked: there is no %s", found.path)
}

func lockCommand(s streams) *cobra.Command {
	var flags specFlags
	var progress progressFlag
	var engine engineFlags
	var output string
	c := &cobra.Command{
		Use: "lock -f FILE", Short: "Write the lock: every input of an image, by digest", Args: noArguments,
		Long: `Resolve every input of an image (packages, Go modules, the Go toolchain, the
build's own tools) to what the archives and the Go proxy offer now, verify it,
and write the list, NAME.lock.yaml, beside the NodeImage.`,
		RunE: progress.told(s, func(c *cobra.Command, _ []string) (err error) {
			spec, err := flags.read(c.InOrStdin())
			if err != nil {
				return err
			}
			defer closing(&err, spec)
			if output == "" {
				output = spec.dir
			}
			if err := makeFolder(output); err != nil {
				return err
			}
			p, err := open(c.Context(), spec.image, progress, engine, nil, s)
			if err != nil {
				return err
			}
			defer closing(&err, p)
			l, err := p.Lock(c.Context(), spec.image, spec.context())
			if err != nil {
				return err
			}
			path := filepath.Join(output, pipeline.LockName(spec.image))
			if err := l.Write(path); err != nil {
				return err
			}
			p.display.Close()
			if progress.mode == progressJSON {
				_, err = fmt.Fprintln(s.out, path)
				return err
			}
			fmt.Fprintf(s.err, "\nLocked %d packages of the OS, %d of the spec, %d of the tools; %d components with %d Go modules\n",
				len(l.OS.Packages), len(l.Packages.Packages), len(l.Tools.Packages), len(l.Kubernetes.Components), l.Kubernetes.Modules())
			_, err = fmt.Fprintln(s.out, path)
			return err
		}),
	}
	flags.register(c)
	progress.register(c)
	engine.register(c)
	c.Flags().StringVarP(&output, "output", "o", "", "the `DIR` that receives the lock (default: the NodeImage's)")
	return c
}
