package azure

import (
	"context"
	"slices"
	"strings"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/to"
	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/compute/armcompute/v7"
	"github.com/opencontainers/go-digest"

	"nodesmith.dev/nodesmith/internal/fault"
	"nodesmith.dev/nodesmith/internal/publish"
)

// tagHighest is, on a definition, the highest name of a version that was ever
// taken away: no other image may get it, since machines may still be made of it
// by name.
const tagHighest = "nodesmith-highest"

// Retract says what taking an image away takes. What a machine or a scale set of
// the subscription is made of stays.
func (p *Publisher) Retract(ctx context.Context, image digest.Digest, earlier publish.State) (*publish.Plan, error) {
	plan := &publish.Plan{Place: p.Place(), Image: image, Classify: Classify}
	var err error
	if p.target.ManagedImage != nil {
		plan.Steps, err = p.retractImages(ctx, image)
	} else {
		plan.Steps, err = p.retractVersions(ctx, image, earlier)
	}
	if err != nil {
		return nil, explain(err)
	}
	staged := p.staging(image)
	isStaged, err := staged.there(ctx)
	if err != nil {
		return nil, explain(err)
	}
	if isStaged {
		plan.Steps = append(plan.Steps, publish.Step{
			ID: "upload", Kind: staged.kind(), Name: staged.name(), Region: p.target.Location,
			Action: publish.Delete, Why: "a publish did not end", Do: p.explained(staged.remove),
		})
	}
	return plan, nil
}

func (p *Publisher) retractVersions(ctx context.Context, image digest.Digest, earlier publish.State) (steps []publish.Step, err error) {
	all, err := p.holdings(ctx)
	if err != nil {
		return nil, err
	}
	used, err := p.usage(ctx, p.latestOf(all))
	if err != nil {
		return nil, err
	}
	for _, h := range all {
		var deleted []string
		rest := 0
		for _, v := range h.versions {
			name := deref(v.Name)
			if tag(v.Tags, publish.TagDigest) != image.String() {
				rest++
				continue
			}
			step := publish.Step{ID: stepID("version", h.name, name), Kind: "image version", Name: h.name + "/" + name, Region: regionsOf(v)}
			if users := used.by(p.versionID(h.name, name)); len(users) > 0 {
				step.Action, step.Why = publish.Keep, "in use by "+strings.Join(users, ", ")
				rest++
			} else {
				step.Action = publish.Delete
				step.Do = p.explained(func(ctx context.Context, run *publish.Run) error {
					if err := p.deleteVersion(ctx, run, h.name, name); err != nil {
						return err
					}
					return run.Forget("version")
				})
				deleted = append(deleted, name)
			}
			steps = append(steps, step)
		}
		// A publish that did not end may have made the definition alone.
		if len(deleted) > 0 || len(h.versions) == 0 && madeBy(earlier, h.name) {
			steps = p.settleDefinition(steps, h, deleted, rest)
		}
	}
	return steps, nil
}

// madeBy says whether a journal says that its publish makes a definition.
func madeBy(earlier publish.State, definition string) bool {
	return slices.ContainsFunc(earlier.Entries(), func(e publish.Entry) bool {
		return e.Step == "definition" && e.Action == publish.Create && e.Name == definition
	})
}

// stepID tells steps about versions of several definitions apart.
func stepID(parts ...string) string { return strings.Join(parts, "/") }

// settleDefinition adds the step for a definition of which versions go: it goes
// too if no other version is left and this project made it, else it remembers
// the highest name.
func (p *Publisher) settleDefinition(steps []publish.Step, h held, deleted []string, rest int) []publish.Step {
	step := publish.Step{ID: stepID("definition", h.name), Kind: "image definition", Name: h.name, Region: deref(h.definition.Location)}
	var needs []string
	for _, name := range deleted {
		needs = append(needs, stepID("version", h.name, name))
	}
	if rest == 0 && tag(h.definition.Tags, publish.TagBy) != "" {
		step.Action, step.Needs = publish.Delete, needs
		step.Do = p.explained(func(ctx context.Context, run *publish.Run) error {
			poller, err := p.api.definitions.BeginDelete(ctx, p.target.ResourceGroup, p.target.Gallery.Name, h.name, nil)
			if _, err = await(ctx, run, p.api.poll, poller, err); err != nil && !isNotFound(err) {
				return err
			}
			return run.Forget("definition")
		})
		return append(steps, step)
	}
	highest := slices.MaxFunc(append(deleted, tag(h.definition.Tags, tagHighest)), func(a, b string) int {
		x, _ := parseNumber(a)
		y, _ := parseNumber(b)
		return x.compare(y)
	})
	if highest == tag(h.definition.Tags, tagHighest) {
		return steps
	}
	step.Action, step.Why = publish.Change, "no other version may be called "+highest
	step.Do = p.explained(func(ctx context.Context, run *publish.Run) error { return p.remember(ctx, run, h, highest) })
	// Before the versions go: what is in use by then is not known again.
	for i := range steps {
		if slices.Contains(needs, steps[i].ID) {
			steps[i].Needs = append(steps[i].Needs, step.ID)
		}
	}
	first := slices.IndexFunc(steps, func(s publish.Step) bool { return slices.Contains(needs, s.ID) })
	return slices.Insert(steps, first, step)
}

// remember writes the highest name of a version on the definition.
func (p *Publisher) remember(ctx context.Context, run *publish.Run, h held, highest string) error {
	tags := map[string]*string{}
	for name, value := range h.definition.Tags {
		tags[name] = value
	}
	tags[tagHighest] = to.Ptr(highest)
	poller, err := p.api.definitions.BeginUpdate(ctx, p.target.ResourceGroup, p.target.Gallery.Name, h.name, armcompute.GalleryImageUpdate{Tags: tags}, nil)
	_, err = await(ctx, run, p.api.poll, poller, err)
	return err
}

func (p *Publisher) retractImages(ctx context.Context, image digest.Digest) (steps []publish.Step, err error) {
	images, err := p.imagesThere(ctx)
	if err != nil {
		return nil, err
	}
	used, err := p.usage(ctx, nil)
	if err != nil {
		return nil, err
	}
	for _, found := range images {
		name := deref(found.Name)
		if tag(found.Tags, publish.TagDigest) != image.String() {
			continue
		}
		step := publish.Step{ID: stepID("image", name), Kind: "managed image", Name: name, Region: deref(found.Location)}
		if users := used.by(p.id("images/%s", name)); len(users) > 0 {
			step.Action, step.Why = publish.Keep, "in use by "+strings.Join(users, ", ")
		} else {
			step.Action = publish.Delete
			step.Do = p.explained(func(ctx context.Context, run *publish.Run) error {
				poller, err := p.api.images.BeginDelete(ctx, p.target.ResourceGroup, name, nil)
				if _, err = await(ctx, run, p.api.poll, poller, err); isNotFound(err) {
					err = nil
				}
				if err != nil {
					return err
				}
				return run.Forget("image")
			})
		}
		steps = append(steps, step)
	}
	return steps, nil
}

// errTaken says that the name that the target gives a version is taken.
func errTaken(version string) error {
	return fault.New(fault.BadSpec, "set another gallery.version, or leave it out", "the version %s is there and is of another image", version)
}
