package contract

import (
	"bytes"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strconv"
	"strings"
)

// account is a line of /etc/passwd with its password field from /etc/shadow.
type account struct {
	name, home, shell string
	uid               int
	password          string
}

// accounts reads /etc/passwd and /etc/shadow.
func (n *node) accounts() ([]account, error) {
	passwd, err := n.tree.ReadFile("/etc/passwd")
	if err != nil {
		return nil, err
	}
	shadow, err := n.tree.ReadFile("/etc/shadow")
	if err != nil {
		return nil, err
	}
	passwords := map[string]string{}
	for line := range strings.Lines(string(shadow)) {
		if f := strings.Split(strings.TrimSpace(line), ":"); len(f) > 1 {
			passwords[f[0]] = f[1]
		}
	}
	var out []account
	for line := range strings.Lines(string(passwd)) {
		f := strings.Split(strings.TrimRight(line, "\n"), ":")
		if len(f) != 7 {
			continue
		}
		uid, err := strconv.Atoi(f[2])
		if err != nil {
			return nil, fmt.Errorf("/etc/passwd: %s has the number %q", f[0], f[2])
		}
		a := account{name: f[0], uid: uid, home: f[5], shell: f[6], password: f[1]}
		if f[1] == "x" {
			a.password = passwords[f[0]]
			if _, ok := passwords[f[0]]; !ok {
				a.password = "*"
			}
		}
		out = append(out, a)
	}
	return out, nil
}

// Numbers of accounts that people get (login.defs, UID_MIN and UID_MAX).
const (
	firstPerson = 1000
	lastPerson  = 60000
)

// buildUsers are the accounts that image builders' installers make.
var buildUsers = []string{"builder", "packer", "vagrant", "ubuntu", "debian", "ec2-user", "cloud-user", "installer", "ansible"}

// identityChecks: nothing that tells two nodes apart, or lets the build's owner
// in, is in the image.
var identityChecks = []Check{
	{
		ID: "identity.machine-id", Title: "The image has no machine-id", Severity: Required,
		Why: "Nodes with one machine-id get one DHCP lease and one identity in the cluster; a missing file makes systemd treat every boot as the first, or fail on a read-only root.",
		How: "/etc/machine-id is there and empty, or says \"uninitialized\".",
		run: func(n *node, r *result) {
			content, err := n.tree.ReadFile("/etc/machine-id")
			switch {
			case err != nil && n.family == Flatcar && isMissing(err):
			case err != nil:
				r.fail("%v", err)
			case len(bytes.TrimSpace(content)) != 0 && strings.TrimSpace(string(content)) != "uninitialized":
				r.fail("/etc/machine-id has %d characters", len(bytes.TrimSpace(content)))
			}
			if info, err := n.tree.Lstat("/var/lib/dbus/machine-id"); err == nil && info.Mode().IsRegular() && info.Size() > 0 {
				r.fail("/var/lib/dbus/machine-id is a file of its own")
			}
		},
	},
	{
		ID: "identity.ssh-host-keys", Title: "The image has no SSH host keys", Severity: Required,
		Why: "Who has the image has the keys of every node, and can stand in for it.",
		How: "There is no /etc/ssh/ssh_host_*_key or its public half.",
		run: func(n *node, r *result) { n.refuseFiles(r, "/etc/ssh/ssh_host_*") },
	},
	{
		ID: "identity.hostname", Title: "The image has no host name of its own", Severity: Required,
		Why: "A node whose name was not set joins under the image's, and the second one replaces the first.",
		How: "/etc/hostname is missing, empty, or a form of localhost.",
		run: func(n *node, r *result) {
			if name := strings.TrimSpace(n.text("/etc/hostname")); name != "" && !strings.HasPrefix(name, "localhost") {
				r.fail("/etc/hostname is %q", name)
			}
		},
	},
	{
		ID: "identity.random-seed", Title: "The image has no random seed", Severity: Required,
		Why: "Machines that start from one seed draw the same first random numbers.",
		How: "There is no /var/lib/systemd/random-seed, no loader's random-seed on the EFI system partition, no credential.secret.",
		run: func(n *node, r *result) {
			n.refuseFiles(r, "/var/lib/systemd/random-seed", "/var/lib/systemd/credential.secret", "/boot/efi/loader/random-seed")
		},
	},
	{
		ID: "identity.network", Title: "No network interface is pinned", Severity: Required,
		Why: "Rules with the MAC address of the build's machine keep the node's own interface down.",
		How: "No 70-persistent-net.rules, no HWADDR, UUID or DHCP lease, no netplan, ifupdown or NetworkManager file that names a MAC address.",
		run: checkNetworkFiles,
	},
	{
		ID: "identity.iscsi", Title: "The image has no iSCSI or NVMe host identity", Severity: Required,
		Why: "Storage arrays tell nodes apart by it; two nodes with one name corrupt each other's volumes.",
		How: "/etc/iscsi/initiatorname.iscsi has no InitiatorName that was generated; there is no /etc/nvme/hostid.",
		run: func(n *node, r *result) {
			if name := shellVariables(n.text("/etc/iscsi/initiatorname.iscsi"))["InitiatorName"]; name != "" {
				r.fail("/etc/iscsi/initiatorname.iscsi has the name %s", name)
			}
			n.refuseFiles(r, "/etc/nvme/hostid", "/etc/nvme/hostnqn")
		},
	},
	{
		ID: "accounts.none-of-build", Title: "No account of the build is left", Severity: Required,
		Why: "CVE-2024-9486: the account that the image was built through stayed in it, with a known password.",
		How: "/etc/passwd has no account with a number from 1000 to 60000, no second one with the number 0, none of the names that image builders use, but for those that --account names; no home directory is left of one.",
		run: checkAccounts,
	},
	{
		ID: "accounts.no-passwords", Title: "No account has a password", Severity: Required,
		Why: "CVE-2024-9486: a password in an image opens every node; an empty one needs no guessing.",
		How: "Every password field of /etc/shadow and /etc/passwd is locked (starts with * or !) and not empty.",
		run: func(n *node, r *result) {
			accounts, err := n.accounts()
			if err != nil {
				r.fail("%v", err)
				return
			}
			for _, a := range accounts {
				if !strings.HasPrefix(a.password, "*") && !strings.HasPrefix(a.password, "!") {
					r.fail("%s can log in with a password", a.name)
				} else if strings.HasPrefix(a.password, "!$") {
					r.fail("%s has a password that is only locked", a.name)
				}
			}
		},
	},
	{
		ID: "accounts.no-authorized-keys", Title: "No SSH key is authorized", Severity: Required,
		Why: "Who has the private half is let in on every node.",
		How: "No authorized_keys file with a line in it in any home directory, in /root, or in /etc/ssh.",
		run: checkAuthorizedKeys,
	},
	{
		ID: "accounts.sudoers", Title: "Nobody becomes root by sudo rules of the build", Severity: Required,
		Why: "Installers write passwordless sudo rules for the build's account; an account of that name made later inherits them.",
		How: "/etc/sudoers and /etc/sudoers.d have rules for root and groups only, none with NOPASSWD.",
		run: checkSudoers,
	},
	{
		ID: "accounts.ssh-passwords", Title: "sshd takes no passwords", Severity: Recommended,
		Why: "Nodes are reached by key, if at all.",
		How: "The first PasswordAuthentication in sshd_config and sshd_config.d is no.",
		run: func(n *node, r *result) {
			if !n.tree.Exists("/etc/ssh/sshd_config") {
				return
			}
			if v := n.sshdSetting("passwordauthentication"); v != "no" {
				r.fail("PasswordAuthentication is %q", v)
			}
		},
	},
	{
		ID: "accounts.no-credentials", Title: "No credential of the build is in the image", Severity: Required,
		Why: "Tokens, keys and proxies with passwords of the build are every node's, and in every copy of the image.",
		How: "Home directories, /etc and the places of known tools have no credential files, no private keys, no URL with a password; known certificates that packages bring are left out.",
		run: checkCredentials,
	},
}

func checkNetworkFiles(n *node, r *result) {
	n.refuseFiles(r, "/etc/udev/rules.d/70-persistent-net.rules", "/etc/udev/rules.d/75-persistent-net-generator.rules",
		"/var/lib/dhcp/*.leases", "/var/lib/dhclient/*.lease*", "/var/lib/NetworkManager/*.lease", "/var/lib/dhcpcd/*.lease", "/run/systemd/netif/leases/*")
	for _, dir := range []string{"/etc/netplan", "/run/netplan", "/lib/netplan", "/etc/network/interfaces.d", "/etc/NetworkManager/system-connections", "/etc/sysconfig/network-scripts"} {
		for _, f := range n.list(dir) {
			for _, line := range configLines(strings.ToLower(n.text(path.Join(dir, f)))) {
				for _, key := range []string{"macaddress:", "hwaddr=", "mac-address=", "uuid=", "hwaddress "} {
					if strings.HasPrefix(line, key) {
						r.fail("%s has %q", path.Join(dir, f), line)
					}
				}
			}
		}
	}
}

func checkAccounts(n *node, r *result) {
	accounts, err := n.accounts()
	if err != nil {
		r.fail("%v", err)
		return
	}
	homes := map[string]bool{}
	for _, a := range accounts {
		homes[path.Clean(a.home)] = true
		person := a.uid >= firstPerson && a.uid <= lastPerson || slices.Contains(buildUsers, a.name)
		switch {
		case slices.Contains(n.options.Accounts, a.name):
		case a.uid == 0 && a.name != "root":
			r.fail("%s has root's number", a.name)
		case person:
			r.fail("there is an account %s (%d)", a.name, a.uid)
		}
	}
	for _, dir := range n.list("/home") {
		home := path.Join("/home", dir)
		if info, err := n.tree.Lstat(home); err == nil && info.IsDir() && dir != "lost+found" && !homes[home] {
			r.fail("%s is the home of no account", home)
		}
	}
}

func checkAuthorizedKeys(n *node, r *result) {
	files := []string{"/root/.ssh/authorized_keys", "/root/.ssh/authorized_keys2", "/etc/ssh/authorized_keys"}
	files = append(files, n.tree.Glob("/etc/ssh/authorized_keys.d/*")...)
	files = append(files, n.tree.Glob("/home/*/.ssh/authorized_keys*")...)
	accounts, err := n.accounts()
	if err != nil {
		r.fail("%v", err)
		return
	}
	wanted := map[string]bool{} // homes whose keys the image is meant to have
	for _, a := range accounts {
		wanted[path.Clean(a.home)] = slices.Contains(n.options.Accounts, a.name)
		if a.home != "/root" && !strings.HasPrefix(a.home, "/home/") {
			files = append(files, path.Join(a.home, ".ssh/authorized_keys"))
		}
	}
	for _, f := range files {
		if wanted[path.Dir(path.Dir(f))] {
			continue
		}
		content, err := n.tree.ReadFile(f)
		if err != nil && !isMissing(err) {
			if info, statErr := n.tree.Stat(f); statErr == nil && info.IsDir() {
				continue
			}
			r.fail("%v", err)
		}
		if len(configLines(string(content))) > 0 {
			r.fail("%s has keys", f)
		}
	}
}

func checkSudoers(n *node, r *result) {
	files := []string{"/etc/sudoers"}
	for _, f := range n.list("/etc/sudoers.d") {
		if !strings.Contains(f, ".") && !strings.HasSuffix(f, "~") { // sudo skips these
			files = append(files, path.Join("/etc/sudoers.d", f))
		}
	}
	for _, f := range files {
		for _, line := range configLines(strings.ReplaceAll(n.text(f), "\\\n", " ")) {
			fields := strings.Fields(line)
			who := fields[0]
			if strings.HasPrefix(who, "Defaults") || strings.HasPrefix(who, "@include") || strings.HasSuffix(who, "_Alias") ||
				slices.Contains(n.options.Accounts, who) {
				continue
			}
			if strings.Contains(line, "NOPASSWD") || who != "root" && !strings.HasPrefix(who, "%") {
				r.fail("%s has the rule %q", f, line)
			}
		}
	}
}

// sshdSetting is the value that sshd takes: the first one, files of
// sshd_config.d coming first where sshd_config includes them at its start.
func (n *node) sshdSetting(key string) string {
	main := configLines(n.text("/etc/ssh/sshd_config"))
	var lines []string
	for _, line := range main {
		if f := strings.Fields(line); len(f) > 1 && strings.EqualFold(f[0], "Include") {
			for _, name := range n.tree.Glob(f[1]) {
				lines = append(lines, configLines(n.text(name))...)
			}
			continue
		}
		lines = append(lines, line)
	}
	for _, line := range lines {
		f := strings.Fields(strings.Replace(line, "=", " ", 1))
		if len(f) < 2 || strings.EqualFold(f[0], "Match") {
			if len(f) > 0 && strings.EqualFold(f[0], "Match") {
				break
			}
			continue
		}
		if strings.EqualFold(f[0], key) {
			return strings.ToLower(f[1])
		}
	}
	return ""
}

// regular reports whether a walked file is one to read.
func regular(info fs.FileInfo, err error) bool {
	return err == nil && info != nil && info.Mode().IsRegular()
}
