package vmtest

import (
	"context"
	"errors"

	"nodesmith.dev/nodesmith/internal/fault"
)

// bootChecks is what assets/boot-report.sh reports.
var bootChecks = []CheckInfo{
	{"user-data", "cloud-init ran the seed's user-data"},
	{"boot.finished", "systemd finished booting"},
	{"boot.units", "no unit failed"},
	{"cloud-init.status", "cloud-init is done without errors"},
	{"cloud-init.datasource", "cloud-init took its data from NoCloud"},
	{"cloud-init.seconds", "seconds from the kernel's start to cloud-init's end"},
	{"root.grown", "the root file system fills the disk"},
	{"fstab.mounted", "every file system of fstab is mounted from the device that it names"},
	{"network.route", "the seed's network configuration gave an IPv4 default route"},
	{"machine-id", "the machine made its machine-id"},
	{"ssh.host-keys", "the machine made its SSH host keys"},
	{"ssh.running", "sshd runs"},
	{"ssh.keys-only", "sshd takes no passwords"},
	{"containerd.active", "containerd runs and answers ctr"},
	{"containerd.cri", "containerd answers crictl"},
	{"containerd.cgroups", "containerd uses the systemd cgroup driver"},
	{"kubernetes.version", "kubelet, kubeadm and kubectl have the version of /etc/kubernetes-version"},
	{"images.present", "containerd holds every image that kubeadm asks for"},
	{"images.pinned", "kubelet's garbage collection spares these images"},
	{"kubelet.waits", "kubelet is enabled and waits for kubeadm"},
	{"kernel.modules", "overlay and br_netfilter are loaded"},
	{"kernel.sysctls", "the kernel parameters that Kubernetes needs are set"},
	{"swap.off", "there is no swap"},
	{"time.synchronised", "chrony runs"},
}

// clusterChecks is what assets/kubeadm-init.sh reports.
var clusterChecks = []CheckInfo{
	{"kubeadm.init", "kubeadm init succeeded"},
	{"apiserver.ready", "the API server answers /readyz"},
	{"control-plane.running", "etcd, API server, controller manager and scheduler run as static pods"},
	{"node.registered", "the node is registered as a control plane"},
	{"kube-proxy.rules", "kube-proxy runs and wrote the rules of the API server's service"},
}

// defaultGrowth is how much larger a machine's disk is than the image, in
// bytes: enough that a root file system that did not grow can't hide it.
const defaultGrowth = 2 << 30

// clusterMemory is what a machine needs at least that forms a control plane, in
// MiB: kubeadm wants 1700, and the components grow beyond that.
const clusterMemory = 3072

// BootOptions describe the levels boot and cluster of verify. Of RunOptions,
// Firmware and Seed are overwritten, and Growth defaults to 2 GiB.
type BootOptions struct {
	RunOptions
	Firmwares []Firmware // default BIOS and UEFI
	// Cluster has the machine of the first firmware form a control plane by
	// kubeadm init, with no network beyond the machine.
	Cluster bool
}

// Boot boots an image once on each firmware, one after the other, and returns
// what the guest reported. A failed check is no error: the report's verdict
// says it. When a guest hangs or dies, the others are booted all the same, and the
// error is fault.Guest; other errors end it. The report then holds what came.
func Boot(ctx context.Context, options BootOptions) (*Report, error) {
	if len(options.Firmwares) == 0 {
		options.Firmwares = []Firmware{BIOS, UEFI}
	}
	if options.Growth == 0 {
		options.Growth = defaultGrowth
	}
	if options.Disk.Format == "" {
		options.Disk.Format = Raw
	}
	report := &Report{APIVersion: ReportVersion, Kind: ReportKind, Cluster: options.Cluster, Verdict: Pass}
	size, err := options.Disk.Size(ctx)
	if err != nil {
		return nil, err
	}
	var errs []error
	for i, firmware := range options.Firmwares {
		run, script := options.RunOptions, bootScript(size+options.Growth)
		run.Firmware = firmware
		if options.Cluster && i == 0 {
			run.MemoryMiB = max(run.MemoryMiB, clusterMemory)
			run.clusterTime = true
			script = script.then(clusterScript())
		}
		result, err := Run(ctx, run, script)
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		if result.Verdict != Pass {
			report.Verdict = Fail
		}
		report.Boots = append(report.Boots, result)
		errs = append(errs, err)
		if err != nil && fault.KindOf(err) != fault.Guest {
			break // the host's trouble: the next boot would meet it, too
		}
	}
	return report, errors.Join(errs...)
}
