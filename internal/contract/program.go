package contract

import (
	"bytes"
	"debug/buildinfo"
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"regexp"
	"runtime/debug"
	"slices"
	"strings"

	"golang.org/x/mod/semver"
)

// program is what can be told of a binary without running it.
type program struct {
	path         string
	architecture string
	version      string // "" when nothing in the binary says it
	err          error
}

// machines names ELF's e_machine as Go does.
var machines = map[elf.Machine]string{elf.EM_X86_64: "amd64", elf.EM_AARCH64: "arm64"}

// origins says where the version of a program stands in its build information:
// the modules that it may have been built from, the variables that its
// upstream's linker flags set, and the shape of the value.
var origins = map[string]struct {
	modules   []string
	variables []string
	stamp     *regexp.Regexp // of a string variable, when linker flags are not recorded
}{
	"kubelet": kubernetesOrigin, "kubeadm": kubernetesOrigin, "kubectl": kubernetesOrigin,
	"containerd": containerdOrigin, "ctr": containerdOrigin, "containerd-shim-runc-v2": containerdOrigin,
	"runc":   {[]string{"github.com/opencontainers/runc"}, []string{"main.version"}, nil},
	"crictl": {[]string{"sigs.k8s.io/cri-tools"}, []string{"sigs.k8s.io/cri-tools/pkg/version.Version", "github.com/kubernetes-sigs/cri-tools/pkg/version.Version"}, nil},
}

type origin = struct {
	modules   []string
	variables []string
	stamp     *regexp.Regexp
}

var (
	kubernetesOrigin = origin{
		[]string{"k8s.io/kubernetes"},
		[]string{"k8s.io/component-base/version.gitVersion", "k8s.io/client-go/pkg/version.gitVersion"},
		regexp.MustCompile(`^v1\.(0|[1-9]\d?)\.(0|[1-9]\d?)([-+][0-9A-Za-z.+-]+)?$`),
	}
	containerdOrigin = origin{
		[]string{"github.com/containerd/containerd/v2", "github.com/containerd/containerd"},
		[]string{"github.com/containerd/containerd/v2/version.Version", "github.com/containerd/containerd/version.Version"},
		nil,
	}
)

// program finds a program on the image's PATH and reads its version.
func (n *node) program(name string) program {
	if p, ok := n.programs[name]; ok {
		return p
	}
	p := program{path: n.which(name)}
	if p.path == "" {
		p.err = fmt.Errorf("there is no program %s on PATH", name)
	} else if content, err := n.tree.Content(p.path); err != nil {
		p.err = err
	} else {
		p.architecture, p.version, p.err = inspect(content, origins[name])
		if p.err != nil {
			p.err = fmt.Errorf("%s: %w", p.path, p.err)
		}
	}
	n.programs[name] = p
	return p
}

// inspect reads an ELF binary's architecture and, if it was compiled by Go,
// its version. A version that the binary does not tell is not an error.
func inspect(r io.ReaderAt, from origin) (architecture, version string, err error) {
	f, err := elf.NewFile(r)
	if err != nil {
		return "", "", fmt.Errorf("not an ELF program: %w", err)
	}
	architecture, known := machines[f.Machine]
	if !known {
		architecture = strings.ToLower(strings.TrimPrefix(f.Machine.String(), "EM_"))
	}
	info, err := buildinfo.Read(r)
	if err != nil {
		return architecture, "", fmt.Errorf("no Go build information: %w", err)
	}
	if v := recorded(info, from); v != "" {
		return architecture, v, nil
	}
	if from.stamp == nil {
		return architecture, "", nil
	}
	found, err := stamped(f, from.stamp)
	if err != nil || len(found) != 1 {
		return architecture, "", err
	}
	return architecture, found[0], nil
}

// recorded looks for the version in the build information: a linker flag wins,
// then the module's version, unless it was built from a checkout.
func recorded(info *debug.BuildInfo, from origin) string {
	for _, s := range info.Settings {
		if s.Key != "-ldflags" {
			continue
		}
		for _, flag := range strings.Fields(s.Value) {
			variable, value, ok := strings.Cut(strings.Trim(strings.TrimPrefix(flag, "-X="), `'"`), "=")
			if ok && slices.Contains(from.variables, variable) {
				return withV(strings.Trim(value, `'"`))
			}
		}
	}
	for _, m := range append([]*debug.Module{&info.Main}, info.Deps...) {
		if !slices.Contains(from.modules, m.Path) {
			continue
		}
		if m.Replace != nil {
			m = m.Replace
		}
		// (devel), v0.0.0 and pseudo-versions name no release.
		if semver.IsValid(m.Version) && semver.Major(m.Version) != "v0" && !strings.Contains(m.Version, "+dirty") {
			return m.Version
		}
	}
	return ""
}

func withV(version string) string {
	if version != "" && !strings.HasPrefix(version, "v") {
		return "v" + version
	}
	return version
}

// maxSection bounds the memory for one section of a binary.
const maxSection = 192 << 20

// stamped finds the values of string variables that match: a string variable
// is a pointer and a length in the data section, and the linker's flag -X makes
// it point at a string of its own. Stripped binaries have no symbols to go by,
// so the shape of the value is all there is; several different values mean that
// it cannot be told.
func stamped(f *elf.File, shape *regexp.Regexp) ([]string, error) {
	const word, longest = 8, 64
	data, text := f.Section(".data"), f.Section(".rodata")
	if f.Class != elf.ELFCLASS64 || data == nil || text == nil || data.Size > maxSection || text.Size > maxSection {
		return nil, errors.New("it has no sections to read a version from")
	}
	variables, err := data.Data()
	if err != nil {
		return nil, err
	}
	var found []string
	value := make([]byte, longest)
	for ; len(variables) >= 2*word; variables = variables[word:] {
		at, length := f.ByteOrder.Uint64(variables), f.ByteOrder.Uint64(variables[word:])
		if length < 6 || length > longest || at < text.Addr || at-text.Addr > text.Size-min(length, text.Size) {
			continue
		}
		v := value[:length]
		if _, err := text.ReadAt(v, int64(at-text.Addr)); err != nil {
			continue
		}
		if shape.Match(v) && !slices.Contains(found, string(v)) {
			found = append(found, string(bytes.Clone(v)))
		}
	}
	return found, nil
}
