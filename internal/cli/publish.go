package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"nodesmith.dev/nodesmith/api/v1alpha1"
	"nodesmith.dev/nodesmith/internal/fault"
	"nodesmith.dev/nodesmith/internal/pipeline"
	"nodesmith.dev/nodesmith/internal/progress/display"
	"nodesmith.dev/nodesmith/internal/publish"
	"nodesmith.dev/nodesmith/internal/report"
)

// wantedLevel is what an image has to be proven to be published without a word.
const wantedLevel = publish.Boot

// publishing is what the flags of publish and retract say.
type publishing struct {
	specFlags
	to         []string
	dryRun     bool
	unverified bool
	// retracts says that images are taken away: their digest is enough, and no proof
	// is asked for.
	retracts bool
	json     bool
	progress progressFlag
}

func (o *publishing) register(c *cobra.Command) {
	f := c.Flags()
	f.StringVarP(&o.file, "file", "f", "", "the PublishTarget, or a NodeImage with spec.publish, `FILE` (- reads standard input)")
	f.StringArrayVar(&o.set, "set", nil, "override a field of it: `PATH=VALUE` (repeatable)")
	f.StringSliceVar(&o.to, "to", nil, "infrastructures to publish to: `"+strings.Join(publishable(), "|")+"` (default: all that FILE has)")
	f.BoolVar(&o.json, "json", false, "print JSON documents, one a line: "+report.PublishPlanKind+", of list "+report.PublishedKind)
}

// publishable are the infrastructures that there are publishers for.
func publishable() []string { return slices.Sorted(maps.Keys(publishers)) }

func publishCommand(s streams) *cobra.Command {
	var o publishing
	c := &cobra.Command{
		Use: "publish IMAGE -f FILE", Short: "Put an image where clusters are made: vCenters, AWS accounts, Azure subscriptions",
		Long: `Put an image into every place that a PublishTarget names, all at once. IMAGE is an
image in the store; or a disk image of any format that nodesmith reads, beside its
manifest (NAME-vsphere.ova and NAME-vsphere.manifest.json); or NAME with its folder,
which stands for the file of each infrastructure; or the address of an image file on
a web server, with the file's digest:
https://images.example.com/NAME-vsphere.ova#sha256:DIGITS.

Running the command again does nothing, or finishes what was begun. An image that
was not proven to boot is published with --yes-unverified alone: the store knows
what was proven of an image, a file counts as unproven. docs/publishing.md says
where credentials come from.`,
		Example: "  nodesmith publish debian-12 -f publish.yaml --dry-run\n  nodesmith publish out/debian-12-vsphere.ova -f publish.yaml --yes-unverified\n  nodesmith publish out/debian-12 -f publish.yaml --to vsphere,aws --yes-unverified",
		Args:    oneArgument("IMAGE"),
		RunE: o.progress.told(s, func(c *cobra.Command, args []string) error {
			return o.publish(c, s, args[0])
		}),
	}
	o.register(c)
	o.progress.register(c)
	c.Flags().BoolVar(&o.dryRun, "dry-run", false, "print what would be done, and do nothing")
	c.Flags().BoolVar(&o.unverified, "yes-unverified", false, "publish the image although it was not proven to boot")
	c.AddCommand(publishListCommand(s), publishStatusCommand(s), retractCommand(s))
	return c
}

// targets reads where to publish.
func (o *publishing) targets(stdin io.Reader) (_ v1alpha1.PublishSpec, context fs.FS, closer io.Closer, err error) {
	file, err := o.open(v1alpha1.PublishKind, stdin)
	if err != nil {
		return v1alpha1.PublishSpec{}, nil, nil, err
	}
	spec, err := o.spec(file)
	if err == nil {
		err = o.choose(spec)
	}
	if err != nil {
		return spec, nil, nil, errors.Join(err, file.root.Close())
	}
	return spec, file.root.FS(), file.root, nil
}

func (o *publishing) spec(file *specFile) (v1alpha1.PublishSpec, error) {
	if v1alpha1.KindOf(file.data) == v1alpha1.Kind {
		set, err := o.overrides()
		if err != nil {
			return v1alpha1.PublishSpec{}, err
		}
		document, err := v1alpha1.Load(file.name, file.data, set)
		if err != nil {
			return v1alpha1.PublishSpec{}, err
		}
		image, err := document.Validate(pipeline.Known(), file.root.FS())
		if err != nil {
			return v1alpha1.PublishSpec{}, err
		}
		return image.Spec.Publish, nil
	}
	target, err := v1alpha1.ReadPublishTarget(file.name, file.data, o.set, file.root.FS())
	if err != nil {
		return v1alpha1.PublishSpec{}, err
	}
	return target.Spec, nil
}

// sections are the infrastructures that a spec has targets for.
func sections(spec v1alpha1.PublishSpec) []string {
	var all []string
	for name, n := range map[string]int{"vsphere": len(spec.VSphere), "aws": len(spec.AWS), "azure": len(spec.Azure)} {
		if n > 0 {
			all = append(all, name)
		}
	}
	slices.Sort(all)
	return all
}

// choose holds --to against what there is; without it all is meant.
func (o *publishing) choose(spec v1alpha1.PublishSpec) error {
	there := sections(spec)
	if len(o.to) == 0 {
		o.to = there
	}
	o.to = slices.Compact(slices.Sorted(slices.Values(o.to)))
	for _, name := range o.to {
		switch {
		case publishers[name] == nil:
			return fault.New(fault.Usage, "", "--to %q: there are publishers for %s", name, strings.Join(publishable(), ", "))
		case !slices.Contains(there, name):
			return fault.New(fault.Usage, "add it to the file, or name another --to", "--to %s: %s has no target in spec.%s", name, o.file, name)
		}
	}
	if len(o.to) == 0 {
		return fault.New(fault.Usage, "nodesmith explain --kind PublishTarget", "%s says no place to publish to", o.file)
	}
	return nil
}

func (o *publishing) publish(c *cobra.Command, s streams, name string) (err error) {
	ctx := c.Context()
	spec, buildContext, closer, err := o.targets(c.InOrStdin())
	if err != nil {
		return err
	}
	defer closing(&err, closer)
	return o.publishTo(ctx, s, name, spec, buildContext)
}

// publishTo publishes an image to all places of a spec that --to names.
func (o *publishing) publishTo(ctx context.Context, s streams, name string, spec v1alpha1.PublishSpec, buildContext fs.FS) (err error) {
	errands, closeAll, err := o.errands(ctx, s, name, spec, buildContext)
	defer func() { err = errors.Join(err, closeAll()) }()
	if err != nil {
		return err
	}
	return o.run(ctx, s, errands)
}

// run plans all errands, and carries the plans out unless it is a rehearsal.
func (o *publishing) run(ctx context.Context, s streams, errands []*errand) error {
	if err := each(errands, func(e *errand) (err error) {
		e.plan, err = publish.MakePlan(ctx, e.publisher, e.image, e.earlier, publish.Policy{})
		return err
	}); err != nil {
		return err
	}
	if err := o.show(s, errands); err != nil || o.dryRun {
		return err
	}
	return o.apply(ctx, s, errands)
}

// apply carries the plans out, and prints what is there then, also where other places
// failed.
func (o *publishing) apply(ctx context.Context, s streams, errands []*errand) error {
	var plans []*publish.Plan
	for _, e := range errands {
		plans = append(plans, e.plan)
	}
	shown, err := o.progress.showPublishing(ctx, s.err, o.title(errands), plans)
	if err != nil {
		return err
	}
	defer shown.display.Close()
	err = each(errands, func(e *errand) error {
		err := e.apply(ctx, publish.Options{Reporter: shown.of(e.plan)})
		e.done = err == nil
		return err
	})
	shown.display.Close()
	for _, e := range errands {
		if !e.done || o.json || o.retracts {
			continue
		}
		if _, failure := fmt.Fprintf(s.out, "%s\t%s\n", e.plan.Place, e.image.Digest); failure != nil {
			return errors.Join(err, failure)
		}
	}
	return err
}

// apply carries the errand's plan out.
func (e *errand) apply(ctx context.Context, options publish.Options) error {
	if len(e.plan.Steps) == 0 { // nothing is there that could be taken away
		return nil
	}
	header := publish.Header{Place: e.plan.Place, Image: e.image.Reference, Digest: e.image.Digest}
	if err := e.journal.SetHeader(header); err != nil {
		return err
	}
	return publish.Apply(ctx, e.plan, e.journal, options)
}

// title says what is carried out.
func (o *publishing) title(errands []*errand) string {
	places := "1 place"
	if len(errands) != 1 {
		places = fmt.Sprintf("%d places", len(errands))
	}
	return fmt.Sprintf("%s: %s", strings.Join(o.to, ", "), places)
}

// planDocument is a plan as --json prints it.
type planDocument struct {
	APIVersion string         `json:"apiVersion"`
	Kind       string         `json:"kind"`
	Place      string         `json:"place"`
	Image      string         `json:"image"`
	Bytes      int64          `json:"bytes"`
	Steps      []stepDocument `json:"steps"`
}

type stepDocument struct {
	ID     string         `json:"id"`
	Action publish.Action `json:"action"`
	Region string         `json:"region,omitempty"`
	Kind   string         `json:"kind"`
	Name   string         `json:"name"`
	Bytes  int64          `json:"bytes,omitempty"`
	Why    string         `json:"why,omitempty"`
}

// publishVersion is the version of what publish prints as JSON.
const publishVersion = "nodesmith.dev/publish/v1alpha1"

// show prints the plans: in a rehearsal they are the result, else they say what
// follows.
func (o *publishing) show(s streams, errands []*errand) error {
	w, showOne := o.progress.lines(s.err), showPlan
	if o.dryRun {
		w = s.out
	}
	if o.json {
		w, showOne = s.out, showJSON
	}
	for _, e := range errands {
		if err := showOne(w, e.plan); err != nil {
			return err
		}
	}
	return nil
}

func showJSON(w io.Writer, plan *publish.Plan) error {
	document := planDocument{APIVersion: publishVersion, Kind: report.PublishPlanKind, Place: plan.Place, Image: plan.Image.String(), Bytes: plan.Bytes(), Steps: []stepDocument{}}
	for _, step := range plan.Steps {
		document.Steps = append(document.Steps, stepDocument{step.ID, step.Action, step.Region, step.Kind, step.Name, step.Bytes, step.Why})
	}
	return json.NewEncoder(w).Encode(document)
}

func showPlan(w io.Writer, plan *publish.Plan) error {
	var b strings.Builder
	fmt.Fprintf(&b, "%s: sends %s at most\n", plan.Place, display.Bytes(plan.Bytes()))
	for _, step := range plan.Steps {
		fmt.Fprintf(&b, "  %-7s %s", step.Action, words(step.Region, step.Kind, step.Name))
		if step.Why != "" {
			b.WriteString(" (" + step.Why + ")")
		}
		b.WriteByte('\n')
	}
	if len(plan.Steps) == 0 {
		b.WriteString("  nothing to do\n")
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// words joins what is not empty.
func words(all ...string) string {
	return strings.Join(slices.DeleteFunc(all, func(s string) bool { return s == "" }), " ")
}

// oneFile says whether a path is a regular file.
func oneFile(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular()
}
