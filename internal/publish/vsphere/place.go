package vsphere

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/vmware/govmomi/find"
	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/vim25/types"

	"nodesmith.dev/nodesmith/api/v1alpha1"
	"nodesmith.dev/nodesmith/internal/fault"
)

// place is where in a vCenter's inventory an image goes.
type place struct {
	datacenter *object.Datacenter
	folder     *object.Folder
	pool       *object.ResourcePool
	datastore  *object.Datastore  // nil with a pod
	pod        *object.StoragePod // nil with a datastore
	finder     *find.Finder
}

// locate finds the objects that a target names.
func locate(ctx context.Context, c *client, t *v1alpha1.VSphereTarget) (*place, error) {
	p := &place{finder: find.NewFinder(c.Client)}
	var err error
	if p.datacenter, err = p.finder.DatacenterOrDefault(ctx, t.Datacenter); err != nil {
		return nil, missing("datacenter", err)
	}
	p.finder.SetDatacenter(p.datacenter)
	if t.Folder == "" {
		folders, err := p.datacenter.Folders(ctx)
		if err != nil {
			return nil, missing("folder", err)
		}
		p.folder = folders.VmFolder
	} else if p.folder, err = p.finder.Folder(ctx, below(p.datacenter.InventoryPath+"/vm", t.Folder)); err != nil {
		return nil, missing("folder", err)
	}
	return p, nil
}

// locateHardware finds what only an import needs.
func (p *place) locateHardware(ctx context.Context, t *v1alpha1.VSphereTarget) (err error) {
	switch {
	case t.Cluster != "":
		cluster, err := p.finder.ComputeResource(ctx, t.Cluster)
		if err != nil {
			return missing("cluster", err)
		}
		if p.pool, err = cluster.ResourcePool(ctx); err != nil {
			return missing("cluster", err)
		}
	default:
		if p.pool, err = p.finder.ResourcePoolOrDefault(ctx, t.ResourcePool); err != nil {
			return missing("resourcePool", err)
		}
	}
	if t.DatastoreCluster != "" {
		if p.pod, err = p.finder.DatastoreCluster(ctx, t.DatastoreCluster); err != nil {
			return missing("datastoreCluster", err)
		}
		return nil
	}
	if p.datastore, err = p.finder.DatastoreOrDefault(ctx, t.Datastore); err != nil {
		return missing("datastore", err)
	}
	return nil
}

// below makes a name a path below a folder, unless it is a path already.
func below(folder, name string) string {
	if strings.HasPrefix(name, "/") {
		return name
	}
	return path.Join(folder, name)
}

// missing says which field of the target names nothing, or several things. Other
// errors are as they are.
func missing(field string, err error) error {
	_, none := errors.AsType[*find.NotFoundError](err)
	_, several := errors.AsType[*find.MultipleFoundError](err)
	_, noDefault := errors.AsType[*find.DefaultNotFoundError](err)
	_, manyDefaults := errors.AsType[*find.DefaultMultipleFoundError](err)
	switch {
	case none, several:
		return fault.New(fault.BadSpec, "govc find lists the inventory", "%s: %w", field, err)
	case noDefault, manyDefaults:
		return fault.New(fault.BadSpec, "say which one in the PublishTarget: "+field, "%s: %w", field, err)
	}
	return fmt.Errorf("%s: %w", field, err)
}

// networks map those of an OVA to the vCenter's.
func (p *place) networks(ctx context.Context, wanted map[string]string, names []string) ([]types.OvfNetworkMapping, error) {
	for _, name := range slices.Sorted(maps.Keys(wanted)) {
		if !slices.Contains(names, name) {
			return nil, fault.New(fault.BadSpec, "its networks: "+strings.Join(names, ", "), "networks: the OVA has no network %q", name)
		}
	}
	var mapped []types.OvfNetworkMapping
	for _, name := range names {
		network, err := p.network(ctx, name, wanted[name])
		if err != nil {
			return nil, missing("networks["+name+"]", err)
		}
		mapped = append(mapped, types.OvfNetworkMapping{Name: name, Network: network.Reference()})
	}
	return mapped, nil
}

// network finds the one that is named, else one of the OVA's name, else the only
// one.
func (p *place) network(ctx context.Context, name, wanted string) (object.NetworkReference, error) {
	if wanted != "" {
		return p.finder.Network(ctx, wanted)
	}
	network, err := p.finder.Network(ctx, name)
	if _, none := errors.AsType[*find.NotFoundError](err); none {
		return p.finder.DefaultNetwork(ctx)
	}
	return network, err
}

// choose returns the datastore for a virtual machine with a disk of size bytes: of a cluster the one that
// vSphere recommends.
func (p *place) choose(ctx context.Context, c *client, name string, size int64) (*object.Datastore, error) {
	if p.pod == nil {
		return p.datastore, nil
	}
	disk := &types.VirtualDisk{
		VirtualDevice: types.VirtualDevice{Key: -1, Backing: &types.VirtualDiskFlatVer2BackingInfo{
			DiskMode: string(types.VirtualDiskModePersistent), ThinProvisioned: types.NewBool(true),
		}},
		CapacityInKB: size >> 10, CapacityInBytes: size,
	}
	pod, pool, folder := p.pod.Reference(), p.pool.Reference(), p.folder.Reference()
	result, err := object.NewStorageResourceManager(c.Client).RecommendDatastores(ctx, types.StoragePlacementSpec{
		Type: string(types.StoragePlacementSpecPlacementTypeCreate), ResourcePool: &pool, Folder: &folder,
		PodSelectionSpec: types.StorageDrsPodSelectionSpec{
			StoragePod: &pod,
			InitialVmConfig: []types.VmPodConfigForPlacement{{
				StoragePod: pod, Disk: []types.PodDiskLocator{{DiskId: disk.Key, DiskBackingInfo: disk.Backing}},
			}},
		},
		ConfigSpec: &types.VirtualMachineConfigSpec{
			Name: name, GuestId: string(types.VirtualMachineGuestOsIdentifierOtherLinux64Guest), NumCPUs: 1, MemoryMB: 512,
			Files: &types.VirtualMachineFileInfo{},
			DeviceChange: []types.BaseVirtualDeviceConfigSpec{&types.VirtualDeviceConfigSpec{
				Operation: types.VirtualDeviceConfigSpecOperationAdd, FileOperation: types.VirtualDeviceConfigSpecFileOperationCreate, Device: disk,
			}},
		},
	})
	if err != nil {
		return nil, fmt.Errorf("datastoreCluster: %w", err)
	}
	for _, recommendation := range result.Recommendations {
		for _, action := range recommendation.Action {
			if placement, ok := action.(*types.StoragePlacementAction); ok {
				return object.NewDatastore(c.Client, placement.Destination), nil
			}
		}
	}
	return nil, fault.New(fault.Remote, "is Storage DRS on, and is a datastore of it free?", "datastoreCluster %s: vSphere recommends no datastore of it", p.pod.Name())
}
