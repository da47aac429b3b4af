package install

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
)

// reset gives files the content that contents maps them to; those that are not
// there stay away.
func reset(contents map[string]string) error {
	for name, content := range contents {
		file, err := os.OpenFile(name, os.O_WRONLY|os.O_TRUNC, 0)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		_, err = file.WriteString(content)
		if err := errors.Join(err, file.Close()); err != nil {
			return err
		}
	}
	return nil
}

// clean removes what the build left in the tree: what globs match but for the files
// in keep, and the content of the files in empty.
func clean(globs, keep, empty []string) error {
	for _, pattern := range globs {
		matches, err := filepath.Glob(pattern)
		if err != nil {
			return fmt.Errorf("pattern %q: %w", pattern, err)
		}
		for _, match := range matches {
			if slices.Contains(keep, match) {
				continue
			}
			if err := os.RemoveAll(match); err != nil {
				return err
			}
		}
	}
	for _, name := range empty {
		if err := os.WriteFile(name, nil, 0o644); err != nil {
			return err
		}
	}
	return nil
}
