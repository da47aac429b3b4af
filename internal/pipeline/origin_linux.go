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
)

// originAttribute is the extended attribute in which an exported file says
// which graph it is the result of, and what it was like then.
const originAttribute = "user.nodesmith.origin"

// origin is the digest of a graph: the same graph, the same bytes.
type origin digest.Digest

func originOf(ctx context.Context, state llb.State) (origin, error) {
	definition, err := state.Marshal(ctx, llb.LinuxAmd64)
	if err != nil {
		return "", err
	}
	head, err := definition.Head()
	return origin(head), err
}

// stamp is what the attribute of a file of this origin holds while nobody has
// changed the file.
func (o origin) stamp(info os.FileInfo) string {
	return fmt.Sprintf("%s %d %d", o, info.Size(), info.ModTime().UnixNano())
}

// holds reports whether the file at path is the unchanged result of the graph.
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
		return nil // the next build copies the file once more
	}
	if err != nil {
		return fault.NoSpaceOr(fmt.Errorf("%s: %w", path, err))
	}
	return nil
}

// sizes returns a file's length and the bytes that it takes up.
func sizes(path string) (length, stored int64, err error) {
	var stat unix.Stat_t
	if err := unix.Stat(path, &stat); err != nil {
		return 0, 0, fmt.Errorf("%s: %w", path, err)
	}
	const block = 512 // unit of st_blocks, stat(2)
	return stat.Size, stat.Blocks * block, nil
}
