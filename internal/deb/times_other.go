//go:build !unix

package deb

import (
	"errors"
	"os"
	"time"
)

// DirectoryTimes collects nothing: packages are unpacked by steps, on Linux.
type DirectoryTimes struct{}

func (d *DirectoryTimes) add(*os.Root, string, time.Time) error { return errors.ErrUnsupported }

// Set says that it can't.
func (d *DirectoryTimes) Set(*os.Root, time.Time) error { return errors.ErrUnsupported }

func joinClose(err error, file *os.File) error { return errors.Join(err, file.Close()) }

func setLinkTime(*os.Root, string, time.Time) error { return errors.ErrUnsupported }

// Symlink says that it can't.
func Symlink(*os.Root, string, string, time.Time) error { return errors.ErrUnsupported }
