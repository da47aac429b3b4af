// Package ext4 makes an ext4 file system from a directory tree with mke2fs.
//
// What comes in is a tree (read only) and a FileSystem; what goes out is the
// file system, written straight into a region of a sparse disk file that reads
// as zeros. Same tree, same FileSystem, same bytes: mke2fs copies the times of
// the tree's inodes as the host has them, so Write replaces those that depend
// on the host.
package ext4

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"

	"nodesmith.dev/nodesmith/internal/disk/gpt"
	"nodesmith.dev/nodesmith/internal/disk/program"
	"nodesmith.dev/nodesmith/internal/disk/size"
	"nodesmith.dev/nodesmith/internal/fault"
)

// BlockSize and InodeSize are those of every file system made here; one inode
// is made for every BytesPerInode bytes. The asset mke2fs.conf says the same.
const (
	BlockSize     = 4 * size.KiB
	InodeSize     = 256 * size.Bytes(1)
	BytesPerInode = 16 * size.KiB
)

//go:embed assets/mke2fs.conf
var mke2fsConf []byte

// FileSystem says what to make and where.
type FileSystem struct {
	// Offset and Size are a region of the disk file; both are multiples of BlockSize.
	Offset, Size size.Bytes
	// UUID names the file system; HashSeed keys the hashes of its directories.
	UUID, HashSeed gpt.GUID
	// Label is at most 16 bytes.
	Label string
	// Features are all features of the file system, as mke2fs -O names them, and
	// no other is switched on: what the target's boot loader, kernel and e2fsck
	// understand is known to its distribution.
	Features []string
	// Epoch is the time of creation, and the newest time an inode may carry.
	Epoch time.Time
	// Bare leaves out lost+found, which e2fsck makes when it needs it: kubeadm
	// wants etcd's directory empty, and other programs theirs.
	Bare bool
}

// labelSize is the size of s_volume_name (Linux, Documentation/filesystems/ext4/super.rst).
const labelSize = 16

var feature = regexp.MustCompile(`^[a-z0-9_]+$`)

// Validate returns what is wrong with f.
func (f FileSystem) Validate() error {
	switch {
	case f.Size <= 0 || f.Offset < 0 || f.Size%BlockSize != 0 || f.Offset%BlockSize != 0:
		return fmt.Errorf("ext4: a region of %v at %v does not consist of blocks of %v", f.Size, f.Offset, BlockSize)
	case f.UUID == (gpt.GUID{}) || f.HashSeed == (gpt.GUID{}):
		return errors.New("ext4: the UUID or the hash seed is missing")
	case len(f.Label) > labelSize:
		return fmt.Errorf("ext4: label %q is longer than %d bytes", f.Label, labelSize)
	case len(f.Features) == 0:
		return errors.New("ext4: no features are given")
	case f.Epoch.Unix() <= 0:
		return errors.New("ext4: the epoch is missing")
	}
	for _, name := range f.Features {
		if !feature.MatchString(name) || name == "none" {
			return fmt.Errorf("ext4: %q is not the name of a feature", name)
		}
	}
	return nil
}

// Write makes the file system in the file disk from the directory tree, whose
// owner and mode become those of the root directory.
func (f FileSystem) Write(ctx context.Context, tree, disk string) error {
	if err := f.Validate(); err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "mke2fs-")
	if err != nil {
		return fmt.Errorf("ext4: %w", err)
	}
	defer os.RemoveAll(dir)
	conf := filepath.Join(dir, "mke2fs.conf")
	if err := os.WriteFile(conf, mke2fsConf, 0o600); err != nil {
		return fmt.Errorf("ext4: %w", err)
	}
	epoch := strconv.FormatInt(f.Epoch.Unix(), 10)
	variables := []string{"MKE2FS_CONFIG=" + conf, "E2FSPROGS_FAKE_TIME=" + epoch, "SOURCE_DATE_EPOCH=" + epoch}
	if err := program.Run(ctx, variables, "mke2fs", f.arguments(tree, disk)...); err != nil {
		return explain(fmt.Errorf("ext4 from %s: %w", tree, err))
	}
	if f.Bare {
		// debugfs does not say by its exit that it failed; finish looks.
		device := disk + "?offset=" + strconv.FormatInt(int64(f.Offset), 10)
		if err := program.Run(ctx, variables, "debugfs", "-w", "-R", "rmdir lost+found", device); err != nil {
			return fmt.Errorf("ext4 from %s: %w", tree, err)
		}
	}
	return f.finish(tree, disk)
}

// explain gives mke2fs's failures for lack of room their kinds: it exits with 1
// whatever happened, and only its words (libext2fs's error table, in English
// under the environment that program.Run gives) tell a full file system from a
// full host.
func explain(err error) error {
	switch text := err.Error(); {
	case strings.Contains(text, "Could not allocate"):
		return fault.New(fault.BadSpec, "make disk.size larger", "the tree is larger than its file system: %w", err)
	case strings.Contains(text, "No space left on device"):
		return fault.New(fault.NoSpace, "free some space where the build keeps its state", "%w", err)
	}
	return err
}

func (f FileSystem) arguments(tree, disk string) []string {
	extended := []string{
		"offset=" + strconv.FormatInt(int64(f.Offset), 10),
		"hash_seed=" + f.HashSeed.String(),
		"root_owner=0:0",
		// The disk file is new and all holes: nothing has to be zeroed, now or by
		// the node's kernel, and nothing may be punched out around the region.
		"assume_storage_prezeroed=1", "nodiscard",
	}
	return []string{
		"-q", "-F", "-t", "ext4",
		"-O", "none," + strings.Join(f.Features, ","),
		"-U", f.UUID.String(),
		"-L", f.Label,
		"-E", strings.Join(extended, ","),
		"-d", tree,
		disk, strconv.FormatInt(int64(f.Size/size.KiB), 10) + "k",
	}
}
