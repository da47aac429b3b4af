package vsphere

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/opencontainers/go-digest"
	vfault "github.com/vmware/govmomi/fault"
	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/view"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"
)

// The settings of a virtual machine that say what it is. They are there from the
// moment that the machine is, unlike custom attributes and tags; a guest can't
// read them.
const (
	digestSetting = "nodesmith.digest"
	nameSetting   = "nodesmith.name" // what it will be called
	// selfSetting is the machine's own instance UUID, once it is whole: clones
	// inherit all settings, but not the UUID.
	selfSetting = "nodesmith.self"
)

// machineProperties are what is asked of virtual machines.
var machineProperties = []string{
	"name", "config.template", "config.extraConfig", "config.instanceUuid", "config.version", "config.vAppConfig", "config.createDate",
	"config.hardware.device", "snapshot", "customValue", "availableField",
}

// machine is a virtual machine or a template.
type machine struct {
	mo.VirtualMachine
	settings map[string]string
}

// machines lists those in a folder, or in all below it.
func machines(ctx context.Context, c *client, folder types.ManagedObjectReference, recursive bool) (_ []machine, err error) {
	v, err := view.NewManager(c.Client).CreateContainerView(ctx, folder, []string{"VirtualMachine"}, recursive)
	if err != nil {
		return nil, fmt.Errorf("list virtual machines: %w", err)
	}
	defer func() {
		if destroyed := v.Destroy(context.WithoutCancel(ctx)); err == nil && destroyed != nil && !gone(destroyed) {
			err = fmt.Errorf("list virtual machines: %w", destroyed)
		}
	}()
	var all []mo.VirtualMachine
	if err := v.Retrieve(ctx, []string{"VirtualMachine"}, machineProperties, &all); err != nil {
		return nil, fmt.Errorf("list virtual machines: %w", err)
	}
	list := make([]machine, 0, len(all))
	for _, vm := range all {
		if vm.Config == nil {
			continue // being made, or out of reach
		}
		m := machine{vm, map[string]string{}}
		for _, option := range vm.Config.ExtraConfig {
			if o := option.GetOptionValue(); strings.HasPrefix(o.Key, "nodesmith.") {
				m.settings[o.Key] = fmt.Sprint(o.Value)
			}
		}
		list = append(list, m)
	}
	return list, nil
}

// gone says whether what an error is about is not there any more.
func gone(err error) bool { return vfault.Is(err, &types.ManagedObjectNotFound{}) }

// whole says whether the machine is a finished import of this project's, and no
// clone of one.
func (m *machine) whole() bool {
	return m.settings[selfSetting] != "" && m.settings[selfSetting] == m.Config.InstanceUuid
}

// partial says whether the machine is an import that was not finished.
func (m *machine) partial() bool {
	return m.settings[digestSetting] != "" && m.settings[selfSetting] == "" && !m.Config.Template &&
		m.Name == importName(m.settings[nameSetting], digest.Digest(m.settings[digestSetting]))
}

// digest is of the image that the machine was made of; "" if not by this project.
func (m *machine) digest() digest.Digest {
	if m.whole() || m.partial() {
		return digest.Digest(m.settings[digestSetting])
	}
	return ""
}

// maxBase is how much of a name stands before what is appended to it: vSphere's
// names have up to 80 characters.
const maxBase = 56

// importName is what an import is called until it is ready.
func importName(name string, image digest.Digest) string {
	return name[:min(len(name), maxBase)] + ".new-" + short(image)
}

// replacedName is what a replaced template of a name is called, and how such
// names begin.
func replacedName(name, id string) string { return name[:min(len(name), maxBase)] + ".replaced-" + id }

// short is enough of a digest to tell images of one name apart.
func short(image digest.Digest) string {
	_, hex, _ := strings.Cut(image.String(), ":")
	return hex[:min(len(hex), 12)]
}

// properties are the OVF properties of a category.
func (m *machine) properties(category string) map[string]string {
	values := map[string]string{}
	if m.Config.VAppConfig == nil {
		return values
	}
	for _, p := range m.Config.VAppConfig.GetVmConfigInfo().Property {
		if p.Category == category {
			values[p.Id] = p.DefaultValue
		}
	}
	return values
}

// attributes are the machine's custom attributes, by name.
func (m *machine) attributes() map[string]string {
	names := map[int32]string{}
	for _, f := range m.AvailableField {
		names[f.Key] = f.Name
	}
	values := map[string]string{}
	for _, v := range m.CustomValue {
		if s, ok := v.(*types.CustomFieldStringValue); ok {
			values[names[s.Key]] = s.Value
		}
	}
	return values
}

// disks are the files that the machine's disks consist of, those that it shares
// with what it was cloned from included.
func (m *machine) disks() []string {
	var files []string
	for _, device := range object.VirtualDeviceList(m.Config.Hardware.Device).SelectByType((*types.VirtualDisk)(nil)) {
		backing, ok := device.GetVirtualDevice().Backing.(*types.VirtualDiskFlatVer2BackingInfo)
		for ok && backing != nil {
			files = append(files, backing.FileName)
			backing = backing.Parent
		}
	}
	return files
}

// usedBy names the machines that have a disk in common with this one.
func (m *machine) usedBy(all []machine) []string {
	mine := map[string]bool{}
	for _, file := range m.disks() {
		mine[file] = true
	}
	var names []string
	for i := range all {
		if all[i].Self == m.Self {
			continue
		}
		for _, file := range all[i].disks() {
			if mine[file] {
				names = append(names, all[i].Name)
				break
			}
		}
	}
	return names
}

// destroy takes a machine away; nothing is wrong if it is not there.
func destroy(ctx context.Context, c *client, ref types.ManagedObjectReference) error {
	task, err := object.NewVirtualMachine(c.Client, ref).Destroy(ctx)
	if err == nil {
		err = task.Wait(ctx)
	}
	if err != nil && !gone(err) {
		return fmt.Errorf("destroy %s: %w", ref.Value, err)
	}
	return nil
}

// errNotThere says that a step finds nothing to work on.
var errNotThere = errors.New("the imported virtual machine is not there any more")
