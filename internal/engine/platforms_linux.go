package engine

import (
	"os"
	"path/filepath"

	"github.com/moby/buildkit/util/archutil"
)

// probesFolder is where BuildKit writes programs for other architectures, to see
// which of them this kernel runs.
const probesFolder = "probes"

// probePlatforms lets BuildKit ask the kernel once, in a folder below root that
// sweep removes: it does so before the first step, in folders for temporary files,
// and those of a process that is killed meanwhile would stay.
func probePlatforms(root string) error {
	dir := filepath.Join(root, probesFolder)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	// Whoever makes a temporary file in these milliseconds has it there, too, and
	// removes it from there.
	const variable = "TMPDIR"
	before, had := os.LookupEnv(variable)
	if err := os.Setenv(variable, dir); err != nil {
		return err
	}
	archutil.CacheMaxAge = -1 // never again
	archutil.SupportedPlatforms(false)
	if had {
		return os.Setenv(variable, before)
	}
	return os.Unsetenv(variable)
}
