package vsphere

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/vim25/types"

	"nodesmith.dev/nodesmith/api/v1alpha1"
	"nodesmith.dev/nodesmith/internal/fault"
	"nodesmith.dev/nodesmith/internal/publish"
)

// folder is what a plan looks at: the machines of the target's folder.
type folder struct {
	// mine is the image's, finished or not; nil if it is not there.
	mine *machine
	// other has the name that mine shall have.
	other *machine
	// replaced are those that had it.
	replaced []*machine
}

// look lists the folder.
func (j *job) look(ctx context.Context) (*folder, error) {
	all, err := machines(ctx, j.client, j.place.folder.Reference(), false)
	if err != nil {
		return nil, err
	}
	f := &folder{}
	for i := range all {
		m := &all[i]
		switch {
		case m.digest() == j.image.Digest && m.settings[nameSetting] == j.name:
			if f.mine == nil || m.whole() {
				f.mine = m
			}
		case m.Name == j.name:
			f.other = m
		case strings.HasPrefix(m.Name, replacedName(j.name, "")):
			f.replaced = append(f.replaced, m)
		}
	}
	return f, nil
}

// ready returns the finished import, for the steps that come after it.
func (j *job) ready(ctx context.Context) (*machine, *object.VirtualMachine, error) {
	f, err := j.look(ctx)
	if err != nil {
		return nil, nil, err
	}
	if f.mine == nil || !f.mine.whole() {
		return nil, nil, errNotThere
	}
	return f.mine, object.NewVirtualMachine(j.Client, f.mine.Self), nil
}

// planTemplate fills in the steps that make a template.
func (j *job) planTemplate(ctx context.Context, plan *publish.Plan) error {
	f, err := j.look(ctx)
	if err != nil {
		return err
	}
	if f.other != nil && !j.target.Replace {
		return fault.New(fault.Usage, "set replace: true in the PublishTarget, or another name", "%s is there already%s", j.name, madeOf(f.other))
	}
	for _, name := range slices.Sorted(maps.Keys(j.target.Networks)) {
		if _, err := j.place.finder.Network(ctx, j.target.Networks[name]); err != nil {
			return missing("networks["+name+"]", err)
		}
	}
	whole := f.mine != nil && f.mine.whole()
	imported, err := j.importStep(f.mine)
	if err != nil {
		return err
	}
	b := builder{plan: plan, name: j.name}
	b.add(imported)
	changed := false // what a template must not be for
	if n := j.target.HardwareVersion; n != 0 {
		old := !whole || hardware(f.mine.Config.Version) < int(n)
		changed = changed || old
		b.add(choose(!old, publish.Step{ID: "hardware", Action: publish.Change, Kind: "hardware version", Why: "to vmx-" + n.String(), Do: j.upgrade}))
	}
	if j.target.Clones == v1alpha1.LinkedClones {
		bare := !whole || f.mine.Snapshot == nil
		changed = changed || bare
		b.add(choose(!bare, publish.Step{ID: "snapshot", Action: publish.Create, Kind: "snapshot", Do: j.snapshot}))
	}
	described := false
	if whole {
		if described, err = j.described(ctx, f.mine); err != nil {
			return err
		}
	}
	b.add(choose(described, publish.Step{ID: "describe", Action: publish.Change, Kind: "attributes and tags", Do: j.describe}))
	b.add(choose(whole && f.mine.Config.Template && !changed, publish.Step{ID: "template", Action: publish.Change, Kind: "mark as template", Do: j.mark}))
	if f.other != nil {
		b.add(publish.Step{ID: "retire", Action: publish.Change, Kind: "name of the old template", Why: "replaced" + madeOf(f.other), Do: j.retire})
	}
	b.add(choose(whole && f.mine.Name == j.name, publish.Step{ID: "name", Action: publish.Change, Kind: "name", Do: j.rename}))
	return j.planRemovals(ctx, f, &b)
}

// builder puts steps one behind the other.
type builder struct {
	plan *publish.Plan
	name string
	last string
}

func (b *builder) add(s publish.Step) {
	if s.Name == "" {
		s.Name = b.name
	}
	if b.last != "" {
		s.Needs = []string{b.last}
	}
	b.last = s.ID
	b.plan.Steps = append(b.plan.Steps, s)
}

// choose returns the step, or that its thing exists.
func choose(exists bool, s publish.Step) publish.Step {
	if exists {
		s.Action, s.Bytes, s.Why, s.Do = publish.Exists, 0, "", nil
	}
	return s
}

// planRemovals adds the templates that the image replaces.
func (j *job) planRemovals(ctx context.Context, f *folder, b *builder) error {
	old := f.replaced
	if f.other != nil {
		old = append(old, f.other)
	}
	if len(old) == 0 {
		return nil
	}
	all, err := machines(ctx, j.client, j.place.datacenter.Reference(), true)
	if err != nil {
		return err
	}
	for _, m := range old {
		b.add(removal(j.client, j.place, m, all))
	}
	return nil
}

// madeOf says what a machine was made of, for messages.
func madeOf(m *machine) string {
	if image := m.digest(); image != "" {
		return ", made of " + image.String()
	}
	return ", made by others"
}

// hardware is the N of vmx-N.
func hardware(version string) int {
	var n int
	if _, err := fmt.Sscanf(version, "vmx-%d", &n); err != nil {
		return 0
	}
	return n
}

// upgrade raises the hardware version.
func (j *job) upgrade(ctx context.Context, _ *publish.Run) error {
	m, vm, err := j.ready(ctx)
	if err != nil {
		return err
	}
	if hardware(m.Config.Version) >= int(j.target.HardwareVersion) {
		return nil
	}
	if err := j.unmark(ctx, m, vm); err != nil {
		return err
	}
	return wait(ctx)(vm.UpgradeVM(ctx, "vmx-"+j.target.HardwareVersion.String()))
}

// snapshotName is what linked clones begin at; clusterctl's documentation and
// govc take any name.
const snapshotName = "nodesmith"

// snapshot makes the snapshot that linked clones share.
func (j *job) snapshot(ctx context.Context, run *publish.Run) error {
	m, vm, err := j.ready(ctx)
	if err != nil {
		return err
	}
	if m.Snapshot != nil {
		return nil
	}
	if err := j.unmark(ctx, m, vm); err != nil {
		return err
	}
	if err := wait(ctx)(vm.CreateSnapshot(ctx, snapshotName, "Linked clones begin here: Cluster API takes it for cloneMode linkedClone.", false, false)); err != nil {
		return err
	}
	return run.Note("snapshot", snapshotName)
}

// unmark makes a virtual machine of a template again: vSphere changes no
// templates.
func (j *job) unmark(ctx context.Context, m *machine, vm *object.VirtualMachine) error {
	if !m.Config.Template {
		return nil
	}
	return vm.MarkAsVirtualMachine(ctx, *j.place.pool, nil)
}

// mark makes the virtual machine a template.
func (j *job) mark(ctx context.Context, _ *publish.Run) error {
	m, vm, err := j.ready(ctx)
	if err != nil || m.Config.Template {
		return err
	}
	return vm.MarkAsTemplate(ctx)
}

// retire gives the template that has the name another one.
func (j *job) retire(ctx context.Context, run *publish.Run) error {
	f, err := j.look(ctx)
	if err != nil || f.other == nil {
		return err
	}
	retired := replacedName(j.name, f.other.Self.Value)
	if err := run.Note("vm", f.other.Self.Value); err != nil {
		return err
	}
	return wait(ctx)(object.NewVirtualMachine(j.Client, f.other.Self).Rename(ctx, retired))
}

// rename gives the template its name: from here on it is found.
func (j *job) rename(ctx context.Context, _ *publish.Run) error {
	m, vm, err := j.ready(ctx)
	if err != nil || m.Name == j.name {
		return err
	}
	return wait(ctx)(vm.Rename(ctx, j.name))
}

// wait waits for a task.
func wait(ctx context.Context) func(*object.Task, error) error {
	return func(task *object.Task, err error) error {
		if err != nil {
			return err
		}
		return task.Wait(ctx)
	}
}

// mark that the machine is whole: from here on it is this image.
func (j *job) finish(ctx context.Context, vm *object.VirtualMachine, uuid string) error {
	return wait(ctx)(vm.Reconfigure(ctx, types.VirtualMachineConfigSpec{
		ExtraConfig: []types.BaseOptionValue{&types.OptionValue{Key: selfSetting, Value: uuid}},
	}))
}
