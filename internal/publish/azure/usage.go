package azure

import (
	"context"
	"strings"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"
	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/compute/armcompute/v7"
)

// usage is which machines and scale sets of the subscription are made of which
// images, by ID in lower case.
type usage map[string][]string

// by returns what uses an image.
func (u usage) by(id string) []string { return u[strings.ToLower(id)] }

func (u usage) add(id, user string) {
	if id != "" {
		id = strings.ToLower(id)
		u[id] = append(u[id], user)
	}
}

// note adds what a machine or scale set is made of. One that asks for the latest
// version is made of the version that it got, or, for a scale set, of the one
// that it would get next: latest says which.
func (u usage) note(reference *armcompute.ImageReference, user string, latest func(definition string) string) {
	if reference == nil {
		return
	}
	id := deref(reference.ID)
	if isDefinition(id) {
		version := deref(reference.ExactVersion)
		if version == "" && latest != nil {
			version = latest(id)
		}
		if version == "" {
			return
		}
		id += "/versions/" + version
	}
	u.add(id, user)
}

// isDefinition says whether an ID is that of an image definition in a gallery.
func isDefinition(id string) bool {
	parts := strings.Split(strings.ToLower(strings.Trim(id, "/")), "/")
	return len(parts) >= 4 && parts[len(parts)-4] == "galleries" && parts[len(parts)-2] == "images"
}

// usage asks which machines and scale sets there are in the subscription. Those
// of others, with whom a gallery is shared, can't be seen.
func (p *Publisher) usage(ctx context.Context, latest func(definition string) string) (usage, error) {
	used := usage{}
	err := eachPage(ctx, p.api.machines.NewListAllPager(nil), func(page armcompute.VirtualMachinesClientListAllResponse) {
		for _, vm := range page.Value {
			if vm != nil && vm.Properties != nil && vm.Properties.StorageProfile != nil {
				used.note(vm.Properties.StorageProfile.ImageReference, "machine "+nameOf(vm.ID, vm.Name), nil)
			}
		}
	})
	if err != nil {
		return nil, explain(err)
	}
	err = eachPage(ctx, p.api.scaleSets.NewListAllPager(nil), func(page armcompute.VirtualMachineScaleSetsClientListAllResponse) {
		for _, set := range page.Value {
			if set == nil || set.Properties == nil || set.Properties.VirtualMachineProfile == nil || set.Properties.VirtualMachineProfile.StorageProfile == nil {
				continue
			}
			used.note(set.Properties.VirtualMachineProfile.StorageProfile.ImageReference, "scale set "+nameOf(set.ID, set.Name), latest)
		}
	})
	return used, explain(err)
}

// nameOf is a machine's resource group and name, as its ID has them.
func nameOf(id, name *string) string {
	parts := strings.Split(strings.Trim(deref(id), "/"), "/")
	if len(parts) >= 4 {
		return parts[3] + "/" + deref(name)
	}
	return deref(name)
}

// eachPage calls do with each page of an answer.
func eachPage[T any](ctx context.Context, pager *runtime.Pager[T], do func(T)) error {
	for pager.More() {
		page, err := pager.NextPage(ctx)
		if err != nil {
			return err
		}
		do(page)
	}
	return nil
}
