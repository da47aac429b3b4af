//go:build !linux && !darwin

package pipeline

import "errors"

// attribute finds nothing: there are no extended attributes here.
func attribute(string, string) (string, error) { return "", errors.ErrUnsupported }

// setAttribute notes nothing.
func setAttribute(string, string, string) error { return nil }
