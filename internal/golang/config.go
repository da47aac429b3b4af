package golang

import (
	"fmt"
	"strings"

	"nodesmith.dev/nodesmith/internal/lock"
)

// ToolchainConfig is what "step-golang toolchain" reads.
type ToolchainConfig struct {
	Module lock.GoModule `json:"module"`
	Zip    string        `json:"zip"` // path of the module's zip file
	Out    string        `json:"out"` // directory that becomes GOROOT
}

// BuildConfig is what "step-golang build" reads. Paths are those that the step sees.
type BuildConfig struct {
	Component lock.GoComponent `json:"component"`
	// Version is stamped into the programs: the component's, but for pause the
	// version of its image, which the module does not have.
	Version string `json:"version"`
	// Architecture is Go's name of the target: amd64.
	Architecture string `json:"architecture"`
	Toolchain    string `json:"toolchain"` // GOROOT; unused for a component in C
	Modules      string `json:"modules"`   // directory laid out as a module proxy
	Cache        string `json:"cache"`     // GOCACHE, kept from run to run
	Out          string `json:"out"`       // directory for the programs
}

// NewBuildConfig returns the configuration for a component of a lock, without
// the paths.
func NewBuildConfig(k lock.Kubernetes, component, arch string) (BuildConfig, error) {
	for _, c := range k.Components {
		if c.Name != component {
			continue
		}
		cfg := BuildConfig{Component: c, Version: c.Version, Architecture: arch}
		if component == Pause {
			for _, img := range k.Images {
				if _, tag, ok := strings.Cut(img.Name, "/pause:"); ok && img.Component == Pause {
					cfg.Version = "v" + tag
				}
			}
		}
		return cfg, nil
	}
	return BuildConfig{}, fmt.Errorf("the lock of Kubernetes %s has no component %s", k.Version, component)
}

// compilers are the C compilers for an architecture, by Debian's name of its
// own compiler, which is a cross compiler's name on a machine of another one.
var compilers = map[string]string{
	"amd64": "x86_64-linux-gnu-gcc",
	"arm64": "aarch64-linux-gnu-gcc",
}

func compiler(arch string) (string, error) {
	cc, ok := compilers[arch]
	if !ok {
		return "", fmt.Errorf("no C compiler is known for architecture %q", arch)
	}
	return cc, nil
}
