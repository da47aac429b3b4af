//go:build linux || darwin

package pipeline

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"nodesmith.dev/nodesmith/internal/fault"
)

// attribute returns an extended attribute of a file; attributes are short.
func attribute(path, name string) (string, error) {
	value := make([]byte, 256)
	n, err := unix.Lgetxattr(path, name, value)
	if err != nil {
		return "", err
	}
	return string(value[:n]), nil
}

// setAttribute notes something on a file, where the file system can and allows it.
func setAttribute(path, name, value string) error {
	err := unix.Lsetxattr(path, name, []byte(value), 0)
	switch {
	case err == nil, errors.Is(err, unix.ENOTSUP), errors.Is(err, unix.EPERM), errors.Is(err, unix.EACCES), errors.Is(err, unix.EROFS):
		return nil
	}
	return fault.NoSpaceOr(fmt.Errorf("%s: %w", path, err))
}
