// Package golang knows how each program of a node is compiled from Go modules,
// and compiles it.
//
// What comes in is a component of a lock, its modules in the layout of a module
// proxy and a Go toolchain; what goes out is a directory of static binaries. The
// same inputs give the same bytes, wherever and whenever it runs: paths, the
// clock, version control and the environment do not get into a binary.
package golang

import (
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/mod/semver"
)

// Component is a set of programs that are released together.
type Component struct {
	// Name is the component's name in locks.
	Name string
	// Modules are the modules that hold the programs, all required at the
	// component's version. The first one is named in the lock.
	Modules []string
	// Builds are the runs of the go command that compile it.
	Builds []Build
	// C is the C source file that is compiled instead, as a path in the first
	// module; a component has either Builds or C.
	C string
}

// Build is one run of "go build".
type Build struct {
	// Packages are the import paths of main packages.
	Packages []string
	Tags     []string
	// Stamps are string variables set by the linker, as upstream's own build
	// sets them. In values, $VERSION is the component's version, $BARE the same
	// without its v, $MAJOR and $MINOR its parts, $DATE the build date.
	Stamps []Stamp
	// CGO compiles with the C compiler and links a static, position-independent
	// executable. All other programs are pure Go.
	CGO bool
}

// Stamp is a package variable ("k8s.io/component-base/version.gitVersion") and
// its value in the binary.
type Stamp struct{ Variable, Value string }

// Names of components that the lock's reader has to tell apart.
const (
	Kubernetes = "kubernetes"
	Etcd       = "etcd"
	CoreDNS    = "coredns"
	Containerd = "containerd"
	Runc       = "runc"
	CNI        = "cni"
	Crictl     = "crictl"
	Pause      = "pause"
)

// Modules of components whose source is read when they are locked.
const (
	KubernetesModule = "k8s.io/kubernetes"
	RuncModule       = "github.com/opencontainers/runc"
)

const (
	containerdModule = "github.com/containerd/containerd/v2"
	cniModule        = "github.com/containernetworking/plugins"
	criToolsModule   = "sigs.k8s.io/cri-tools"
	corednsModule    = "github.com/coredns/coredns"
)

// components is how upstream builds its releases: tags and stamps are those of
// the build script that is named with each.
var components = []Component{
	{ // hack/lib/golang.sh (tags), hack/lib/version.sh (stamps)
		Name:    Kubernetes,
		Modules: []string{KubernetesModule},
		Builds: []Build{{
			Packages: under(KubernetesModule+"/cmd", "kubeadm", "kubelet", "kubectl", "kube-apiserver",
				"kube-controller-manager", "kube-scheduler", "kube-proxy"),
			Tags:   []string{"selinux", "notest", "grpcnotrace"},
			Stamps: slices.Concat(kubernetesStamps("k8s.io/component-base/version"), kubernetesStamps("k8s.io/client-go/pkg/version")),
		}},
	},
	{ // scripts/build_lib.sh
		Name:    Etcd,
		Modules: []string{"go.etcd.io/etcd/server/v3", "go.etcd.io/etcd/etcdctl/v3", "go.etcd.io/etcd/etcdutl/v3"},
		Builds: []Build{{
			Packages: []string{"go.etcd.io/etcd/server/v3", "go.etcd.io/etcd/etcdctl/v3", "go.etcd.io/etcd/etcdutl/v3"},
			// A module zip does not say which commit it was made from.
			Stamps: []Stamp{{"go.etcd.io/etcd/api/v3/version.GitSHA", "unknown"}},
		}},
	},
	{ // Makefile; the version is in the source
		Name:    CoreDNS,
		Modules: []string{corednsModule},
		Builds: []Build{{
			Packages: []string{corednsModule},
		}},
	},
	{ // Makefile, with STATIC=1
		Name:    Containerd,
		Modules: []string{containerdModule},
		Builds: []Build{
			{
				Packages: under(containerdModule+"/cmd", "containerd", "ctr"),
				Tags:     []string{"urfave_cli_no_docs", "osusergo", "netgo", "static_build"},
				Stamps:   containerdStamps,
			},
			{
				Packages: under(containerdModule+"/cmd", "containerd-shim-runc-v2"),
				Tags:     []string{"urfave_cli_no_docs", "osusergo", "netgo", "static_build", "no_grpc"},
				Stamps:   containerdStamps,
			},
		},
	},
	{ // Makefile, target static; the version is in the source
		Name:    Runc,
		Modules: []string{RuncModule},
		Builds: []Build{{
			Packages: []string{RuncModule},
			Tags:     []string{"seccomp", "urfave_cli_no_docs", "netgo", "osusergo"},
			CGO:      true,
		}},
	},
	{ // .github/workflows/release.yaml
		Name:    CNI,
		Modules: []string{cniModule},
		Builds: []Build{{
			Packages: slices.Concat(
				under(cniModule+"/plugins/main", "bridge", "dummy", "host-device", "ipvlan", "loopback", "macvlan", "ptp", "tap", "vlan"),
				under(cniModule+"/plugins/ipam", "dhcp", "host-local", "static"),
				under(cniModule+"/plugins/meta", "bandwidth", "firewall", "portmap", "sbr", "tuning", "vrf"),
			),
			Stamps: []Stamp{{cniModule + "/pkg/utils/buildversion.BuildVersion", "$VERSION"}},
		}},
	},
	{ // Makefile
		Name:    Crictl,
		Modules: []string{criToolsModule},
		Builds: []Build{{
			Packages: under(criToolsModule+"/cmd", "crictl"),
			Stamps:   []Stamp{{criToolsModule + "/pkg/version.Version", "$BARE"}},
		}},
	},
	{ // build/pause/Makefile
		Name:    Pause,
		Modules: []string{KubernetesModule},
		C:       "build/pause/linux/pause.c",
	},
}

var containerdStamps = []Stamp{
	{containerdModule + "/version.Version", "$VERSION"},
	{containerdModule + "/version.Package", containerdModule},
}

// kubernetesStamps sets the same variables in either of the two packages that
// hold them. The commit is empty because a module zip does not name it.
func kubernetesStamps(pkg string) []Stamp {
	return []Stamp{
		{pkg + ".gitVersion", "$VERSION"},
		{pkg + ".gitMajor", "$MAJOR"},
		{pkg + ".gitMinor", "$MINOR"},
		{pkg + ".gitTreeState", "archive"},
		{pkg + ".gitCommit", ""},
		{pkg + ".buildDate", "$DATE"},
	}
}

func under(dir string, names ...string) []string {
	out := make([]string, 0, len(names))
	for _, n := range names {
		out = append(out, dir+"/"+n)
	}
	return out
}

// Components lists every component, in the order in which locks have them.
func Components() []Component { return slices.Clone(components) }

// Lookup returns the component of that name.
func Lookup(name string) (Component, bool) {
	i := slices.IndexFunc(components, func(c Component) bool { return c.Name == name })
	if i < 0 {
		return Component{}, false
	}
	return components[i], true
}

// Packages lists the main packages of all builds; none for a component in C.
func (c Component) Packages() []string {
	out := []string{}
	for _, b := range c.Builds {
		out = append(out, b.Packages...)
	}
	return out
}

// renamed has the binaries whose name is not the one that the go command gives.
var renamed = map[string]string{"go.etcd.io/etcd/server/v3": "etcd"}

// Binary is the file name of a main package's program.
func Binary(pkg string) string {
	if n, ok := renamed[pkg]; ok {
		return n
	}
	return defaultBinary(pkg)
}

var majorVersion = regexp.MustCompile(`^v[0-9]+$`)

// defaultBinary is the file name that "go build -o dir/" chooses (cmd/go: DefaultExecName).
func defaultBinary(pkg string) string {
	if dir, base := path.Split(pkg); dir != "" && majorVersion.MatchString(base) {
		return path.Base(dir)
	}
	return path.Base(pkg)
}

// expand fills in the placeholders of a stamp's value.
func (s Stamp) expand(version string, date time.Time) string {
	major, minor, _ := strings.Cut(strings.TrimPrefix(semver.MajorMinor(version), "v"), ".")
	if _, err := strconv.Atoi(minor); err != nil {
		major, minor = "", ""
	}
	return strings.NewReplacer(
		"$VERSION", version,
		"$BARE", strings.TrimPrefix(version, "v"),
		"$MAJOR", major,
		"$MINOR", minor,
		"$DATE", date.UTC().Format("2006-01-02T15:04:05Z"),
	).Replace(s.Value)
}
