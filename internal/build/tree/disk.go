package tree

import (
	"cmp"
	"context"
	"os"
	"path"
	"slices"

	"github.com/moby/buildkit/client/llb"

	"nodesmith.dev/nodesmith/internal/disk"
	"nodesmith.dev/nodesmith/internal/distro"
	"nodesmith.dev/nodesmith/internal/lock"
)

// treesDir is where step-disk finds the tree of each file system, by its label.
const treesDir = "/.nodesmith/trees"

// mountPointModes are the modes of mount points that the node has no directory
// for; others are 0755. etcd wants its own to be closed.
var mountPointModes = map[string]os.FileMode{"/var/lib/etcd": 0o700}

// whiteoutsDir is where step-disk finds the list of whiteouts.
const whiteoutsDir = "/.nodesmith/whiteouts"

// unread keeps BuildKit from reading all of what a step is given for its digest, in
// the hope of a result that was made of equal files: that takes longer than the step, and
// can't be interrupted.
var unread = llb.ContentCache(llb.MountContentCacheOff)

// Disk is the graph of a disk.
type Disk struct {
	// Map has the files of package diskmap. It follows from all that the disk does.
	Map llb.State
	// trees have the content of files, as Map says.
	trees []fileSystemTree
}

// fileSystemTree is the tree of a file system.
type fileSystemTree struct {
	label string
	in    llb.State
	dir   string // within it
	at    string // where steps find it
}

// mount brings the tree into a step.
func (t fileSystemTree) mount() llb.RunOption {
	options := []llb.MountOption{llb.Readonly, unread}
	if t.dir != "/" {
		options = append(options, llb.SourcePath(t.dir))
	}
	return llb.AddMount(t.at, t.in, options...)
}

// mounts bring all trees into a step.
func (d Disk) mounts() []llb.RunOption {
	var mounts []llb.RunOption
	for _, t := range d.trees {
		mounts = append(mounts, t.mount())
	}
	return mounts
}

// Disk lays out the tree of a node with that Kubernetes as a bootable disk.
func (b *Builder) Disk(ctx context.Context, title string, release distro.Release, tools, node llb.State, k Kubernetes, config disk.Config, l *lock.Lock) (Disk, error) {
	config.Output, config.Architecture = outDir, l.Architecture
	config.Features, config.FileLists = release.Ext4Features, release.FileLists
	for _, p := range l.Packages.Packages {
		config.Added = append(config.Added, p.Name, p.Name+":"+p.Architecture)
	}
	config.Boot = disk.Boot{
		GRUBModules: "/usr/lib/grub/i386-pc",
		EFI: disk.EFI{
			Vendor: release.Boot.Vendor, Shim: release.Boot.Shim,
			GRUB: release.Boot.GRUB, MOKManager: release.Boot.MokManager,
		},
	}
	var d Disk
	config.Partitions, d.trees = separate(title, node, config.Partitions, l)
	mounts := d.mounts()
	if k.Whiteouts.Output() != nil { // else nothing was made that could have any
		config.Whiteouts = whiteoutsDir + "/" + WhiteoutsFile
		mounts = append(mounts, llb.AddMount(whiteoutsDir, k.Whiteouts, llb.Readonly))
	}
	exec, err := b.run(ctx, step{
		title: title, program: "disk", verb: "assemble", config: config, root: tools, epoch: l.Epoch, mounts: mounts,
	})
	if err != nil {
		return Disk{}, err
	}
	d.Map = exec.AddMount(outDir, llb.Scratch())
	return d, nil
}

// separate takes the node's tree apart: it returns the partitions with the tree
// of each file system, and the trees. A tree is a directory of the node in which the
// mount points of others are empty. Nothing is copied: what is emptied is hidden by a
// layer of its own.
func separate(title string, node llb.State, partitions []disk.Partition, l *lock.Lock) ([]disk.Partition, []fileSystemTree) {
	partitions = slices.Clone(partitions)
	var separated []*disk.FileSystem // with their own trees, parents first
	for i, p := range partitions {
		if p.FileSystem == nil {
			continue
		}
		f := *p.FileSystem
		f.Tree = path.Join(treesDir, f.Label)
		partitions[i].FileSystem = &f
		separated = append(separated, &f)
	}
	slices.SortFunc(separated, func(a, b *disk.FileSystem) int { return cmp.Compare(a.MountPoint, b.MountPoint) })
	root, others := separated[0], separated[1:]
	for _, f := range others {
		mode := cmp.Or(mountPointModes[f.MountPoint], 0o755)
		node = node.File(llb.Mkdir(f.MountPoint, mode, llb.WithParents(true), llb.WithCreatedTime(l.Epoch)),
			llb.WithCustomNamef("%s: make %s", title, f.MountPoint))
	}
	var trees []fileSystemTree
	for _, f := range slices.Backward(others) {
		trees = append(trees, fileSystemTree{f.Label, node, f.MountPoint, f.Tree})
		node = node.File(llb.Rm(f.MountPoint+"/*", llb.WithAllowWildcard(true), llb.WithAllowNotFound(true)),
			llb.WithCustomNamef("%s: take out %s", title, f.MountPoint))
	}
	return partitions, append(trees, fileSystemTree{root.Label, node, root.MountPoint, root.Tree})
}
