package azure

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/to"
	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/compute/armcompute/v7"
	"golang.org/x/mod/semver"

	"nodesmith.dev/nodesmith/api/v1alpha1"
	"nodesmith.dev/nodesmith/internal/fault"
	"nodesmith.dev/nodesmith/internal/publish"
)

// buildsPerPatch is how many builds there can be for one version of Kubernetes.
// The third number of a version's name is the patch level times this plus the
// number of the build, from 1: 1.34.2000001 is the first for v1.34.2. So the
// newest build of the newest patch is the latest for Azure, and patch levels up
// to 2146 fit into 31 bits.
const buildsPerPatch = 1_000_000

// number is the name of a version of an image.
type number [3]int64

func (n number) String() string { return fmt.Sprintf("%d.%d.%d", n[0], n[1], n[2]) }

func (n number) compare(other number) int { return slices.Compare(n[:], other[:]) }

// parseNumber reads the name of a version.
func parseNumber(name string) (n number, ok bool) {
	parts := strings.Split(name, ".")
	if len(parts) != len(n) {
		return n, false
	}
	for i, part := range parts {
		value, err := strconv.ParseInt(part, 10, 32)
		if err != nil || value < 0 {
			return n, false
		}
		n[i] = value
	}
	return n, true
}

// nextNumber names the next build for a version of Kubernetes: one more than the
// highest that is there or was.
func nextNumber(kubernetes string, names []string) (number, error) {
	var n number
	canonical := semver.Canonical(kubernetes)
	first, ok := parseNumber(strings.TrimPrefix(canonical, "v"))
	if !ok { // v1.27.5+vmware.1 is 1.27.5, a pre-release has no place
		return n, fault.New(fault.BadSpec, "set gallery.version", "no name of a version in a gallery follows from Kubernetes %s", kubernetes)
	}
	base := first[2] * buildsPerPatch
	n = number{first[0], first[1], base + 1}
	for _, name := range names {
		if other, ok := parseNumber(name); ok && other[0] == n[0] && other[1] == n[1] && other[2] >= n[2] && other[2] < base+buildsPerPatch {
			n[2] = other[2] + 1
		}
	}
	if n[2] >= base+buildsPerPatch || n[2] > 1<<31-1 {
		return n, fault.New(fault.BadSpec, "set gallery.version, or gallery.definition", "all names of versions for Kubernetes %s are used up", kubernetes)
	}
	return n, nil
}

// excluded says whether machines that ask for the latest version don't get this
// one, and why.
func excluded(g *v1alpha1.AzureGallery, image *publish.Image) (bool, string) {
	switch {
	case g.ExcludeFromLatest:
		return true, "the target says so"
	case image.Level < publish.Boot:
		return true, "it is " + image.Level.String() + ", not boot"
	}
	return false, ""
}

// profile is what the target wants of a version.
func profile(g *v1alpha1.AzureGallery, image *publish.Image) (*armcompute.GalleryImageVersionPublishingProfile, error) {
	endOfLife, err := day(g.EndOfLife)
	if err != nil {
		return nil, err
	}
	exclude, _ := excluded(g, image)
	p := &armcompute.GalleryImageVersionPublishingProfile{ExcludeFromLatest: to.Ptr(exclude), EndOfLifeDate: endOfLife}
	for _, region := range g.Regions {
		p.TargetRegions = append(p.TargetRegions, &armcompute.TargetRegion{
			Name: to.Ptr(region.Name), RegionalReplicaCount: to.Ptr(int32(region.Replicas)),
			StorageAccountType: to.Ptr(armcompute.StorageAccountType(region.StorageType)),
			ExcludeFromLatest:  to.Ptr(exclude || region.ExcludeFromLatest),
		})
	}
	return p, nil
}

// versionBody is the request that makes a version.
func versionBody(target v1alpha1.AzureTarget, source *armcompute.GalleryDiskImageSource, image *publish.Image) (armcompute.GalleryImageVersion, error) {
	wanted, err := profile(target.Gallery, image)
	if err != nil {
		return armcompute.GalleryImageVersion{}, err
	}
	wanted.ReplicationMode = to.Ptr(armcompute.ReplicationModeFull) // what it is made of is deleted
	return armcompute.GalleryImageVersion{
		Location: to.Ptr(target.Location), Tags: tagsOf(image),
		Properties: &armcompute.GalleryImageVersionProperties{
			PublishingProfile: wanted,
			StorageProfile: &armcompute.GalleryImageVersionStorageProfile{
				OSDiskImage: &armcompute.GalleryOSDiskImage{HostCaching: to.Ptr(armcompute.HostCachingReadOnly), Source: source},
			},
			SafetyProfile: &armcompute.GalleryImageVersionSafetyProfile{AllowDeletionOfReplicatedLocations: to.Ptr(true)},
		},
	}, nil
}

// versionsOf returns the versions of a definition.
func (p *Publisher) versionsOf(ctx context.Context, definition string) (all []*armcompute.GalleryImageVersion, err error) {
	pager := p.api.versions.NewListByGalleryImagePager(p.target.ResourceGroup, p.target.Gallery.Name, definition, nil)
	err = eachPage(ctx, pager, func(page armcompute.GalleryImageVersionsClientListByGalleryImageResponse) {
		for _, v := range page.Value {
			if v != nil && v.Properties != nil {
				all = append(all, v)
			}
		}
	})
	return all, explain(err)
}

func (p *Publisher) version(ctx context.Context, definition, name string) (*armcompute.GalleryImageVersion, error) {
	answer, err := get(ctx, func(ctx context.Context) (armcompute.GalleryImageVersionsClientGetResponse, error) {
		return p.api.versions.Get(ctx, p.target.ResourceGroup, p.target.Gallery.Name, definition, name,
			&armcompute.GalleryImageVersionsClientGetOptions{Expand: to.Ptr(armcompute.ReplicationStatusTypesReplicationStatus)})
	})
	if err != nil || answer == nil {
		return nil, err
	}
	if answer.Properties == nil {
		answer.Properties = &armcompute.GalleryImageVersionProperties{}
	}
	return &answer.GalleryImageVersion, nil
}

// makeVersion makes a version, or waits for one that an earlier run asked for.
func (p *Publisher) makeVersion(ctx context.Context, run *publish.Run, definition, name string, source *armcompute.GalleryDiskImageSource, image *publish.Image) error {
	found, err := p.settled(ctx, run, definition, name)
	if err != nil {
		return err
	}
	if found != nil {
		if other := tag(found.Tags, publish.TagDigest); other != image.Digest.String() {
			return fault.New(fault.Remote, "run the same command again", "the version %s of %s was made of another image meanwhile", name, definition)
		}
		if deref(found.Properties.ProvisioningState) == armcompute.GalleryProvisioningStateSucceeded {
			return nil
		}
		// A failed one does not recover; the answer to the next try says why.
		if err := p.deleteVersion(ctx, run, definition, name); err != nil {
			return err
		}
	}
	body, err := versionBody(p.target, source, image)
	if err != nil {
		return err
	}
	poller, err := p.api.versions.BeginCreateOrUpdate(ctx, p.target.ResourceGroup, p.target.Gallery.Name, definition, name, body, nil)
	if _, err := await(ctx, run, p.api.poll, poller, err); err != nil {
		return err
	}
	return p.replicated(ctx, run, definition, name)
}

// settled returns a version when nothing is done to it any more; nil for none.
func (p *Publisher) settled(ctx context.Context, run *publish.Run, definition, name string) (*armcompute.GalleryImageVersion, error) {
	for {
		found, err := p.version(ctx, definition, name)
		if err != nil || found == nil {
			return nil, err
		}
		switch deref(found.Properties.ProvisioningState) {
		case armcompute.GalleryProvisioningStateSucceeded, armcompute.GalleryProvisioningStateFailed:
			return found, nil
		}
		run.Alive()
		if err := sleep(ctx, p.api.poll); err != nil {
			return nil, err
		}
	}
}

// replicated waits until each region has its replicas.
func (p *Publisher) replicated(ctx context.Context, run *publish.Run, definition, name string) error {
	found, err := p.settled(ctx, run, definition, name)
	if err != nil {
		return err
	}
	if found == nil {
		return fmt.Errorf("the version %s of %s is not there although it was made", name, definition)
	}
	if state := deref(found.Properties.ProvisioningState); state != armcompute.GalleryProvisioningStateSucceeded {
		return fault.New(fault.Remote, "run the same command again: the version is made anew", "the version %s of %s is %s", name, definition, state)
	}
	if status := found.Properties.ReplicationStatus; status != nil {
		for _, region := range status.Summary {
			if region != nil && deref(region.State) == armcompute.ReplicationStateFailed {
				return fault.New(fault.Remote, "run the same command again, or leave that region out", "replication to %s failed: %s", deref(region.Region), deref(region.Details))
			}
		}
	}
	return nil
}

func (p *Publisher) deleteVersion(ctx context.Context, run *publish.Run, definition, name string) error {
	poller, err := p.api.versions.BeginDelete(ctx, p.target.ResourceGroup, p.target.Gallery.Name, definition, name, nil)
	if _, err = await(ctx, run, p.api.poll, poller, err); isNotFound(err) {
		return nil
	}
	return err
}

// change says what of a version that is there is not as the target wants it, ""
// for nothing.
func change(found *armcompute.GalleryImageVersion, target v1alpha1.AzureTarget, image *publish.Image) (string, error) {
	wanted, err := profile(target.Gallery, image)
	if err != nil {
		return "", err
	}
	have := deref(found.Properties.PublishingProfile)
	var changes []string
	if deref(have.ExcludeFromLatest) != *wanted.ExcludeFromLatest {
		changes = append(changes, fmt.Sprintf("excludeFromLatest %t", *wanted.ExcludeFromLatest))
	}
	if wanted.EndOfLifeDate != nil && !deref(have.EndOfLifeDate).Equal(*wanted.EndOfLifeDate) {
		changes = append(changes, "end of life "+target.Gallery.EndOfLife)
	}
	there := map[string]*armcompute.TargetRegion{}
	for _, region := range have.TargetRegions {
		if region != nil {
			there[regionKey(deref(region.Name))] = region
		}
	}
	for _, region := range wanted.TargetRegions {
		has := there[regionKey(*region.Name)]
		if has == nil || deref(has.RegionalReplicaCount) != *region.RegionalReplicaCount || deref(has.ExcludeFromLatest) != *region.ExcludeFromLatest {
			changes = append(changes, "region "+*region.Name)
		}
		delete(there, regionKey(*region.Name))
	}
	if len(there) > 0 {
		changes = append(changes, "regions less")
	}
	if level := image.Level.String(); tag(found.Tags, publish.TagLevel) != level {
		changes = append(changes, "level "+level)
	}
	return strings.Join(changes, ", "), nil
}

// regionKey is a region's name as Azure compares it: "West Europe" is westeurope.
func regionKey(name string) string { return strings.ToLower(strings.ReplaceAll(name, " ", "")) }

// updateVersion makes a version be as the target wants it.
func (p *Publisher) updateVersion(ctx context.Context, run *publish.Run, definition, name string, image *publish.Image) error {
	found, err := p.settled(ctx, run, definition, name)
	if err != nil {
		return err
	}
	if found == nil {
		return fault.New(fault.Remote, "run the same command again", "the version %s of %s has gone", name, definition)
	}
	wanted, err := profile(p.target.Gallery, image)
	if err != nil {
		return err
	}
	tags := found.Tags
	if tags == nil {
		tags = map[string]*string{}
	}
	for name, value := range tagsOf(image) {
		tags[name] = value
	}
	poller, err := p.api.versions.BeginUpdate(ctx, p.target.ResourceGroup, p.target.Gallery.Name, definition, name, armcompute.GalleryImageVersionUpdate{
		Tags: tags,
		Properties: &armcompute.GalleryImageVersionProperties{
			PublishingProfile: wanted, StorageProfile: &armcompute.GalleryImageVersionStorageProfile{},
		},
	}, nil)
	if _, err := await(ctx, run, p.api.poll, poller, err); err != nil {
		return err
	}
	return p.replicated(ctx, run, definition, name)
}
