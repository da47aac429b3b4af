package aws

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"golang.org/x/sync/errgroup"

	"nodesmith.dev/nodesmith/api/v1alpha1"
	"nodesmith.dev/nodesmith/internal/fault"
	"nodesmith.dev/nodesmith/internal/publish"
	"nodesmith.dev/nodesmith/internal/publish/aws/snapshot"
)

// job is one image on its way into the account.
type job struct {
	*Publisher
	image publish.Image
	// name is the AMI's, parameter that of the parameter with its ID.
	name, parameter string
	tags            []types.Tag
	// found are the AMIs that are there already, by region.
	found map[string]types.Image
	steps []publish.Step
}

// architectures are EC2's names of them.
var architectures = map[string]types.ArchitectureValues{
	"amd64": types.ArchitectureValuesX8664, "arm64": types.ArchitectureValuesArm64,
}

// Plan says what is there, and what is to be made.
func (p *Publisher) Plan(ctx context.Context, image publish.Image, earlier publish.State) (*publish.Plan, error) {
	j, err := p.newJob(image)
	if err != nil {
		return nil, err
	}
	if err := j.look(ctx); err != nil {
		return nil, explain(err)
	}
	if err := j.planDisk(earlier); err != nil {
		return nil, err
	}
	for _, r := range p.all() {
		if err := j.planRegion(ctx, r); err != nil {
			return nil, explain(err)
		}
	}
	return &publish.Plan{Place: p.Place(), Image: image.Digest, Steps: j.steps, Classify: classify}, nil
}

func (p *Publisher) newJob(image publish.Image) (*job, error) {
	if architectures[image.Architecture] == "" {
		return nil, fault.New(fault.Usage, "", "aws: EC2 has no machines of architecture %s", image.Architecture)
	}
	if p.target.Encrypt && p.target.Shared() {
		for _, r := range p.all() {
			if p.target.KMSKeys[r.name] == "" {
				return nil, fault.New(fault.BadSpec, "give kmsKeys an entry for "+r.name, "aws: %s is to be shared, and encrypted in %s with the account's own key, which can't be shared", image.Reference, r.name)
			}
		}
	}
	values := templateValues(image.Name, image.Distro, image.DistroVersion, image.Kubernetes, image.Architecture)
	name, err := p.target.ImageName(values)
	if err != nil {
		return nil, fault.New(fault.BadSpec, "", "aws: name of the AMI: %w", err)
	}
	parameter, err := p.target.ParameterName(values)
	if err != nil {
		return nil, fault.New(fault.BadSpec, "", "aws: name of the parameter: %w", err)
	}
	return &job{
		Publisher: p, image: image, parameter: parameter,
		name: fmt.Sprintf("%s-%d-%s", name, image.Built.Unix(), short(image.Digest)),
		tags: p.tags(image, name), found: map[string]types.Image{},
	}, nil
}

// templateValues are what names are made of. No name on AWS may have a plus.
func templateValues(name, distro, version, kubernetes, architecture string) v1alpha1.TemplateValues {
	return v1alpha1.TemplateValues{
		Image: name, OSDistro: distro, OSVersion: version, OSRelease: strings.ReplaceAll(version, ".", ""),
		KubernetesVersion: strings.ReplaceAll(kubernetes, "+", "-"), Architecture: architecture,
	}
}

// tags are those of AMIs and snapshots, by key.
func (p *Publisher) tags(image publish.Image, name string) []types.Tag {
	all := map[string]string{"Name": name}
	for key, value := range p.target.Tags {
		all[key] = value
	}
	for key, value := range image.Tags() {
		all[key] = value
	}
	all[tagArch] = image.Architecture
	var tags []types.Tag
	for key, value := range all {
		tags = append(tags, types.Tag{Key: aws.String(key), Value: aws.String(value)})
	}
	slices.SortFunc(tags, func(a, b types.Tag) int { return strings.Compare(*a.Key, *b.Key) })
	return tags
}

// look asks all regions at once for the image.
func (j *job) look(ctx context.Context) error {
	found := make([][]types.Image, len(j.all()))
	group, ctx := errgroup.WithContext(ctx)
	for i, r := range j.all() {
		group.Go(func() (err error) {
			found[i], err = r.imagesOf(ctx, j.image.Digest)
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	for i, r := range j.all() {
		if len(found[i]) > 0 {
			j.found[r.name] = found[i][0]
		}
	}
	return nil
}

// The IDs of a region's steps.
func step(r *region, what string) string { return r.name + "/" + what }

// planDisk adds the steps that bring the disk into the first region.
func (j *job) planDisk(earlier publish.State) error {
	r := j.at(j.target.Region)
	s := publish.Step{ID: step(r, "snapshot"), Region: r.name, Kind: "snapshot", Name: j.name, Action: publish.Create}
	if image, there := j.found[r.name]; there {
		s.Action = publish.Exists
		if disks := disksOf(image); len(disks) > 0 {
			s.Name = disks[0]
		}
		j.steps = append(j.steps, s)
		return nil
	}
	var err error
	if s.Bytes, err = snapshot.DataSize(j.image.Disk); err != nil {
		return err
	}
	if id := earlier.Note(s.ID, "id"); id != "" {
		s.Action, s.Name = publish.Resume, id
	}
	s.Do = func(ctx context.Context, run *publish.Run) error { return explain(j.writeSnapshot(ctx, run, r)) }
	if j.target.Import.Bucket != "" {
		s.Do = func(ctx context.Context, run *publish.Run) error { return explain(j.importSnapshot(ctx, run, r)) }
	}
	j.steps = append(j.steps, s)
	return nil
}

// planRegion adds the steps of an AMI and of what belongs to it.
func (j *job) planRegion(ctx context.Context, r *region) error {
	first := r.name == j.target.Region
	s := publish.Step{ID: step(r, "image"), Region: r.name, Kind: "AMI", Name: j.name, Action: publish.Exists}
	image, there := j.found[r.name]
	switch {
	case !there || image.State != types.ImageStateAvailable || lacks(image.Tags, j.tags):
		s.Action = publish.Create
		if there {
			s.Action, s.Why = publish.Resume, "it is there as "+*image.ImageId+", and not ready"
		}
		if first {
			s.Needs = []string{step(r, "snapshot")}
			s.Do = func(ctx context.Context, run *publish.Run) error { return explain(j.register(ctx, run, r)) }
			break
		}
		s.Needs = []string{step(j.at(j.target.Region), "image")}
		s.Do = func(ctx context.Context, run *publish.Run) error { return explain(j.copyImage(ctx, run, r)) }
	default:
		s.Name = *image.ImageId
	}
	j.steps = append(j.steps, s)
	var have *types.Image
	if there {
		have = &image
	}
	for _, add := range []func(context.Context, *region, *types.Image) error{j.planShare, j.planDeprecation, j.planParameter, j.planRetirement} {
		if err := add(ctx, r, have); err != nil {
			return err
		}
	}
	return nil
}

// id returns the ID of the region's AMI.
func (j *job) id(run *publish.Run, r *region) string {
	if image, there := j.found[r.name]; there {
		return *image.ImageId
	}
	return run.GetOf(step(r, "image"), "id")
}

// changes adds a step that changes something about the AMI; with there it says
// that nothing is to do.
func (j *job) changes(r *region, what, kind, name, why string, there bool, do func(context.Context, *publish.Run) error) {
	s := publish.Step{ID: step(r, what), Needs: []string{step(r, "image")}, Region: r.name, Kind: kind, Name: name, Why: why, Action: publish.Exists}
	if !there {
		s.Action = publish.Change
		s.Do = func(ctx context.Context, run *publish.Run) error { return explain(do(ctx, run)) }
	}
	j.steps = append(j.steps, s)
}
