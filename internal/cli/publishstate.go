package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"nodesmith.dev/nodesmith/internal/fault"
	"nodesmith.dev/nodesmith/internal/publish"
	"nodesmith.dev/nodesmith/internal/report"
)

// sorted yields a map in the order of its keys.
func sorted(m map[string]string) iter.Seq2[string, string] {
	return func(yield func(string, string) bool) {
		for _, key := range slices.Sorted(maps.Keys(m)) {
			if !yield(key, m[key]) {
				return
			}
		}
	}
}

// publishedDocument is an image at a place as list --json prints it.
type publishedDocument struct {
	APIVersion string    `json:"apiVersion"`
	Kind       string    `json:"kind"`
	Place      string    `json:"place"`
	Region     string    `json:"region,omitempty"`
	Type       string    `json:"type"`
	ID         string    `json:"id"`
	Name       string    `json:"name"`
	Digest     string    `json:"digest,omitempty"`
	Kubernetes string    `json:"kubernetes,omitempty"`
	Level      string    `json:"level,omitempty"`
	Created    time.Time `json:"created,omitzero"`
	UsedBy     []string  `json:"usedBy"`
}

func publishListCommand(s streams) *cobra.Command {
	var o publishing
	c := &cobra.Command{
		Use: "list -f FILE", Short: "List the images that are published, and what uses them", Args: noArguments,
		RunE: func(c *cobra.Command, _ []string) (err error) {
			spec, buildContext, closer, err := o.targets(c.InOrStdin())
			if err != nil {
				return err
			}
			defer closing(&err, closer)
			var errands []*errand
			for _, infrastructure := range o.to {
				all, err := publishers[infrastructure](c.Context(), spec, buildContext)
				if err != nil {
					return err
				}
				for _, p := range all {
					errands = append(errands, &errand{publisher: p})
				}
			}
			listing := each(errands, func(e *errand) (err error) {
				e.listed, err = publish.ListAll(c.Context(), e.publisher, publish.Policy{})
				return errors.Join(err, closePublisher(c.Context(), e.publisher))
			})
			var all []publish.Published
			for _, e := range errands {
				all = append(all, e.listed...)
			}
			return errors.Join(listing, o.list(s, all))
		},
	}
	o.register(c)
	return c
}

// list prints what is published.
func (o *publishing) list(s streams, all []publish.Published) error {
	if o.json {
		for _, p := range all {
			document := publishedDocument{
				publishVersion, report.PublishedKind, p.Place, p.Region, p.Kind, p.ID, p.Name, p.Digest.String(), p.Kubernetes, p.Level, p.Created, append([]string{}, p.UsedBy...),
			}
			if err := json.NewEncoder(s.out).Encode(document); err != nil {
				return err
			}
		}
		return nil
	}
	w := tabwriter.NewWriter(s.out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "PLACE\tREGION\tKIND\tID\tNAME\tKUBERNETES\tLEVEL\tDIGEST\tUSED BY")
	for _, p := range all {
		fmt.Fprintln(w, strings.Join([]string{p.Place, p.Region, p.Kind, p.ID, p.Name, p.Kubernetes, p.Level, p.Digest.String(), strings.Join(p.UsedBy, ", ")}, "\t"))
	}
	return w.Flush()
}

func publishStatusCommand(s streams) *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use: "status [IMAGE]", Short: "Say what was made of an image, where, and what a killed run left",
		Long: `Say what the journals of this machine know of an image, of all images without
one: each step that was begun at each place, whether it was done, and the IDs of
what it made. It asks no infrastructure.`,
		Args: atMostOne("IMAGE"),
		RunE: func(_ *cobra.Command, args []string) error {
			all, err := journals()
			if err != nil {
				return err
			}
			shown := 0
			for _, state := range all {
				if len(args) == 1 && !isOf(state.Header(), args[0]) {
					continue
				}
				shown++
				if err := showStatus(s, state, asJSON); err != nil {
					return err
				}
			}
			if shown == 0 && len(args) == 1 {
				return fault.New(fault.Usage, "nodesmith publish status lists all", "no journal of this machine knows %s", args[0])
			}
			return nil
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print a JSON document for each image and place, a "+report.PublishStatusKind)
	return c
}

// isOf says whether a journal is of what the user calls an image: as the run was
// told, by its digest, or by what stands for several, NAME for NAME-INFRASTRUCTURE
// and for NAME:TAG.
func isOf(h publish.Header, name string) bool {
	return h.Image == name || filepath.Clean(h.Image) == filepath.Clean(name) || h.Digest.String() == name ||
		strings.HasPrefix(h.Image, name+"-") || strings.HasPrefix(h.Image, name+":")
}

func retractCommand(s streams) *cobra.Command {
	var o publishing
	c := &cobra.Command{
		Use: "retract IMAGE -f FILE", Short: "Take an image away from where it was published",
		Long: `Take an image away from every place that a PublishTarget names. What uses it is
said first; what is in use is kept. --dry-run says it alone. IMAGE is as for publish,
or the digest of its disk, which list and status have: the image itself need not be
there any more.`,
		Args: oneArgument("IMAGE"),
		RunE: o.progress.told(s, func(c *cobra.Command, args []string) error { return o.retract(c, s, args[0]) }),
	}
	o.register(c)
	o.progress.register(c)
	c.Flags().BoolVar(&o.dryRun, "dry-run", false, "print what would be done, and do nothing")
	return c
}

func (o *publishing) retract(c *cobra.Command, s streams, name string) (err error) {
	ctx := c.Context()
	o.retracts = true
	spec, buildContext, closer, err := o.targets(c.InOrStdin())
	if err != nil {
		return err
	}
	defer closing(&err, closer)
	errands, closeAll, err := o.errands(ctx, s, name, spec, buildContext)
	defer func() { err = errors.Join(err, closeAll()) }()
	if err != nil {
		return err
	}
	if err := each(errands, func(e *errand) (err error) {
		e.plan, err = publish.MakeRetract(ctx, e.publisher, e.image.Digest, e.earlier, publish.Policy{})
		return err
	}); err != nil {
		return err
	}
	if err := o.show(s, errands); err != nil || o.dryRun {
		return err
	}
	return o.carryOut(ctx, s, errands)
}

// carryOut takes images away, and fails if something had to be kept.
func (o *publishing) carryOut(ctx context.Context, s streams, errands []*errand) error {
	if err := o.apply(ctx, s, errands); err != nil {
		return err
	}
	var kept []string
	for _, e := range errands {
		for _, step := range e.plan.Steps {
			if step.Action == publish.Keep {
				kept = append(kept, fmt.Sprintf("%s: %s %s is kept: %s", e.plan.Place, step.Kind, step.Name, step.Why))
			}
		}
	}
	if len(kept) > 0 {
		return fault.New(fault.Remote, "take away what uses it, then run this again", "%s", strings.Join(kept, "\n"))
	}
	return nil
}
