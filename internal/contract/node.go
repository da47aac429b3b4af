package contract

import (
	"context"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"

	"golang.org/x/mod/semver"

	"nodesmith.dev/nodesmith/internal/imagefs"
)

// Family is a family of operating systems, which share package format and paths.
type Family string

// The families that checks tell apart.
const (
	Debian     Family = "debian"
	RedHat     Family = "redhat"
	Photon     Family = "photon"
	AzureLinux Family = "azurelinux"
	Flatcar    Family = "flatcar"
	Suse       Family = "suse"
)

// families maps ID and ID_LIKE of os-release.
var families = map[string]Family{
	"debian": Debian, "ubuntu": Debian,
	"rhel": RedHat, "centos": RedHat, "fedora": RedHat, "rocky": RedHat, "almalinux": RedHat, "amzn": RedHat, "ol": RedHat,
	"photon": Photon, "azurelinux": AzureLinux, "mariner": AzureLinux, "flatcar": Flatcar, "suse": Suse, "sles": Suse,
}

// node is what the checks look at: the image, and what was learned of it.
type node struct {
	ctx     context.Context
	disk    io.ReaderAt
	size    int64
	options Options
	image   *imagefs.Image // nil when openErr is not
	openErr error
	tree    *imagefs.Tree // nil when there is no root file system

	release      map[string]string // os-release
	family       Family
	architecture string // as Go calls it
	kubernetes   string // version of kubeadm, with v; "" when unknown

	programs map[string]program
	packages func() (map[string]pkg, error)
	config   func() (containerdConfig, error)
	store    func() (*store, error)
	entries  func() ([]bootEntry, error)
}

func newNode(disk io.ReaderAt, size int64, options Options) *node {
	n := &node{disk: disk, size: size, options: options, programs: map[string]program{}}
	n.packages = once(n.readPackages)
	n.config = once(n.readContainerdConfig)
	n.store = once(n.readStore)
	n.entries = once(n.readBootEntries)
	return n
}

// openNode opens an image and learns what it is.
func openNode(disk io.ReaderAt, size int64, options Options) *node {
	n := newNode(disk, size, options)
	n.image, n.openErr = imagefs.Open(disk, size)
	if n.openErr == nil {
		n.tree = n.image.Tree
		n.learn()
	}
	return n
}

// releaseFile is where nodesmith writes what an image was made from.
const releaseFile = "/etc/nodesmith-release"

// firmware returns what the image says that it boots from. The partitions don't
// tell: one that is missing by mistake would go unnoticed.
func (n *node) firmware() []string {
	all := []string{bios, uefi}
	if n.tree == nil {
		return all
	}
	said := strings.Fields(shellVariables(n.text(releaseFile))["FIRMWARE"])
	meant := slices.DeleteFunc(slices.Clone(all), func(f string) bool { return !slices.Contains(said, f) })
	if len(meant) == 0 {
		return all
	}
	return meant
}

// once remembers what read returned. Checks run one after the other.
func once[T any](read func() (T, error)) func() (T, error) {
	var value T
	var err error
	done := false
	return func() (T, error) {
		if !done {
			value, err = read()
			done = true
		}
		return value, err
	}
}

// learn reads what decides which checks apply.
func (n *node) learn() {
	if n.tree == nil {
		return
	}
	content, err := n.tree.ReadFile("/etc/os-release")
	if err != nil {
		content, _ = n.tree.ReadFile("/usr/lib/os-release")
	}
	n.release = shellVariables(string(content))
	for _, id := range append([]string{n.release["ID"]}, strings.Fields(n.release["ID_LIKE"])...) {
		if f, known := families[id]; known {
			n.family = f
			break
		}
	}
	// kubeadm decides which container images the node needs, so its version is
	// the image's; the kubelet is what every family and role has.
	n.kubernetes, n.architecture = n.program("kubeadm").version, n.program("kubelet").architecture
}

func (n *node) describe() Summary {
	return Summary{Size: n.size, System: n.release["PRETTY_NAME"], Family: n.family, Architecture: n.architecture, Kubernetes: n.kubernetes}
}

// searchPath is where systemd and a root shell look for programs; Flatcar's
// and containerd's own places are last.
var searchPath = []string{"/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin", "/opt/bin"}

// which returns the path of a program, or "".
func (n *node) which(name string) string {
	for _, dir := range searchPath {
		p := path.Join(dir, name)
		if info, err := n.tree.Stat(p); err == nil && info.Mode().IsRegular() && info.Mode().Perm()&0o111 != 0 {
			return p
		}
	}
	return ""
}

// text reads a file, "" when it is missing or cannot be read.
func (n *node) text(name string) string {
	b, err := n.tree.ReadFile(name)
	if err != nil {
		return ""
	}
	return string(b)
}

// list returns the names in a directory, nil when there is none.
func (n *node) list(dir string) []string {
	entries, err := n.tree.ReadDir(dir)
	if err != nil {
		return nil
	}
	names := make([]string, 0, len(entries))
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

// walk calls visit for every file below dir that is no directory; maxFiles
// bounds it. Directories that cannot be read are reported to visit as errors.
func (n *node) walk(dir string, visit func(name string, info fs.FileInfo, err error)) {
	const maxFiles = 200_000
	left := maxFiles
	var descend func(string, int)
	descend = func(dir string, depth int) {
		entries, err := n.tree.ReadDir(dir)
		if err != nil {
			visit(dir, nil, err)
			return
		}
		for _, e := range entries {
			if left--; left < 0 || depth > 64 {
				visit(dir, nil, fs.ErrInvalid)
				return
			}
			full := path.Join(dir, e.Name())
			if e.IsDir() {
				descend(full, depth+1)
				continue
			}
			info, err := e.Info()
			visit(full, info, err)
		}
	}
	if info, err := n.tree.Lstat(dir); err == nil && info.IsDir() {
		descend(dir, 0)
	}
}

// below lists the files below some directories that are no directories.
func (n *node) below(dirs ...string) []string {
	var out []string
	for _, dir := range dirs {
		n.walk(dir, func(name string, _ fs.FileInfo, _ error) { out = append(out, name) })
	}
	return out
}

// configLines returns the lines of a configuration file that are neither empty
// nor comments, trimmed.
func configLines(text string) []string {
	var out []string
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if line != "" && !strings.HasPrefix(line, "#") && !strings.HasPrefix(line, ";") {
			out = append(out, line)
		}
	}
	return out
}

// shellVariables reads NAME=VALUE lines, quotes removed.
func shellVariables(text string) map[string]string {
	out := map[string]string{}
	for _, line := range configLines(text) {
		if name, value, ok := strings.Cut(line, "="); ok {
			out[strings.TrimSpace(name)] = strings.Trim(strings.TrimSpace(value), `"'`)
		}
	}
	return out
}

// dropIns reads the *.conf files of a directory of that name below /etc, /run,
// /usr/local/lib and /usr/lib, as systemd does: sorted by their names, a file
// hiding those of the same name in later directories.
func (n *node) dropIns(name string) []string {
	files := map[string]string{}
	for _, dir := range []string{"/usr/lib", "/usr/local/lib", "/run", "/etc"} {
		for _, f := range n.list(path.Join(dir, name)) {
			if strings.HasSuffix(f, ".conf") {
				files[f] = path.Join(dir, name, f)
			}
		}
	}
	var texts []string
	for _, f := range sortedKeys(files) {
		texts = append(texts, n.text(files[f]))
	}
	return texts
}

// inRange reports whether a version lies in a range such as ">=v1.28 <v1.36".
// Pre-releases and build metadata count as their release.
func inRange(bounds, version string) bool {
	core := semver.Canonical(version)
	core, _, _ = strings.Cut(core, "-")
	for _, bound := range strings.Fields(bounds) {
		var ok bool
		switch {
		case strings.HasPrefix(bound, ">="):
			ok = semver.Compare(core, bound[2:]) >= 0
		case strings.HasPrefix(bound, "<"):
			ok = semver.Compare(core, bound[1:]) < 0
		}
		if !ok {
			return false
		}
	}
	return true
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
