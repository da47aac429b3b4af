package aws

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/aws/aws-sdk-go-v2/service/ssm"
	"github.com/opencontainers/go-digest"

	"nodesmith.dev/nodesmith/internal/publish"
)

// planRetirement takes old images away that the target's rule does not keep, are
// not in use, and not shared with who might use them.
func (j *job) planRetirement(ctx context.Context, r *region, _ *types.Image) error {
	if j.target.Keep == 0 {
		return nil
	}
	old, err := r.images(ctx, filter("tag:"+publish.TagBy, j.image.Name), filter("tag:"+publish.TagKubernetes, j.image.Kubernetes),
		filter("tag:"+publish.TagOS, j.image.Tags()[publish.TagOS]), filter("tag:"+tagArch, j.image.Architecture))
	if err != nil {
		return err
	}
	old = slices.DeleteFunc(old, func(i types.Image) bool { return tag(i.Tags, publish.TagDigest) == j.image.Digest.String() })
	slices.SortFunc(old, func(a, b types.Image) int {
		return strings.Compare(aws.ToString(b.CreationDate)+*b.ImageId, aws.ToString(a.CreationDate)+*a.ImageId)
	})
	old = old[min(len(old), int(j.target.Keep)-1):]
	used, err := r.usedBy(ctx, ids(old)...)
	if err != nil {
		return err
	}
	// Whoever reads the parameter gets the new AMI before the old one goes.
	needs := []string{step(r, "image")}
	if j.parameter != "" {
		needs = append(needs, step(r, "parameter"))
	}
	for _, image := range old {
		s := r.removal(image, used[*image.ImageId])
		s.Needs = needs
		if s.Action == publish.Delete {
			shared, err := r.sharedWith(ctx, *image.ImageId)
			if err != nil {
				return err
			}
			if len(shared) > 0 {
				s.Action, s.Do, s.Why = publish.Keep, nil, "shared with "+strings.Join(names(shared), ", ")+", whose use of it can't be seen; retract takes it away"
			}
		}
		j.steps = append(j.steps, s)
	}
	return nil
}

func ids(images []types.Image) []string {
	var all []string
	for _, i := range images {
		all = append(all, *i.ImageId)
	}
	return all
}

// removal is the step that takes an AMI and its snapshots away, or says what
// keeps it.
func (r *region) removal(image types.Image, users []string) publish.Step {
	id := *image.ImageId
	s := publish.Step{ID: step(r, "remove/"+id), Region: r.name, Kind: "AMI", Name: aws.ToString(image.Name), Action: publish.Delete, Why: id}
	if p := aws.ToString(image.DeregistrationProtection); strings.HasPrefix(p, "enabled") {
		users = append(users, "deregistration protection")
	}
	if len(users) > 0 {
		s.Action, s.Why = publish.Keep, fmt.Sprintf("%s is in use by %s", id, strings.Join(users, ", "))
		return s
	}
	s.Do = func(ctx context.Context, run *publish.Run) error { return explain(r.remove(ctx, run, image)) }
	return s
}

// remove deregisters an AMI, unless something has begun to use it, and deletes
// its snapshots.
func (r *region) remove(ctx context.Context, run *publish.Run, image types.Image) error {
	users, err := r.usedBy(ctx, *image.ImageId)
	if err != nil {
		return err
	}
	if used := users[*image.ImageId]; len(used) > 0 {
		return fmt.Errorf("%s: AMI %s is in use by %s by now", r.name, *image.ImageId, strings.Join(used, ", "))
	}
	// The snapshots are known by the AMI alone: they are noted before it goes.
	if err := run.Note("snapshots", strings.Join(disksOf(image), " ")); err != nil {
		return err
	}
	_, err = r.ec2.DeregisterImage(ctx, &ec2.DeregisterImageInput{ImageId: image.ImageId})
	if err != nil && !is(err, "InvalidAMIID.NotFound", "InvalidAMIID.Unavailable") {
		return fmt.Errorf("%s: deregister %s: %w", r.name, *image.ImageId, err)
	}
	disks := disksOf(image)
	// An AMI's own snapshots are known by it, and by their tags.
	if disk := tag(image.Tags, publish.TagDigest); disk != "" {
		tagged, err := r.snapshotsOf(ctx, digest.Digest(disk))
		if err != nil {
			return err
		}
		for _, s := range tagged {
			disks = append(disks, *s.SnapshotId)
		}
	}
	if err := r.deleteSnapshots(ctx, disks...); err != nil {
		return err
	}
	if id := run.GetOf(step(r, "image"), "id"); id == *image.ImageId {
		return run.Forget(step(r, "image"))
	}
	return nil
}

// Retract says what taking an image away takes, in all regions of the target. An
// image that is in use in one of them stays in all: half of one is worse.
func (p *Publisher) Retract(ctx context.Context, disk digest.Digest, earlier publish.State) (*publish.Plan, error) {
	plan := &publish.Plan{Place: p.Place(), Image: disk, Classify: classify}
	kept := ""
	found := map[string][]types.Image{}
	for _, r := range p.all() {
		images, err := r.imagesOf(ctx, disk)
		if err != nil {
			return nil, explain(err)
		}
		used, err := r.usedBy(ctx, ids(images)...)
		if err != nil {
			return nil, explain(err)
		}
		for _, image := range images {
			s := r.removal(image, used[*image.ImageId])
			if s.Action == publish.Keep {
				kept = r.name
			}
			plan.Steps = append(plan.Steps, s)
		}
		found[r.name] = images
	}
	if kept != "" {
		for i := range plan.Steps {
			if s := &plan.Steps[i]; s.Action != publish.Keep {
				s.Action, s.Do, s.Why = publish.Keep, nil, "the image is in use in "+kept
			}
		}
		return plan, nil
	}
	for _, r := range p.all() {
		if err := p.retractRest(ctx, r, disk, earlier, found[r.name], plan); err != nil {
			return nil, explain(err)
		}
	}
	return plan, nil
}

// retractRest adds what belongs to a region's AMIs.
func (p *Publisher) retractRest(ctx context.Context, r *region, disk digest.Digest, earlier publish.State, images []types.Image, plan *publish.Plan) error {
	var needs []string
	for _, image := range images {
		if err := p.retractParameter(ctx, r, image, plan); err != nil {
			return err
		}
		needs = append(needs, step(r, "remove/"+*image.ImageId))
	}
	return p.retractDisks(ctx, r, disk, earlier, needs, plan)
}

// retractParameter takes the parameter away that holds an AMI's ID.
func (p *Publisher) retractParameter(ctx context.Context, r *region, image types.Image, plan *publish.Plan) error {
	if tag(image.Tags, publish.TagBy) == "" {
		return nil // ended before it had its tags, and so before the parameter
	}
	distro, version, _ := strings.Cut(tag(image.Tags, publish.TagOS), "-")
	name, err := p.target.ParameterName(templateValues(tag(image.Tags, publish.TagBy), distro, version, tag(image.Tags, publish.TagKubernetes), tag(image.Tags, tagArch)))
	if err != nil || name == "" {
		return err
	}
	have, err := r.parameterValue(ctx, name)
	if err != nil || have != *image.ImageId {
		return err
	}
	plan.Steps = append(plan.Steps, publish.Step{
		ID: step(r, "parameter/"+*image.ImageId), Region: r.name, Kind: "parameter", Name: name, Action: publish.Delete, Why: "it holds " + have,
		Do: func(ctx context.Context, _ *publish.Run) error {
			_, err := r.ssm.DeleteParameter(ctx, &ssm.DeleteParameterInput{Name: &name})
			if err != nil && !is(err, "ParameterNotFound") {
				return explain(fmt.Errorf("%s: delete parameter %s: %w", r.name, name, err))
			}
			return nil
		},
	})
	return nil
}

// retractDisks takes snapshots away that belong to no AMI any more: an ended
// run's, or those of an AMI that an ended retract deregistered.
func (p *Publisher) retractDisks(ctx context.Context, r *region, disk digest.Digest, earlier publish.State, needs []string, plan *publish.Plan) error {
	snapshots, err := r.snapshotsOf(ctx, disk)
	if err != nil {
		return err
	}
	var left []string
	for _, s := range snapshots {
		left = append(left, *s.SnapshotId)
	}
	noted, err := p.retractImport(ctx, r, disk, plan)
	if err != nil {
		return err
	}
	noted = append(noted, strings.Fields(earlier.Note(step(r, "snapshot"), "id"))...)
	for id, notes := range earlier {
		if strings.HasPrefix(id, step(r, "remove/")) {
			noted = append(noted, strings.Fields(notes["snapshots"])...)
		}
	}
	for _, id := range noted {
		if slices.Contains(left, id) {
			continue
		}
		s, err := r.snapshot(ctx, id)
		if err != nil {
			return err
		}
		if s != nil {
			left = append(left, id)
		}
	}
	for _, id := range left {
		plan.Steps = append(plan.Steps, publish.Step{
			ID: step(r, "remove/"+id), Needs: needs, Region: r.name, Kind: "snapshot", Name: id, Action: publish.Delete,
			Do: func(ctx context.Context, run *publish.Run) error {
				if err := r.deleteSnapshots(ctx, id); err != nil {
					return explain(err)
				}
				return run.Forget(step(r, "snapshot"))
			},
		})
	}
	return nil
}
