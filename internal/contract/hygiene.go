package contract

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"path"
	"regexp"
	"slices"
	"strings"
)

// credentialFiles are where tools keep what lets them in; below a home
// directory, or absolute.
var credentialFiles = []string{
	".aws/credentials", ".azure/accessTokens.json", ".azure/msal_token_cache.json", ".config/gcloud/credentials.db",
	".config/gcloud/application_default_credentials.json", ".docker/config.json", ".dockercfg", ".git-credentials", ".netrc", ".npmrc",
	".pypirc", ".kube/config", ".vault-token", ".ssh/id_rsa", ".ssh/id_ed25519", ".ssh/id_ecdsa", ".ssh/id_dsa", ".gnupg/secring.gpg",
	".config/gh/hosts.yml", ".config/containers/auth.json", ".terraform.d/credentials.tfrc.json", ".govmomi/sessions", ".my.cnf", ".pgpass",
	"/etc/rhsm/rhsm-host-identity", "/etc/pki/consumer/key.pem", "/etc/pki/entitlement/*-key.pem",
	"/var/lib/waagent/*.prv", "/var/lib/amazon/ssm/registration", "/var/lib/kubelet/kubeconfig", "/etc/kubernetes/kubelet.kubeconfig",
	"/root/.vmware*", "/etc/apt/auth.conf", "/etc/apt/auth.conf.d/*",
}

var (
	// privateKey matches the first line of PEM that only its owner should have.
	privateKey = []byte("PRIVATE KEY-----")
	// urlPassword matches a URL that has a name and a password in it.
	urlPassword = regexp.MustCompile(`(?i)\b[a-z][a-z0-9+.-]{1,15}://[^\s/:@"'<>$%{}*]+:[^\s/@"'<>$%{}*]+@[^\s/"'<>]`)
)

const (
	maxText = 1 << 20 // files in /etc and in homes that are larger are no configuration
	maxLogs = 200 << 20
)

func checkCredentials(n *node, r *result) {
	homes := []string{"/root", "/"}
	for _, h := range n.list("/home") {
		homes = append(homes, path.Join("/home", h))
	}
	for _, f := range credentialFiles {
		if strings.HasPrefix(f, "/") {
			n.refuseFiles(r, f)
			continue
		}
		for _, h := range homes {
			n.refuseFiles(r, path.Join(h, f))
		}
	}
	for _, dir := range append([]string{"/etc", "/var/lib/cloud", "/opt", "/srv"}, append(homes[2:], "/root", "/usr/local/etc")...) {
		n.walk(dir, func(name string, info fs.FileInfo, err error) {
			if regular(info, err) && info.Size() <= maxText && !strings.HasPrefix(name, "/etc/ssh/ssh_host_") {
				n.inspectText(name, r)
			}
		})
	}
}

// inspectText looks for keys and passwords in one small file.
func (n *node) inspectText(name string, r *result) {
	content, err := n.tree.ReadFile(name)
	if err != nil {
		r.fail("%v", err)
		return
	}
	if bytes.IndexByte(content, 0) >= 0 { // no text
		return
	}
	if i := bytes.Index(content, privateKey); i >= 0 && bytes.Contains(content[:i], []byte("-----BEGIN")) {
		r.fail("%s has a private key in it", name)
		return
	}
	for line := range bytes.Lines(content) {
		line = bytes.TrimSpace(line)
		if len(line) > 0 && line[0] != '#' && line[0] != ';' && urlPassword.Match(line) {
			r.fail("%s has a URL with a password in it", name) // which the report must not repeat
			return
		}
	}
}

// hygieneChecks: nothing of the build but its result is in the image.
var hygieneChecks = []Check{
	{
		ID: "hygiene.proxies", Title: "No proxy of the build is left", Severity: Required,
		Why: "A proxy that only the build could reach makes every pull on the node fail.",
		How: "No proxy in containerd's and kubelet's drop-ins, /etc/environment, apt's, dnf's and systemd's configuration, but in files that the manifest beside the image lists as the spec's.",
		run: checkProxies,
	},
	{
		ID: "hygiene.logs", Title: "The logs are empty", Severity: Required,
		Why: "Logs of the build tell about its network and confuse who looks for a node's fault.",
		How: "/var/log has no journal, no compressed or rotated logs, no wtmp, btmp or lastlog with entries, and at most 1 MiB of other files.",
		run: checkLogs,
	},
	{
		ID: "hygiene.histories", Title: "No shell's history is left", Severity: Required,
		Why: "Histories have passwords in them.",
		How: "No .bash_history, .zsh_history, .python_history, .lesshst or .viminfo in /root and in home directories.",
		run: func(n *node, r *result) {
			for _, home := range append(n.tree.Glob("/home/*"), "/root") {
				for _, f := range []string{".bash_history", ".zsh_history", ".sh_history", ".python_history", ".lesshst", ".viminfo", ".mysql_history", ".wget-hsts"} {
					n.refuseFiles(r, path.Join(home, f))
				}
			}
		},
	},
	{
		ID: "hygiene.temporary", Title: "The directories for temporary files are empty", Severity: Required,
		Why: "What the build left there is in every node until somebody finds it.",
		How: "/tmp, /var/tmp and /run have no files; /tmp and /var/tmp have the mode 1777.",
		run: func(n *node, r *result) {
			for _, f := range n.below("/tmp", "/var/tmp", "/run") {
				if path.Base(f) != ".keep" {
					r.fail("%s is left", f)
				}
			}
			for _, dir := range []string{"/tmp", "/var/tmp"} {
				if info, err := n.tree.Stat(dir); err != nil {
					r.fail("%v", err)
				} else if info.Mode() != fs.ModeDir|fs.ModeSticky|0o777 {
					r.fail("%s has the mode %v", dir, info.Mode())
				}
			}
		},
	},
	{
		ID: "hygiene.package-caches", Title: "No packages or indices are left from the build", Severity: Required,
		Why: "They take room, are out of date, and tell which mirror the build used.",
		How: "/var/lib/apt/lists, /var/cache/apt/archives, /var/cache/dnf and /var/cache/yum have no files but locks.",
		run: func(n *node, r *result) {
			for _, f := range n.below("/var/lib/apt/lists", "/var/cache/apt/archives", "/var/cache/dnf", "/var/cache/yum", "/var/cache/tdnf") {
				if base := path.Base(f); base != "lock" && base != ".keep" {
					r.fail("%s is left", f)
				}
			}
		},
	},
	{
		ID: "hygiene.core-files", Title: "No core files are left", Severity: Required,
		Why: "A core file has the memory of a program of the build in it.",
		How: "No core or core.NUMBER in /, /root, /var/crash, /var/lib/systemd/coredump.",
		run: func(n *node, r *result) {
			n.refuseFiles(r, "/core", "/core.*", "/root/core", "/root/core.*", "/var/crash/*", "/var/lib/systemd/coredump/*")
		},
	},
	{
		ID: "hygiene.installer", Title: "No installer's files are left", Severity: Required,
		Why: "Kickstart and preseed files have the build's passwords in them.",
		How: "No anaconda-ks.cfg, preseed, autoinstall or installer logs.",
		run: func(n *node, r *result) {
			n.refuseFiles(r, "/root/anaconda-ks.cfg", "/root/original-ks.cfg", "/root/*.ks", "/var/log/installer/*", "/var/log/anaconda/*",
				"/preseed.cfg", "/autoinstall.yaml", "/etc/netplan/00-installer-config*.yaml", "/tkg-tmp")
		},
	},
	{
		ID: "hygiene.hosts", Title: "/etc/hosts has only local names", Severity: Required,
		Why: "Addresses of the build's network are wrong on the node.",
		How: "Every line's address is a loopback or IPv6 multicast address.",
		run: func(n *node, r *result) {
			for _, line := range configLines(n.text("/etc/hosts")) {
				address := strings.Fields(line)[0]
				if !strings.HasPrefix(address, "127.") && address != "::1" && !strings.HasPrefix(strings.ToLower(address), "f") {
					r.fail("/etc/hosts has %q", line)
				}
			}
		},
	},
	{
		ID: "hygiene.resolver", Title: "No name server of the build is left", Severity: Required,
		Why: "The kubelet hands the node's resolv.conf to pods.",
		How: "/etc/resolv.conf is missing, empty, a link, or names only local resolvers.",
		run: func(n *node, r *result) {
			info, err := n.tree.Lstat("/etc/resolv.conf")
			if err != nil || info.Mode().Type() == fs.ModeSymlink {
				return
			}
			for _, line := range configLines(n.text("/etc/resolv.conf")) {
				if f := strings.Fields(line); f[0] == "nameserver" && len(f) > 1 && !strings.HasPrefix(f[1], "127.") && f[1] != "::1" {
					r.fail("/etc/resolv.conf has %q", line)
				}
			}
		},
	},
	{
		ID: "hygiene.extra-repositories", Title: "apt's sources are signed", Severity: Required, Families: []Family{Debian},
		Why: "trusted=yes installs whatever a mirror, or who stands before it, sends.",
		How: "No line of sources.list, sources.list.d or apt.conf.d turns off verification.",
		run: func(n *node, r *result) {
			for _, f := range append(n.below("/etc/apt/sources.list.d", "/etc/apt/apt.conf.d"), "/etc/apt/sources.list") {
				for _, line := range configLines(strings.ToLower(n.text(f))) {
					if strings.Contains(line, "trusted=yes") || strings.HasPrefix(line, "trusted: yes") ||
						strings.Contains(line, "allowunauthenticated \"true\"") || strings.Contains(line, "allow-insecure=yes") {
						r.fail("%s has %q", f, line)
					}
				}
			}
		},
	},
}

func checkProxies(n *node, r *result) {
	files := []string{"/etc/environment", "/etc/dnf/dnf.conf", "/etc/yum.conf", "/etc/wgetrc", "/root/.curlrc"}
	files = append(files, n.below("/etc/apt/apt.conf.d", "/etc/systemd/system.conf.d", "/etc/profile.d")...)
	for _, unit := range []string{"containerd.service.d", "kubelet.service.d"} {
		for _, dir := range unitDirs {
			files = append(files, n.below(path.Join(dir, unit))...)
		}
	}
	for _, f := range files {
		if slices.Contains(n.options.Files, f) {
			continue
		}
		for _, line := range configLines(n.text(f)) {
			lower := strings.ToLower(line)
			if strings.HasPrefix(line, "//") || !strings.Contains(lower, "proxy") || !strings.Contains(lower, "://") {
				continue
			}
			if strings.Contains(lower, "http_proxy") || strings.Contains(lower, "https_proxy") || strings.Contains(lower, "::proxy") || strings.HasPrefix(lower, "proxy") {
				r.fail("%s sets a proxy", f) // its URL may have a password
				break
			}
		}
	}
}

func checkLogs(n *node, r *result) {
	const allowance = 1 << 20
	rotated := regexp.MustCompile(`\.(gz|xz|zst|old|[0-9])$`)
	var total int64
	n.walk("/var/log", func(name string, info fs.FileInfo, err error) {
		if err != nil {
			r.fail("%v", err)
			return
		}
		total += info.Size()
		switch base := path.Base(name); {
		case strings.HasPrefix(name, "/var/log/journal/"):
			r.fail("%s is left", name)
		case rotated.MatchString(base):
			r.fail("%s is left", name)
		case slices.Contains([]string{"wtmp", "btmp", "lastlog", "faillog", "tallylog"}, base) && !n.zeros(name):
			r.fail("%s has entries", name)
		case slices.Contains([]string{"cloud-init.log", "cloud-init-output.log", "auth.log", "syslog", "messages", "secure"}, base) && info.Size() > 0:
			r.fail("%s is not empty", name)
		}
	})
	if total > allowance {
		r.fail("/var/log has %d bytes", total)
	}
}

// zeros reports whether a file has nothing but zeros in it, as a fresh lastlog.
func (n *node) zeros(name string) bool {
	content, err := n.tree.Content(name)
	if err != nil || content.Size() > maxLogs {
		return false
	}
	buffer := make([]byte, 64<<10)
	for {
		k, err := content.Read(buffer)
		if slices.ContainsFunc(buffer[:k], func(b byte) bool { return b != 0 }) {
			return false
		}
		if errors.Is(err, io.EOF) {
			return true
		}
		if err != nil {
			return false
		}
	}
}
