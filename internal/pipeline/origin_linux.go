package pipeline

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/moby/buildkit/client/llb"
	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"

	"nodesmith.dev/nodesmith/internal/fault"
	"nodesmith.dev/nodesmith/internal/format"
)

// originAttribute is the extended attribute in which an exported file says
// what it was made of, and what it was like then.
const originAttribute = "user.nodesmith.origin"

// origin is the digest of what decides a file: the same origin, the same bytes.
type origin digest.Digest

// originOf is the origin of what the graph makes.
func originOf(ctx context.Context, state llb.State) (origin, error) {
	definition, err := state.Marshal(ctx, llb.LinuxAmd64)
	if err != nil {
		return "", err
	}
	head, err := definition.Head()
	return origin(head), err
}

// as is the origin of a file of that format, written with these options, that is
// made of a disk of origin o.
func (o origin) as(f format.Format, options string) origin {
	return origin(digest.FromString(fmt.Sprintf("%s\n%s %d\n%s", o, f.Name, f.Revision, options)))
}

// stamp is what the attribute of a file of this origin holds while nobody has
// changed the file.
func (o origin) stamp(info os.FileInfo) string {
	return fmt.Sprintf("%s %d %d", o, info.Size(), info.ModTime().UnixNano())
}

// holds reports whether the file at path is of this origin, and unchanged.
func (o origin) holds(path string) bool {
	info, err := os.Lstat(path)
	if err != nil || !info.Mode().IsRegular() {
		return false
	}
	stamp := make([]byte, 256)
	n, err := unix.Lgetxattr(path, originAttribute, stamp)
	return err == nil && string(stamp[:n]) == o.stamp(info)
}

// mark notes the file's origin on it, where the file system can.
func (o origin) mark(path string) error {
	info, err := os.Lstat(path)
	if err != nil {
		return err
	}
	err = unix.Lsetxattr(path, originAttribute, []byte(o.stamp(info)), 0)
	if errors.Is(err, unix.ENOTSUP) {
		return nil // the next build makes the file once more
	}
	if err != nil {
		return fault.NoSpaceOr(fmt.Errorf("%s: %w", path, err))
	}
	return nil
}

// storedBytes returns how many bytes a file takes up.
func storedBytes(path string) (int64, error) {
	var stat unix.Stat_t
	if err := unix.Stat(path, &stat); err != nil {
		return 0, fmt.Errorf("%s: %w", path, err)
	}
	const block = 512 // unit of st_blocks, stat(2)
	return stat.Blocks * block, nil
}
