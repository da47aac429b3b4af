package cli

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"nodesmith.dev/nodesmith/internal/host"
	"nodesmith.dev/nodesmith/internal/progress/display"
	"nodesmith.dev/nodesmith/internal/store"
	"nodesmith.dev/nodesmith/internal/store/remote"
)

// transfer is what the flags of push and pull say.
type transfer struct{ remote.Options }

func (f *transfer) register(c *cobra.Command) {
	c.Flags().BoolVar(&f.PlainHTTP, "plain-http", false, "allow a registry without TLS on another machine")
	c.Flags().IntVar(&f.Jobs, "jobs", 0, "blobs on their way at once (default 8)")
}

// summarize says what was copied.
func summarize(s streams, verb, what string, sum remote.Summary, start time.Time) {
	fmt.Fprintf(s.err, "%s %s in %s: %s in %d blobs; %s were there\n", verb, what, time.Since(start).Round(100*time.Millisecond),
		display.Bytes(sum.Sent.Bytes), sum.Sent.Blobs, display.Bytes(sum.There.Bytes))
}

func pushCommand(s streams) *cobra.Command {
	var f transfer
	c := &cobra.Command{
		Use: "push IMAGE REGISTRY", Short: "Copy an image from the store to a registry",
		Long: `Copy an image from the store to any OCI registry, with the reports on its disks. Its
repository is REGISTRY/NAME. Only chunks that the registry lacks are sent. With a
tag, the image gets that tag there; without, all that it has here.`,
		Example: "  nodesmith push debian-12 registry.example.com/nodes",
		Args:    exactly("IMAGE", "REGISTRY"),
		RunE: func(c *cobra.Command, args []string) error {
			start := time.Now()
			images, r, image, err := findStored(c.Context(), args[0])
			if err != nil {
				return err
			}
			tags := []string{r.Tag}
			switch {
			case r.Digest != "" && len(image.Tags) == 0:
				tags = []string{image.Digest.Encoded()[:12]}
			case r.Digest != "" || r.Tag == store.Latest:
				tags = image.Tags
			}
			f.Registry = args[1]
			sum, err := remote.Push(c.Context(), images, image, tags, f.Options)
			if err != nil {
				return err
			}
			summarize(s, "Pushed", image.Reference(), sum, start)
			for _, tag := range tags {
				if _, err := fmt.Fprintf(s.out, "%s/%s:%s\n", f.Registry, image.Name, tag); err != nil {
					return err
				}
			}
			return nil
		},
	}
	f.register(c)
	return c
}

func pullCommand(s streams) *cobra.Command {
	var f transfer
	c := &cobra.Command{
		Use: "pull IMAGE REGISTRY", Short: "Copy an image from a registry into the store",
		Long: `Copy an image from any OCI registry into the store, with the reports on its disks.
Its repository is REGISTRY/NAME. Only chunks that the store lacks are copied; what
arrived before an interruption stays.`,
		Example: "  nodesmith pull debian-12 registry.example.com/nodes",
		Args:    exactly("IMAGE", "REGISTRY"),
		RunE: func(c *cobra.Command, args []string) error {
			start := time.Now()
			images, err := openStore()
			if err != nil {
				return err
			}
			r, err := store.ParseReference(args[0])
			if err != nil {
				return err
			}
			f.Registry = args[1]
			image, sum, err := remote.Pull(c.Context(), images, r, host.Now(), f.Options)
			if err != nil {
				return err
			}
			summarize(s, "Pulled", image.Reference(), sum, start)
			_, err = fmt.Fprintln(s.out, image.Reference())
			return err
		},
	}
	f.register(c)
	return c
}
