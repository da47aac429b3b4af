package contract

import (
	"bytes"
	"errors"
	"io/fs"
	"slices"
	"strings"

	"nodesmith.dev/nodesmith/internal/deb"
)

// pkg is a package that dpkg knows of.
type pkg struct{ version, status string }

const installed = "install ok installed"

// statusFiles is dpkg's database.
const statusFile = "/var/lib/dpkg/status"

// readPackages reads dpkg's database. Images of other families have none yet
// that this program reads.
func (n *node) readPackages() (map[string]pkg, error) {
	content, err := n.tree.ReadFile(statusFile)
	if err != nil {
		return nil, err
	}
	out := map[string]pkg{}
	err = deb.Stanzas(bytes.NewReader(content), func(s deb.Stanza) (bool, error) {
		status := s["Status"]
		// A held package is as installed as any.
		status = strings.Replace(status, "hold ok", "install ok", 1)
		if known, ok := out[s["Package"]]; !ok || known.status != installed {
			out[s["Package"]] = pkg{version: s["Version"], status: status}
		}
		return true, nil
	})
	return out, err
}

// has reports whether one of the packages is installed.
func (n *node) has(names ...string) bool {
	packages, err := n.packages()
	return err == nil && slices.ContainsFunc(names, func(name string) bool { return packages[name].status == installed })
}

// requirement is a program, or one of several, that the node calls.
type requirement struct {
	programs []string
	why      string
}

var requirements = []requirement{
	{[]string{"conntrack"}, "kube-proxy deletes stale entries with it, and kubeadm's preflight asks for it"},
	{[]string{"iptables"}, "CNI plugins and kube-proxy"},
	{[]string{"ip"}, "CNI plugins, kubeadm's preflight"},
	{[]string{"mount", "umount", "nsenter"}, "the kubelet's volumes"},
	{[]string{"socat"}, "kubectl port-forward"},
	{[]string{"ebtables"}, "kubeadm's preflight of older releases, bridge CNIs"},
	{[]string{"ethtool"}, "kubeadm's preflight, CNIs that change offloads"},
	{[]string{"tc"}, "kubeadm's preflight, the bandwidth plugin"},
	{[]string{"modprobe"}, "kube-proxy and CNI plugins load modules"},
	{[]string{"curl"}, "bootstrap scripts, health checks"},
	{[]string{"jq"}, "bootstrap scripts"},
	{[]string{"chronyd"}, "time; systemd-timesyncd is accepted"},
	{[]string{"bash"}, "Cluster API's bootstrap scripts"},
	{[]string{"growpart"}, "the root partition grows at first boot"},
}

// alternatives may stand in for a program.
var alternatives = map[string][]string{
	"chronyd": {"/usr/lib/systemd/systemd-timesyncd"},
}

// packageChecks depend on the table of programs.
func packageChecks() []Check {
	checks := []Check{{
		ID: "packages.database", Title: "The package database is whole", Severity: Required, Families: []Family{Debian},
		Why: "A package that is half installed breaks the next apt run, on every node.",
		How: "/var/lib/dpkg/status: every package that is not removed is installed.",
		run: func(n *node, r *result) {
			packages, err := n.packages()
			if err != nil {
				r.fail("%v", err)
				return
			}
			for _, name := range sortedKeys(packages) {
				if s := packages[name].status; s != installed && !strings.HasSuffix(s, " config-files") && !strings.HasSuffix(s, " not-installed") {
					r.fail("%s is in the state %q", name, s)
				}
			}
			r.note("%d packages", len(packages))
			if leftover := n.list("/var/lib/dpkg/updates"); len(leftover) > 0 {
				r.fail("dpkg was interrupted: /var/lib/dpkg/updates is not empty")
			}
		},
	}, {
		ID: "packages.forbidden", Title: "No package is installed that must not be", Severity: Required, Families: []Family{Debian},
		Why: "ntp competes with chrony; docker brings a second container runtime; a desktop's or a compiler's packages do not belong on a node.",
		How: "/var/lib/dpkg/status: none of ntp, ntpsec, docker.io, docker-ce, docker-engine, conntrackd, snapd's lxd.",
		run: func(n *node, r *result) {
			for _, name := range []string{"ntp", "ntpsec", "docker.io", "docker-ce", "docker-engine", "conntrackd", "lxd"} {
				if n.has(name) {
					r.fail("%s is installed", name)
				}
			}
		},
	}, {
		ID: "packages.libseccomp", Title: "libseccomp is there", Severity: Required, Families: []Family{Debian},
		Why: "runc of most builds is linked against it; seccomp profiles of pods need it.",
		How: "/var/lib/dpkg/status: libseccomp2 is installed.",
		run: func(n *node, r *result) {
			if !n.has("libseccomp2") {
				r.fail("libseccomp2 is not installed")
			}
		},
	}}
	for _, q := range requirements {
		name := strings.Join(q.programs, ", ")
		checks = append(checks, Check{
			ID: "programs." + q.programs[0], Title: name + " is on PATH", Severity: Required,
			Why: "Used by: " + q.why + ".",
			How: "An executable file of that name in a directory of systemd's default PATH.",
			run: func(n *node, r *result) {
				for _, p := range q.programs {
					if n.which(p) == "" && !slices.ContainsFunc(alternatives[p], n.tree.Exists) {
						r.fail("there is no program %s on PATH", p)
					}
				}
			},
		})
	}
	return checks
}

// isMissing reports whether err says that a file is not there.
func isMissing(err error) bool { return errors.Is(err, fs.ErrNotExist) }
