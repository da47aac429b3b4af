package pipeline

import (
	"fmt"
	"io/fs"
	"slices"
	"strconv"

	"nodesmith.dev/nodesmith/api/v1alpha1"
	"nodesmith.dev/nodesmith/internal/bundle"
	"nodesmith.dev/nodesmith/internal/disk"
	"nodesmith.dev/nodesmith/internal/disk/grub"
	"nodesmith.dev/nodesmith/internal/fault"
	"nodesmith.dev/nodesmith/internal/golang"
	"nodesmith.dev/nodesmith/internal/kubernetes"
	"nodesmith.dev/nodesmith/internal/node"
	"nodesmith.dev/nodesmith/internal/source/packages"
)

// config returns what step-node applies: the configuration of every node, then
// the boot loader's, then the user's; and the user's files that it names.
func (n nodeInputs) config(buildContext fs.FS) (node.Config, []bundle.File, error) {
	row, err := kubernetes.Lookup(n.lock.Kubernetes.Version)
	if err != nil {
		return node.Config{}, nil, err
	}
	base, err := node.Base(node.Params{
		Family:            n.release.Family,
		KubernetesVersion: n.lock.Kubernetes.Version,
		ContainerdConfig:  row.ContainerdConfig,
		SandboxImage:      n.sandboxImage(),
		Image:             n.image.Metadata.Name,
		NodesmithVersion:  n.version,
		LockDigest:        n.digest,
		Firmware:          n.image.Spec.Disk.Firmware,
	})
	if err != nil {
		return node.Config{}, nil, err
	}
	boot, err := n.boot()
	if err != nil {
		return node.Config{}, nil, err
	}
	place, err := n.infrastructure.Node(n.release)
	if err != nil {
		return node.Config{}, nil, err
	}
	servers := n.image.Spec.NTPServers
	if len(servers) == 0 {
		servers = n.infrastructure.TimeServers
	}
	clock, err := node.TimeServers(n.release.TimeDaemon, servers)
	if err != nil {
		return node.Config{}, nil, err
	}
	user, files, err := n.user(row, buildContext)
	if err != nil {
		return node.Config{}, nil, err
	}
	return base.With(boot).With(place).With(clock).With(user), files, nil
}

// sandboxImage returns the pause image that this kubeadm asks for.
func (n nodeInputs) sandboxImage() string {
	for _, image := range n.lock.Kubernetes.Images {
		if image.Component == golang.Pause {
			return image.Name
		}
	}
	return ""
}

// boot returns the boot loader's menu, /etc/fstab and the package sources.
func (n nodeInputs) boot() (node.Config, error) {
	arguments := slices.Concat(n.release.KernelArguments, n.infrastructure.KernelArguments, n.image.Spec.KernelArguments)
	menu, err := grub.Config(grub.Menu{
		Title:    fmt.Sprintf("%s %s, Kubernetes %s", n.release.Distro, n.release.Version, n.lock.Kubernetes.Version),
		RootUUID: n.disk.Identifiers.RootUUID(), Arguments: arguments,
		Kernel: n.release.Boot.Kernel, Initrd: n.release.Boot.Initrd,
	})
	if err != nil {
		return node.Config{}, err
	}
	defaults, err := grub.Defaults(arguments)
	if err != nil {
		return node.Config{}, err
	}
	fstab, err := disk.Fstab(n.disk.Partitions, n.disk.Identifiers)
	if err != nil {
		return node.Config{}, err
	}
	var directories []node.Directory
	if slices.Contains(n.image.Spec.Disk.Firmware, "uefi") {
		directories = []node.Directory{{Path: "/boot/efi"}}
	}
	config := node.Config{
		Directories: directories,
		Files: []node.File{
			{Path: "/boot/grub/grub.cfg", Content: string(menu)},
			{Path: "/etc/default/grub.d/50-nodesmith.cfg", Content: string(defaults)},
			{Path: "/etc/fstab", Content: string(fstab)},
		},
	}
	management, err := packages.NodeFiles(n.release, n.repositories)
	for _, f := range management {
		config.Files = append(config.Files, node.File{Path: f.Path, Content: f.Content})
	}
	return config, err
}

// user returns what the spec adds, and the files that it takes from the build
// context, by the names under which the configuration refers to them.
func (n nodeInputs) user(row kubernetes.Release, buildContext fs.FS) (node.Config, []bundle.File, error) {
	spec, values := n.image.Spec, n.values(row)
	config, err := trustConfig(spec.CACertificates, n.release.Family, buildContext)
	if err != nil {
		return config, nil, err
	}
	runtime, err := runtimeConfig(spec.ContainerRuntime, row, buildContext)
	if err != nil {
		return config, nil, err
	}
	kubelet, err := n.kubelet(row)
	if err != nil {
		return config, nil, err
	}
	proxy, err := proxyConfig(spec.Proxy)
	if err != nil {
		return config, nil, err
	}
	config = config.With(runtime).With(kubelet).With(proxy).With(unitConfig(spec.SystemdUnits))
	config.Sysctls, config.KernelModules, config.TimeZone = spec.Sysctls, spec.KernelModules, spec.TimeZone
	written, files, err := fileConfig(spec, values, buildContext)
	if err != nil {
		return config, nil, err
	}
	first, err := firstBootConfig(spec, values, buildContext)
	if err != nil {
		return config, nil, err
	}
	for _, g := range spec.Groups {
		config.Groups = append(config.Groups, node.Group{Name: g.Name, ID: number(g.GID)})
	}
	for _, u := range spec.Users {
		config.Users = append(config.Users, node.User{
			Name: u.Name, ID: number(u.UID), SSHAuthorizedKeys: u.SSHAuthorizedKeys, Groups: u.Groups, Shell: u.Shell, Sudo: u.Sudo,
		})
	}
	return config.With(first).With(written), files, nil
}

// number returns the id that a valid spec gives, 0 for none.
func number(id string) int {
	n, _ := strconv.Atoi(id) // validation let digits pass
	return n
}

// unitConfig returns the files of systemd units and what is enabled, disabled
// and masked.
func unitConfig(units []v1alpha1.SystemdUnit) node.Config {
	var config node.Config
	for _, unit := range units {
		if unit.Content != nil {
			config.Files = append(config.Files, node.File{Path: unit.Path(), Content: *unit.Content})
		}
		for _, dropIn := range unit.DropIns {
			config.Files = append(config.Files, node.File{Path: unit.DropInPath(dropIn), Content: dropIn.Content})
		}
		if unit.Enable {
			config.Units.Enable = append(config.Units.Enable, unit.Name)
		}
		if unit.Disable {
			config.Units.Disable = append(config.Units.Disable, unit.Name)
		}
		if unit.Mask {
			config.Units.Mask = append(config.Units.Mask, unit.Name)
		}
	}
	return config
}

// trustConfig returns the CA certificates, read from where they are.
func trustConfig(authorities []v1alpha1.CACertificate, family string, buildContext fs.FS) (node.Config, error) {
	var certificates []node.Certificate
	for i, authority := range authorities {
		ca, err := authority.Read(buildContext)
		if err != nil {
			return node.Config{}, fault.New(fault.BadSpec, "", "spec.caCertificates[%d]: %w", i, err)
		}
		certificates = append(certificates, node.Certificate{Name: authority.Name, PEM: ca.PEM, SubjectHash: ca.SubjectHash})
	}
	return node.TrustIn(family, certificates)
}
