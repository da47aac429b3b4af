package pipeline

import (
	"context"
	"fmt"
	"os"

	"github.com/moby/buildkit/client/llb"
	"github.com/opencontainers/go-digest"

	"nodesmith.dev/nodesmith/internal/format"
	formats "nodesmith.dev/nodesmith/internal/format/known"
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
	stamp, err := attribute(path, originAttribute)
	return err == nil && stamp == o.stamp(info)
}

// mark notes the file's origin on it, where the file system can.
func (o origin) mark(path string) error {
	info, err := os.Lstat(path)
	if err != nil {
		return err
	}
	// Where it can't be noted, the next build makes the file once more.
	return setAttribute(path, originAttribute, o.stamp(info))
}

// storedBytes returns how many bytes a file takes up.
func storedBytes(path string) (int64, error) {
	info, err := os.Stat(path)
	if err != nil {
		return 0, err
	}
	return formats.StoredSize(info), nil
}
