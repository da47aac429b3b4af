package tree

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/moby/buildkit/client/llb"
	"github.com/moby/buildkit/solver/pb"

	"nodesmith.dev/nodesmith/internal/disk"
	"nodesmith.dev/nodesmith/internal/lock"
)

// graph returns the file operations of an exec with the mounts, in their order,
// and the mounts.
func graph(t *testing.T, mounts []llb.RunOption) (operations, mounted []string) {
	t.Helper()
	definition, err := llb.Scratch().Run(append(mounts, llb.Args([]string{"/step"}))...).Marshal(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, data := range definition.Def {
		var op pb.Op
		if err := op.UnmarshalVT(data); err != nil {
			t.Fatal(err)
		}
		for _, action := range op.GetFile().GetActions() {
			if a := action.GetRm(); a != nil {
				operations = append(operations, "rm "+a.Path)
			}
			if a := action.GetMkdir(); a != nil {
				operations = append(operations, fmt.Sprintf("mkdir %s %o", a.Path, a.Mode))
			}
		}
		for _, m := range op.GetExec().GetMounts() {
			if m.Dest != "/" {
				mounted = append(mounted, fmt.Sprint(m.Dest, "=", m.Selector, " ", m.Readonly))
			}
		}
	}
	slices.Sort(mounted)
	return operations, mounted
}

func TestEachFileSystemSeesItsOwnDirectoryAlone(t *testing.T) {
	node := llb.Image("example.org/node")
	data := func(mountPoint, label string) disk.Partition {
		return disk.Partition{Role: disk.Data, FileSystem: &disk.FileSystem{MountPoint: mountPoint, Label: label}}
	}
	given := disk.Layout([]string{"bios"}, []disk.Partition{data("/var/lib/etcd", "etcd"), data("/var", "var")}, disk.RootFileSystem(0))
	partitions, trees := separate("disk", node, given, &lock.Lock{Epoch: time.Unix(1, 0)})
	var dirs []string
	for _, p := range partitions[1:] {
		dirs = append(dirs, p.FileSystem.Tree)
	}
	if got := strings.Join(dirs, " "); got != "/.nodesmith/trees/etcd /.nodesmith/trees/var /.nodesmith/trees/root" {
		t.Errorf("trees %s", got)
	}
	if given[1].FileSystem.Tree != "" {
		t.Error("the partitions that were given are changed")
	}
	operations, mounted := graph(t, Disk{trees: trees}.mounts())
	if got := strings.Join(operations, ", "); got != "mkdir /var 755, mkdir /var/lib/etcd 700, rm /var/lib/etcd/*, rm /var/*" {
		t.Errorf("operations: %s", got)
	}
	if got := strings.Join(mounted, ", "); got != "/.nodesmith/trees/etcd=/var/lib/etcd true, /.nodesmith/trees/root= true, /.nodesmith/trees/var=/var true" {
		t.Errorf("mounts: %s", got)
	}
}

func TestADiskWithOneFileSystemChangesNothingOfTheNode(t *testing.T) {
	_, trees := separate("disk", llb.Image("example.org/node"), disk.Layout([]string{"uefi"}, nil, disk.RootFileSystem(0)), &lock.Lock{})
	if operations, mounted := graph(t, Disk{trees: trees}.mounts()); len(operations) > 0 || len(mounted) != 1 {
		t.Errorf("operations %v, mounts %v", operations, mounted)
	}
}
