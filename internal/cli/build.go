package cli

import (
	"context"
	"path/filepath"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/spf13/cobra"

	"nodesmith.dev/nodesmith/api/v1alpha1"
	"nodesmith.dev/nodesmith/internal/build/tree"
	"nodesmith.dev/nodesmith/internal/format/ova"
	"nodesmith.dev/nodesmith/internal/host"
	"nodesmith.dev/nodesmith/internal/pipeline"
	"nodesmith.dev/nodesmith/internal/progress/display"
)

// session is a pipeline, and the display of what it does.
type session struct {
	*pipeline.Pipeline
	display display.Display
}

// Close ends both. The display outlives the engine, which says how steps end.
func (s *session) Close() error {
	defer s.display.Close()
	return s.Pipeline.Close()
}

// open starts a pipeline for an image on this machine; signing is nil for what
// makes no OVA.
func open(ctx context.Context, image *v1alpha1.NodeImage, progress progressFlag, engine engineFlags, signing *signingFlags, s streams) (*session, error) {
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
	return &session{p, shown}, nil
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

// building is what the flags of build say.
type building struct {
	specFlags
	progress       progressFlag
	engine         engineFlags
	signing        signingFlags
	publishing     publishFlags
	output         string
	locked, asJSON bool
}

func buildCommand(s streams) *cobra.Command {
	var b building
	c := &cobra.Command{
		Use: "build -f FILE", Short: "Build the image files that a NodeImage describes", Args: noArguments,
		Long: `Build the image files that a NodeImage describes.

The lock beside the NodeImage (NAME.lock.yaml), or else the one in the output
folder, decides every input; if neither fits the NodeImage, build locks first, and
keeps what one says of the parts that the NodeImage asks for as before.
The output folder receives NAME-INFRASTRUCTURE.FORMAT, for each infrastructure a
manifest of what went in (docs/manifest.md), and the lock it was built from.

Standard output receives the paths of the image files, a line each, or with --json
one document, a BuildReport (nodesmith schema --kind BuildReport). Everything else
goes to standard error.`,
		Example: `  nodesmith build -f examples/debian-12.yaml -o out
  nodesmith build -f examples/debian-12.yaml --json | jq -r '.artifacts[].digest'
  nodesmith build -f examples/debian-12.yaml --set spec.kubernetes.version=v1.34.1
  nodesmith build -f examples/debian-12.yaml --infrastructure vsphere,aws`,
		RunE: b.progress.told(s, func(c *cobra.Command, _ []string) error { return b.run(c, s) }),
	}
	b.register(c)
	b.registerInfrastructure(c)
	b.progress.register(c)
	b.engine.register(c)
	b.signing.register(c)
	b.publishing.register(c)
	c.Flags().StringVarP(&b.output, "output", "o", "out", "the `DIR` that receives the image files and the lock")
	c.Flags().BoolVar(&b.asJSON, "json", false, "print one JSON document, a BuildReport, on standard output")
	c.Flags().BoolVar(&b.locked, "locked", false, "fail if there is no lock that fits the NodeImage")
	return c
}

func (b *building) run(c *cobra.Command, s streams) (err error) {
	start := time.Now()
	spec, err := b.read(c.InOrStdin())
	if err != nil {
		return err
	}
	defer closing(&err, spec)
	if err := b.publishing.check(spec); err != nil {
		return err
	}
	found, err := lookForLock(spec.image, b.locked, spec.dir, b.output)
	if err != nil {
		return err
	}
	if err := makeFolder(b.output); err != nil {
		return err
	}
	p, err := open(c.Context(), spec.image, b.progress, b.engine, &b.signing, s)
	if err != nil {
		return err
	}
	defer closing(&err, p)
	l := found.lock
	if l == nil {
		if l, err = p.Lock(c.Context(), spec.image, spec.context(), found.stale); err != nil {
			return err
		}
		// Kept even if the build fails: the next one starts from it.
		if err := l.Write(filepath.Join(b.output, pipeline.LockName(spec.image))); err != nil {
			return err
		}
	}
	artifacts, err := p.Build(c.Context(), spec.image, l, spec.context(), b.output)
	if err != nil {
		return err
	}
	if err := b.print(c.Context(), s, p, spec.image, artifacts, start); err != nil {
		return err
	}
	return b.publishing.run(c.Context(), s, spec, b.specFlags, b.output, b.progress)
}

// print says what was built, for people and on standard output.
func (b *building) print(ctx context.Context, s streams, p *session, image *v1alpha1.NodeImage, artifacts []pipeline.Artifact, start time.Time) error {
	var digests []digest.Digest
	if b.asJSON {
		var err error
		if digests, err = p.Digests(ctx, artifacts); err != nil {
			return err
		}
	}
	stages := p.Stages(artifacts)
	p.display.Close()
	if b.progress.mode != progressJSON {
		if err := printClosing(s.err, image, artifacts, stages, time.Since(start)); err != nil {
			return err
		}
	}
	if b.asJSON {
		return printBuild(s.out, image, artifacts, digests, stages)
	}
	return printPaths(s.out, artifacts)
}
