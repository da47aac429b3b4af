// Package vsphere publishes images to vCenters: as templates of the inventory,
// or as items of a content library.
//
// What comes in is an image whose OVA can be opened, one target of a
// PublishTarget and who logs in; what goes out are plans. The OVA is sent as it
// lies in its file, once for each vCenter, and the vCenter's checksum of what
// arrived is held against what was sent. A template has another name until it is
// ready, so whoever clones by name never gets half of one, and a replaced
// template is there until then. An upload can't be resumed: NFC has no way to;
// the next run removes what a killed one left and sends again.
//
// A virtual machine says in its settings (extraConfig) what it was made of and
// its own UUID: clones inherit the former and have another UUID, so none is ever
// taken for a template of this project.
package vsphere

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"

	"github.com/opencontainers/go-digest"
	"github.com/vmware/govmomi/vim25/types"

	"nodesmith.dev/nodesmith/api/v1alpha1"
	"nodesmith.dev/nodesmith/internal/format"
	"nodesmith.dev/nodesmith/internal/format/ova"
	"nodesmith.dev/nodesmith/internal/publish"
)

// Publisher is one target of a PublishTarget.
type Publisher struct {
	target v1alpha1.VSphereTarget
	access Access

	mu     sync.Mutex
	client *client
}

// New returns the publisher of a target, which is valid and has its defaults.
func New(target v1alpha1.VSphereTarget, access Access) *Publisher {
	return &Publisher{target: target, access: access}
}

// Place names the vCenter.
func (p *Publisher) Place() string { return "vsphere " + p.target.Server }

// Close ends the session with the vCenter.
func (p *Publisher) Close(ctx context.Context) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.client == nil {
		return nil
	}
	err := p.client.close(ctx)
	p.client = nil
	return err
}

// connect returns the session with the vCenter.
func (p *Publisher) connect(ctx context.Context) (*client, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.client == nil {
		c, err := connect(ctx, p.target.URL(), p.target.Thumbprint, p.access)
		if err != nil {
			return nil, err
		}
		p.client = c
	}
	return p.client, nil
}

// job is one image for one target.
type job struct {
	*client
	target *v1alpha1.VSphereTarget
	place  *place
	image  publish.Image
	// name is what the template or item will be called.
	name string
}

// Plan says what publishing the image takes.
func (p *Publisher) Plan(ctx context.Context, image publish.Image, _ publish.State) (*publish.Plan, error) {
	c, err := p.connect(ctx)
	if err != nil {
		return nil, err
	}
	j := &job{client: c, target: &p.target, image: image}
	j.name, err = p.target.TemplateName(v1alpha1.TemplateValues{
		Image: image.Name, OSDistro: image.Distro, OSVersion: image.DistroVersion, OSRelease: strings.ReplaceAll(image.DistroVersion, ".", ""),
		KubernetesVersion: image.Kubernetes, Architecture: image.Architecture,
	})
	if err != nil {
		return nil, fmt.Errorf("name: %w", err)
	}
	plan := &publish.Plan{Place: p.Place(), Image: image.Digest, Classify: classify}
	if p.target.As == v1alpha1.AsLibraryItem {
		return plan, j.planItem(ctx, plan)
	}
	if j.place, err = locate(ctx, c, &p.target); err != nil {
		return nil, err
	}
	if err := j.place.locateHardware(ctx, &p.target); err != nil {
		return nil, err
	}
	return plan, j.planTemplate(ctx, plan)
}

// List returns the templates that cluster tooling would find, and this project's
// items of the target's content library.
func (p *Publisher) List(ctx context.Context) ([]publish.Published, error) {
	c, err := p.connect(ctx)
	if err != nil {
		return nil, err
	}
	if p.target.As == v1alpha1.AsLibraryItem {
		return listItems(ctx, c, p.target.Library, p.Place())
	}
	here, err := locate(ctx, c, &p.target)
	if err != nil {
		return nil, err
	}
	all, err := machines(ctx, c, here.datacenter.Reference(), true)
	if err != nil {
		return nil, err
	}
	var list []publish.Published
	for i := range all {
		m := &all[i]
		properties := m.properties(ova.CAPICategory)
		if m.digest() == "" && (!m.Config.Template || properties["VERSION"] == "") {
			continue
		}
		attributes := m.attributes()
		published := publish.Published{
			Place: p.Place(), Kind: "template", ID: m.Self.Value, Name: m.Name, Digest: m.digest(),
			Kubernetes: attributes[publish.TagKubernetes], Level: attributes[publish.TagLevel], UsedBy: m.usedBy(all),
		}
		if published.Kubernetes == "" {
			published.Kubernetes = properties["KUBERNETES_SEMVER"]
		}
		if m.Config.CreateDate != nil {
			published.Created = *m.Config.CreateDate
		}
		list = append(list, published)
	}
	return list, nil
}

// Retract says what taking an image away takes.
func (p *Publisher) Retract(ctx context.Context, image digest.Digest, _ publish.State) (*publish.Plan, error) {
	c, err := p.connect(ctx)
	if err != nil {
		return nil, err
	}
	plan := &publish.Plan{Place: p.Place(), Image: image, Classify: classify}
	if p.target.As == v1alpha1.AsLibraryItem {
		return plan, retractItems(ctx, c, p.target.Library, plan)
	}
	here, err := locate(ctx, c, &p.target)
	if err != nil {
		return nil, err
	}
	all, err := machines(ctx, c, here.datacenter.Reference(), true)
	if err != nil {
		return nil, err
	}
	var last []string
	for i := range all {
		if all[i].digest() != image {
			continue
		}
		step := removal(c, here, &all[i], all)
		if remove := step.Do; remove != nil {
			step.Do = func(ctx context.Context, run *publish.Run) error {
				if err := remove(ctx, run); err != nil {
					return err
				}
				return forget(run)
			}
		}
		plan.Steps = append(plan.Steps, step)
		if step.Do != nil {
			last = append(last, step.ID)
		}
	}
	if len(last) == len(plan.Steps) { // nothing is kept
		err = addTagRemoval(ctx, c, image, last, plan)
	}
	return plan, err
}

// removal takes a machine away unless something uses it.
func removal(c *client, here *place, m *machine, all []machine) publish.Step {
	ref, image := m.Self, m.digest()
	step := publish.Step{ID: "remove/" + ref.Value, Action: publish.Delete, Kind: "template", Name: m.Name}
	if users := m.usedBy(all); len(users) > 0 {
		step.Action, step.Why = publish.Keep, inUse(users)
		return step
	}
	step.Do = func(ctx context.Context, _ *publish.Run) error {
		now, err := machines(ctx, c, here.datacenter.Reference(), true)
		if err != nil {
			return err
		}
		for i := range now {
			if now[i].Self != ref {
				continue
			}
			if users := now[i].usedBy(now); len(users) > 0 { // since the plan was made
				return fmt.Errorf("it is %s", inUse(users))
			}
			if err := detachTag(ctx, c, image, ref); err != nil {
				return err
			}
			if err := destroy(ctx, c, ref); err != nil {
				return err
			}
		}
		return dropTag(ctx, c, image)
	}
	return step
}

// steps are those that publish a template or an item, by ID.
var steps = []string{"import", "hardware", "snapshot", "describe", "template", "retire", "name"}

// forget takes back what the journal says of a template that is gone.
func forget(run *publish.Run) error {
	var err error
	for _, id := range steps {
		err = errors.Join(err, run.Forget(id))
	}
	return err
}

func inUse(users []string) string {
	const most = 5
	if n := len(users); n > most {
		return fmt.Sprintf("in use by %s and %d more", strings.Join(users[:most], ", "), n-most)
	}
	return "in use by " + strings.Join(users, ", ")
}

// dataBytes is how much of a disk is data: compressed, the upload has less.
func dataBytes(disk format.Source) (sum int64, err error) {
	for at := int64(0); at < disk.Size(); {
		extent, err := disk.NextData(at)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return 0, fmt.Errorf("read the disk: %w", err)
		}
		sum += extent.Length
		at = extent.End()
	}
	return sum, nil
}

// reference makes a virtual machine's reference of its ID.
func reference(id string) types.ManagedObjectReference {
	return types.ManagedObjectReference{Type: "VirtualMachine", Value: id}
}
