package contract

import (
	"bytes"
	"encoding/binary"
	"slices"
	"strings"
	"testing"

	bolt "go.etcd.io/bbolt"

	"nodesmith.dev/nodesmith/internal/fault"
	"nodesmith.dev/nodesmith/internal/imagefs"
)

const (
	kubeadmDropIn = "/usr/lib/systemd/system/kubelet.service.d/10-kubeadm.conf"
	sysctlFile    = "/etc/sysctl.d/99-kubernetes.conf"
	statusPath    = statusFile
	menu          = "/boot/grub/grub.cfg"
	extraConfig   = "/etc/cloud/cloud.cfg.d/99_test.cfg"
)

// faults are single changes to a good image, each with the one check that is
// meant for it.
var faults = []struct {
	name, check string
	change      func(f *fixture)
}{
	// disk
	{"backup partition table erased", "disk.partition-table", func(f *fixture) { f.patch(f.size-512, make([]byte, 512)) }},
	{"no BIOS boot partition", "disk.bios-boot", func(f *fixture) { f.sgdisk("--delete=1") }},
	{"empty BIOS boot partition", "disk.bios-boot", func(f *fixture) { f.patch(1<<20, make([]byte, 512)) }},
	{"no boot code", "disk.bios-boot", func(f *fixture) { f.patch(0, make([]byte, 440)) }},
	{"no fallback loader", "disk.esp", func(f *fixture) { f.mtools("mdel", "::/EFI/BOOT/BOOTX64.EFI") }},
	{"EFI system partition of another type", "disk.esp", func(f *fixture) { f.sgdisk("--typecode=2:0700") }},
	{"partition behind the root", "disk.root-last", func(f *fixture) { f.sgdisk("--set-alignment=1", "--largest-new=0") }},
	{"swap partition", "disk.no-swap-partition", func(f *fixture) { f.sgdisk("--set-alignment=1", "--new=0:34:2047", "--typecode=4:8200") }},
	{"LVM partition", "disk.no-lvm", func(f *fixture) { f.sgdisk("--set-alignment=1", "--new=0:34:2047", "--typecode=4:8e00") }},
	{"file system not unmounted", "disk.root-file-system", func(f *fixture) { f.debugfs("ssv state 0") }},
	{"fstab of another disk", "disk.fstab", func(f *fixture) {
		f.replace("/etc/fstab", f.rootUUID(), "00000000-0000-4000-8000-000000000000")
	}},
	{"fstab with a device name", "disk.fstab", func(f *fixture) { f.add("/etc/fstab", "/dev/sdb1 /data ext4 defaults 0 2\n") }},
	{"another kind in fstab", "disk.fstab", func(f *fixture) { f.replace("/etc/fstab", " vfat ", " ext4 ") }},
	{"file system mounted on a file", "disk.fstab", func(f *fixture) {
		f.add("/etc/fstab", "UUID="+f.rootUUID()+" /etc/hosts ext4 defaults 0 2\n")
	}},
	{"file system mounted where there is nothing", "disk.fstab", func(f *fixture) {
		f.add("/etc/fstab", "UUID="+f.rootUUID()+" /srv/no/thing ext4 nofail 0 2\n")
	}},
	{"two file systems on one directory", "disk.fstab", func(f *fixture) {
		f.add("/etc/fstab", "UUID="+f.rootUUID()+" /boot/efi ext4 nofail 0 2\n")
	}},
	{"fstab without an end", "disk.fstab", func(f *fixture) { f.add("/etc/fstab", strings.Repeat("tmpfs /tmp tmpfs defaults 0 0\n", 5000)) }},
	// boot
	{"unsigned GRUB", "boot.signed-loaders", func(f *fixture) {
		f.changeESP("/EFI/BOOT/grubx64.efi", func(b []byte) {
			at := binary.LittleEndian.Uint32(b[peOffset:]) + optionalHeader + certificates64
			clear(b[at : at+8])
		})
	}},
	{"shim changed after signing", "boot.signed-loaders", func(f *fixture) {
		f.changeESP("/EFI/BOOT/BOOTX64.EFI", func(b []byte) { b[len(b)/2] ^= 1 })
	}},
	{"kernel changed after signing", "boot.kernel-signed", func(f *fixture) {
		name, err := f.tree.Resolve("/vmlinuz")
		if err != nil {
			f.t.Fatal(err)
		}
		b := f.read(name)
		b[len(b)/2] ^= 1
		f.write(name, string(b), 0o644)
	}},
	{"no initramfs", "boot.kernel", func(f *fixture) { f.remove("/initrd.img") }},
	{"root by device name", "boot.root-argument", func(f *fixture) {
		f.replace(menu, "root=UUID="+f.rootUUID(), "root=/dev/vda3")
	}},
	{"no serial console", "boot.console", func(f *fixture) { f.replace(menu, "console=ttyS0,115200n8", "quiet") }},
	{"initramfs without drivers", "drivers.initramfs", func(f *fixture) {
		name, err := f.tree.Resolve("/initrd.img")
		if err != nil {
			f.t.Fatal(err)
		}
		f.write(name, cpio("init", "usr/lib/modules/6/kernel/drivers/block/virtio_blk.ko"), 0o644)
	}},
	// kernel
	{"br_netfilter not loaded", "kernel.modules-load", func(f *fixture) { f.replace("/etc/modules-load.d/kubernetes.conf", "\nbr_netfilter", "\n#") }},
	{"module file missing", "kernel.modules-loadable", func(f *fixture) {
		f.remove(f.tree.Glob("/usr/lib/modules/*/kernel/net/bridge/br_netfilter.ko*")...)
	}},
	{"swap in fstab", "node.no-swap", func(f *fixture) { f.add("/etc/fstab", "/swap.img none swap sw 0 0\n") }},
	{"swap unit", "node.no-swap", func(f *fixture) { f.write("/etc/systemd/system/dev-vdb.swap", "[Swap]\nWhat=/dev/vdb\n", 0o644) }},
	{"swap file left", "node.no-swap-file", func(f *fixture) { f.write("/swapfile", strings.Repeat("\x00", 8192), 0o600) }},
	{"no forwarding", "sysctl.net.ipv4.ip_forward", func(f *fixture) { f.replace(sysctlFile, "net.ipv4.ip_forward = 1", "net.ipv4.ip_forward = 0") }},
	{"bridges pass iptables by", "sysctl.net.bridge.bridge-nf-call-iptables", func(f *fixture) { f.replace(sysctlFile, "net.bridge.bridge-nf-call-iptables = 1", "") }},
	{"a later file changes a setting", "sysctl.vm.overcommit_memory", func(f *fixture) {
		f.write("/usr/lib/sysctl.d/99-z.conf", "vm/overcommit_memory=0\n", 0o644)
	}},
	{"few inotify watches", "sysctl.fs.inotify.max_user_watches", func(f *fixture) { f.replace(sysctlFile, "fs.inotify.max_user_watches", "# ") }},
	// services
	{"kubelet not enabled", "service.kubelet", func(f *fixture) { f.remove("/etc/systemd/system/multi-user.target.wants/kubelet.service") }},
	{"auditd masked", "service.auditd", func(f *fixture) { f.debugfs("symlink /etc/systemd/system/auditd.service /dev/null") }},
	{"unattended upgrades", "service.apt-daily", func(f *fixture) { f.remove("/etc/systemd/system/apt-daily.timer") }},
	{"docker enabled", "service.docker", func(f *fixture) {
		f.write("/usr/lib/systemd/system/docker.service", "[Service]\nExecStart=/usr/bin/dockerd\n", 0o644)
		f.debugfs("symlink /etc/systemd/system/multi-user.target.wants/docker.service /usr/lib/systemd/system/docker.service")
	}},
	{"no time service", "service.time", func(f *fixture) { f.remove("/etc/systemd/system/multi-user.target.wants/chrony.service") }},
	// packages
	{"half-installed package", "packages.database", func(f *fixture) {
		f.add(statusPath, "\nPackage: broken\nStatus: install ok half-configured\nVersion: 1\n")
	}},
	{"package ntp", "packages.forbidden", func(f *fixture) { f.add(statusPath, "\nPackage: ntp\nStatus: install ok installed\nVersion: 1\n") }},
	{"no conntrack", "programs.conntrack", func(f *fixture) { f.remove("/usr/sbin/conntrack") }},
	{"growpart not executable", "programs.growpart", func(f *fixture) { f.debugfs("sif /usr/bin/growpart mode 0100644") }},
	// Kubernetes
	{"kubelet of another version", "kubernetes.one-version", func(f *fixture) {
		f.replace("/usr/bin/kubelet", "mod\tk8s.io/kubernetes\tv1.34.0", "mod\tk8s.io/kubernetes\tv1.33.0")
	}},
	{"kubectl cut short", "kubernetes.programs", func(f *fixture) { f.write("/usr/bin/kubectl", "\x7fELF", 0o755) }},
	{"wrong version file", "kubernetes.version-file", func(f *fixture) { f.replace("/etc/kubernetes-version", "v1.34.0", "v1.33.9") }},
	{"plugin of another architecture", "kubernetes.architecture", func(f *fixture) {
		b := f.read(cniDir + "/vlan")
		binary.LittleEndian.PutUint16(b[18:], 183) // e_machine: EM_AARCH64
		f.write(cniDir+"/vlan", string(b), 0o755)
	}},
	{"no loopback plugin", "kubernetes.cni-plugins", func(f *fixture) { f.remove(cniDir + "/loopback") }},
	{"kubelet ignores kubeadm's flags", "kubernetes.kubelet-drop-in", func(f *fixture) { f.replace(kubeadmDropIn, " $KUBELET_KUBEADM_ARGS", "") }},
	{"kubelet gives up", "kubernetes.kubelet-unit", func(f *fixture) {
		f.replace("/usr/lib/systemd/system/kubelet.service", "Restart=always", "Restart=on-failure")
	}},
	{"kubelet with cgroupfs", "kubernetes.kubelet-cgroup-driver", func(f *fixture) {
		f.write("/etc/default/kubelet", "KUBELET_EXTRA_ARGS=--cgroup-driver=cgroupfs\n", 0o644)
	}},
	{"network configured", "kubernetes.no-cni-config", func(f *fixture) { f.write("/etc/cni/net.d/10-bridge.conf", "{}\n", 0o644) }},
	{"node of a cluster", "kubernetes.no-cluster", func(f *fixture) { f.write("/etc/kubernetes/kubelet.conf", "apiVersion: v1\n", 0o600) }},
	{"crictl asks docker", "kubernetes.crictl", func(f *fixture) {
		f.write("/etc/crictl.yaml", "runtime-endpoint: unix:///var/run/dockershim.sock\n", 0o644)
	}},
	{"kubelet writable by all", "kubernetes.file-modes", func(f *fixture) { f.debugfs("sif /usr/bin/kubelet mode 0100777") }},
	{"containerd of another owner", "kubernetes.file-modes", func(f *fixture) { f.debugfs("sif /usr/local/bin/containerd uid 1000") }},
	// containerd
	{"no runc", "containerd.programs", func(f *fixture) { f.remove("/usr/local/sbin/runc") }},
	{"shim of another version", "containerd.one-version", func(f *fixture) {
		f.replace("/usr/local/bin/containerd-shim-runc-v2", "github.com/containerd/containerd/v2\tv2.1.4", "github.com/containerd/containerd/v2\tv2.0.4")
	}},
	{"containerd may be killed", "containerd.unit", func(f *fixture) {
		f.write("/etc/systemd/system/containerd.service.d/zz.conf", "[Service]\nOOMScoreAdjust=0\n", 0o644)
	}},
	{"old configuration version", "containerd.config", func(f *fixture) { f.replace(containerdFile, "version = 3", "version = 2") }},
	{"no drop-ins", "containerd.imports", func(f *fixture) { f.replace(containerdFile, "imports = ", "# ") }},
	{"wrong cgroup driver", "containerd.cgroup-driver", func(f *fixture) { f.replace(containerdFile, "SystemdCgroup = true", "SystemdCgroup = false") }},
	{"cgroup driver changed by a drop-in", "containerd.cgroup-driver", func(f *fixture) {
		f.write(confDir+"/x.toml", "version = 3\n[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc.options]\nSystemdCgroup = false\n", 0o644)
	}},
	{"old runtime", "containerd.runtime", func(f *fixture) { f.replace(containerdFile, "io.containerd.runc.v2", "io.containerd.runtime.v1.linux") }},
	{"no registry directory", "containerd.registry", func(f *fixture) { f.replace(containerdFile, "config_path", "# config_path") }},
	{"another sandbox image", "containerd.sandbox-image", func(f *fixture) { f.replace(containerdFile, "pause:3.10.1", "pause:3.9") }},
	// images
	{"damaged metadata", "images.store", func(f *fixture) { f.write(metaDB, strings.Repeat("x", 65536), 0o644) }},
	{"missing container image", "images.complete", func(f *fixture) {
		f.changeStore(func(b *bolt.Bucket) error {
			return b.Bucket([]byte("images")).DeleteBucket([]byte("registry.k8s.io/kube-scheduler:v1.34.0"))
		})
	}},
	{"etcd of another version", "images.complete", func(f *fixture) {
		f.changeStore(renameImage("registry.k8s.io/etcd:3.6.4-0", "registry.k8s.io/etcd:3.5.21-0"))
	}},
	{"image of another registry", "images.repository", func(f *fixture) {
		f.changeStore(renameImage("registry.k8s.io/kube-proxy:v1.34.0", "registry.example.com/kube-proxy:v1.34.0"))
	}},
	{"corrupted layer", "images.content", func(f *fixture) {
		b := f.read(largestBlob(f))
		b[len(b)/2] ^= 1
		f.write(largestBlob(f), string(b), 0o444)
	}},
	{"missing layer", "images.content", func(f *fixture) { f.remove(largestBlob(f)) }},
	{"layer cut short", "images.content", func(f *fixture) {
		b := f.read(largestBlob(f))
		f.write(largestBlob(f), string(b[:len(b)-1]), 0o444)
	}},
	{"image not unpacked", "images.unpacked", func(f *fixture) {
		f.changeStore(func(b *bolt.Bucket) error {
			return b.Bucket([]byte("snapshots")).DeleteBucket([]byte(overlay))
		})
	}},
	{"image unknown to CRI", "images.managed", func(f *fixture) {
		f.changeStore(func(b *bolt.Bucket) error {
			return b.Bucket([]byte("images")).Bucket([]byte("registry.k8s.io/pause:3.10.1")).DeleteBucket([]byte("labels"))
		})
	}},
	// cloud-init
	{"cloud-init disabled", "cloud-init.not-disabled", func(f *fixture) { f.write("/etc/cloud/cloud-init.disabled", "", 0o644) }},
	{"cloud-init disabled by the kernel", "cloud-init.not-disabled", func(f *fixture) { f.replace(menu, " ro ", " ro cloud-init=disabled ") }},
	{"another data source", "cloud-init.datasource", func(f *fixture) { f.write(extraConfig, "datasource_list: [Ec2, None]\n", 0o644) }},
	{"pinned data source", "cloud-init.no-ds-identify", func(f *fixture) { f.write("/etc/cloud/ds-identify.cfg", "datasource: NoCloud\n", 0o644) }},
	{"network disabled", "cloud-init.network", func(f *fixture) { f.write(extraConfig, "network: {config: disabled}\n", 0o644) }},
	{"root does not grow", "cloud-init.grow", func(f *fixture) { f.write(extraConfig, "growpart: {mode: 'off'}\n", 0o644) }},
	{"bootstrap before containerd", "cloud-init.after-containerd", func(f *fixture) { f.remove("/etc/systemd/system/cloud-final.service.d/boot-order.conf") }},
	{"cloud-init has run", "cloud-init.no-instance", func(f *fixture) { f.write("/var/lib/cloud/data/instance-id", "i-1\n", 0o644) }},
	{"seed left", "cloud-init.no-seed", func(f *fixture) { f.write("/var/lib/cloud/seed/nocloud/user-data", "#cloud-config\n", 0o644) }},
	{"installer's file left", "cloud-init.no-installer-files", func(f *fixture) { f.write("/etc/cloud/cloud.cfg.d/99-installer.cfg", "{}\n", 0o644) }},
	{"a part ends the rest", "cloud-init.tolerant", func(f *fixture) {
		const dir = "/usr/lib/python3/dist-packages/cloudinit/"
		// As from 23.3 on, where nothing reads the overrides.
		features := strings.NewReplacer("FAILURE = False", "FAILURE = True", "cloudinit.feature_overrides", "cloudinit.nothing")
		f.write(dir+"features.py", features.Replace(string(f.read(dir+"features.py"))), 0o644)
		f.write(dir+"feature_overrides.py", "ERROR_ON_USER_DATA_FAILURE = False\n", 0o644)
	}},
	{"host keys kept", "cloud-init.host-keys", func(f *fixture) { f.write(extraConfig, "ssh_deletekeys: false\n", 0o644) }},
	// identity and hygiene
	{"machine-id", "identity.machine-id", func(f *fixture) { f.write("/etc/machine-id", strings.Repeat("a", 32)+"\n", 0o444) }},
	{"left-over host key", "identity.ssh-host-keys", func(f *fixture) {
		f.write("/etc/ssh/ssh_host_ed25519_key", "-----BEGIN OPENSSH PRIVATE KEY-----\n", 0o600)
	}},
	{"host name of the build", "identity.hostname", func(f *fixture) { f.write("/etc/hostname", "builder-17\n", 0o644) }},
	{"random seed", "identity.random-seed", func(f *fixture) { f.write("/var/lib/systemd/random-seed", "0123456789", 0o600) }},
	{"pinned interface", "identity.network", func(f *fixture) {
		f.write("/etc/netplan/50-cloud-init.yaml", "network:\n  ethernets:\n    eth0:\n      match:\n        macaddress: 52:54:00:12:34:56\n", 0o600)
	}},
	{"iSCSI name", "identity.iscsi", func(f *fixture) {
		f.write("/etc/iscsi/initiatorname.iscsi", "InitiatorName=iqn.1993-08.org.debian:01:1\n", 0o600)
	}},
	{"proxy of the build", "hygiene.proxies", func(f *fixture) {
		f.write("/etc/systemd/system/containerd.service.d/http-proxy.conf", "[Service]\nEnvironment=\"HTTP_PROXY=http://10.0.0.1:3128\"\n", 0o644)
	}},
	{"journal of the build", "hygiene.logs", func(f *fixture) { f.write("/var/log/journal/abc/system.journal", "LPKSHHRH", 0o640) }},
	{"logins of the build", "hygiene.logs", func(f *fixture) { f.write("/var/log/wtmp", strings.Repeat("x", 384), 0o664) }},
	{"history", "hygiene.histories", func(f *fixture) { f.write("/root/.bash_history", "ls\n", 0o600) }},
	{"temporary file", "hygiene.temporary", func(f *fixture) { f.write("/var/tmp/script.sh", "ls\n", 0o755) }},
	{"package lists", "hygiene.package-caches", func(f *fixture) { f.write("/var/lib/apt/lists/mirror_dists_stable_Release", "x", 0o644) }},
	{"core file", "hygiene.core-files", func(f *fixture) { f.write("/core.123", "x", 0o600) }},
	{"kickstart file", "hygiene.installer", func(f *fixture) { f.write("/root/anaconda-ks.cfg", "x", 0o600) }},
	{"host of the build", "hygiene.hosts", func(f *fixture) { f.add("/etc/hosts", "10.0.0.5 registry.internal\n") }},
	{"unsigned packages", "hygiene.extra-repositories", func(f *fixture) {
		f.write("/etc/apt/sources.list.d/x.list", "deb [trusted=yes] http://deb.debian.org/debian bookworm main\n", 0o644)
	}},
	{"passwords for SSH", "accounts.ssh-passwords", func(f *fixture) {
		f.replace("/etc/ssh/sshd_config.d/10-nodesmith.conf", "PasswordAuthentication no", "PasswordAuthentication yes")
	}},
}

// CVE-2024-9486 and its like: what lets the build's owner in.
var credentialFaults = []struct {
	name, check string
	change      func(f *fixture)
}{
	{"account of the build", "accounts.none-of-build", func(f *fixture) {
		f.add("/etc/passwd", "builder:x:1000:1000::/home/builder:/bin/bash\n")
	}},
	{"home of the build's account", "accounts.none-of-build", func(f *fixture) { f.debugfs("mkdir /home/builder") }},
	{"second root", "accounts.none-of-build", func(f *fixture) { f.add("/etc/passwd", "toor:*:0:0::/root:/bin/bash\n") }},
	{"password of root", "accounts.no-passwords", func(f *fixture) { f.replace("/etc/shadow", "root:*:", "root:$6$salt$hash:") }},
	{"empty password", "accounts.no-passwords", func(f *fixture) { f.replace("/etc/shadow", "root:*:", "root::") }},
	{"password that is only locked", "accounts.no-passwords", func(f *fixture) { f.replace("/etc/shadow", "root:*:", "root:!$6$salt$hash:") }},
	{"authorized key", "accounts.no-authorized-keys", func(f *fixture) { f.write("/root/.ssh/authorized_keys", "ssh-ed25519 AAAA build\n", 0o600) }},
	{"sudoers file of a build user", "accounts.sudoers", func(f *fixture) { f.write("/etc/sudoers.d/builder", "builder ALL=(ALL) NOPASSWD: ALL\n", 0o440) }},
	{"registry token", "accounts.no-credentials", func(f *fixture) { f.write("/root/.docker/config.json", "{\"auths\":{}}\n", 0o600) }},
	{"cloud credentials", "accounts.no-credentials", func(f *fixture) { f.write("/root/.aws/credentials", "[default]\n", 0o600) }},
	{"mirror with a password", "accounts.no-credentials", func(f *fixture) {
		f.write("/etc/apt/sources.list.d/m.list", "deb https://bob:s3cret@mirror.example.com/debian bookworm main\n", 0o644)
	}},
	{"private key", "accounts.no-credentials", func(f *fixture) {
		f.write("/etc/ssl/private/build.pem", "-----BEGIN RSA PRIVATE KEY-----\n", 0o600)
	}},
}

func renameImage(old, name string) func(*bolt.Bucket) error {
	return func(namespace *bolt.Bucket) error {
		images := namespace.Bucket([]byte("images"))
		to, err := images.CreateBucket([]byte(name))
		if err != nil {
			return err
		}
		if err := copyBucket(images.Bucket([]byte(old)), to); err != nil {
			return err
		}
		return images.DeleteBucket([]byte(old))
	}
}

func copyBucket(from, to *bolt.Bucket) error {
	return from.ForEach(func(k, v []byte) error {
		if v != nil {
			return to.Put(k, v)
		}
		nested, err := to.CreateBucket(k)
		if err != nil {
			return err
		}
		return copyBucket(from.Bucket(k), nested)
	})
}

// largestBlob is a layer.
func largestBlob(f *fixture) string {
	f.t.Helper()
	best, size := "", int64(0)
	for _, name := range f.tree.Glob(blobsDir + "/sha256/*") {
		if info, err := f.tree.Stat(name); err == nil && info.Size() > size {
			best, size = name, info.Size()
		}
	}
	return best
}

// cpio is an initramfs with empty files.
func cpio(names ...string) string {
	var b bytes.Buffer
	for _, n := range append(names, cpioEnd) {
		b.WriteString("070701" + strings.Repeat("0", 88) + hex8(len(n)+1) + "00000000" + n)
		b.Write(make([]byte, int(pad4(uint64(cpioHeader+len(n)+1)))-cpioHeader-len(n)))
	}
	return b.String()
}

func hex8(n int) string {
	const digits = "0123456789abcdef"
	out := []byte("00000000")
	for i := 7; n > 0; i, n = i-1, n>>4 {
		out[i] = digits[n&15]
	}
	return string(out)
}

func TestAGoodImageHoldsTheContract(t *testing.T) {
	good := goodImage(t)
	info, err := good.Stat()
	if err != nil {
		t.Fatal(err)
	}
	report, err := Verify(t.Context(), good, info.Size(), Options{Infrastructure: "qemu"})
	if err != nil {
		t.Fatal(err)
	}
	if b := broken(report); len(b) > 0 || report.Counts.Passed < 100 {
		var text strings.Builder
		_ = report.WriteText(&text, false)
		t.Errorf("false alarms: %v\n%s", b, text.String())
	}
	if err := report.Err(true); err != nil {
		t.Error(err)
	}
}

func TestBrokenImagesAreCaughtByTheCheckMeantForThem(t *testing.T) {
	f := newFixture(t)
	for _, c := range slices.Concat(faults, credentialFaults) {
		t.Run(c.name, func(t *testing.T) {
			f.with(t)
			defer f.repair()
			c.change(f)
			report := f.verify()
			if got := broken(report); !slices.Equal(got, []string{c.check}) {
				var text strings.Builder
				_ = report.WriteText(&text, false)
				t.Errorf("broken checks: %v, want %s alone\n%s", got, c.check, text.String())
			}
			// A recommended check fails the image only when that was asked for.
			if err := report.Err(true); err == nil || fault.KindOf(err) != fault.Contract {
				t.Errorf("the report's error is %v", err)
			}
			if err := report.Err(false); report.Counts.Failed > 0 && fault.KindOf(err).ExitCode() != 10 {
				t.Errorf("a failed check exits with %v", err)
			}
		})
	}
	f.with(t)
	if b := broken(f.verify()); len(b) > 0 {
		t.Errorf("the repaired copy is not the good image any more: %v", b)
	}
}

// An account that was asked for is no fault, and its password still is.
func TestAccountsThatWereAskedForAreNoFault(t *testing.T) {
	f := newFixture(t)
	f.add("/etc/passwd", "admin:x:1000:1000::/home/admin:/bin/bash\n")
	f.write("/home/admin/.ssh/authorized_keys", "ssh-ed25519 AAAA admin\n", 0o600)
	f.write("/etc/sudoers.d/admin", "admin ALL=(ALL) NOPASSWD: ALL\n", 0o440)
	want := []string{"accounts.none-of-build", "accounts.no-authorized-keys", "accounts.sudoers"}
	if got := broken(f.verify()); !slices.Equal(got, want) {
		t.Errorf("without the option: %v, want %v", got, want)
	}
	f.accounts = []string{"admin"}
	if got := broken(f.verify()); len(got) > 0 {
		t.Errorf("with the option: %v", got)
	}
	f.replace("/etc/shadow", "root:*:", "admin:$6$salt$hash:1::::::\nroot:*:")
	if got := broken(f.verify()); !slices.Equal(got, []string{"accounts.no-passwords"}) {
		t.Errorf("with a password: %v", got)
	}
}

// A proxy that the spec gave the node is no fault.
func TestAProxyThatWasAskedForIsNoFault(t *testing.T) {
	f := newFixture(t)
	const dropIn = "/etc/systemd/system/kubelet.service.d/http-proxy.conf"
	f.write(dropIn, "[Service]\nEnvironment=\"HTTPS_PROXY=http://10.0.0.1:3128\"\n", 0o644)
	if got := broken(f.verify()); !slices.Equal(got, []string{"hygiene.proxies"}) {
		t.Errorf("without the option: %v", got)
	}
	f.files = []string{dropIn}
	if got := broken(f.verify()); len(got) > 0 {
		t.Errorf("with the option: %v", got)
	}
}

// Nobody may learn a credential from the report.
// An image that says that it is made for one firmware needs nothing for the
// other; one that says nothing, or nothing sensible, needs both.
func TestAnImageSaysWhichFirmwareItIsMadeFor(t *testing.T) {
	f := newFixture(t)
	f.replace(releaseFile, `FIRMWARE="bios uefi"`, `FIRMWARE="uefi"`)
	f.sgdisk("--delete=1")
	report := f.verify()
	if got := broken(report); len(got) > 0 || !slices.Equal(report.Firmware, []string{"uefi"}) {
		t.Errorf("for UEFI alone: %v, checked for %v", got, report.Firmware)
	}
	if got := Firmware(f.file, f.size); !slices.Equal(got, []string{"uefi"}) {
		t.Errorf("firmware %v", got)
	}
	asked, err := Verify(t.Context(), f.file, f.size, Options{Infrastructure: "qemu", Firmware: []string{"bios"}})
	if err != nil {
		t.Fatal(err)
	}
	if got := broken(asked); !slices.Equal(got, []string{"disk.bios-boot"}) {
		t.Errorf("asked for a BIOS: %v", got)
	}
	for _, said := range []string{`FIRMWARE=""`, `FIRMWARE="coreboot"`, `NOTHING="uefi"`} {
		f.write(releaseFile, said+"\n", 0o644)
		if got := broken(f.verify()); !slices.Equal(got, []string{"disk.bios-boot"}) {
			t.Errorf("%s: %v", said, got)
		}
	}
}

func TestReportsDoNotRepeatCredentials(t *testing.T) {
	f := newFixture(t)
	f.write("/etc/apt/sources.list.d/m.list", "deb https://bob:s3cret@mirror.example.com/debian bookworm main\n", 0o644)
	f.write("/etc/environment", "HTTPS_PROXY=http://bob:s3cret@proxy.example.com\n", 0o644)
	var text strings.Builder
	if err := f.verify().WriteText(&text, true); err != nil {
		t.Fatal(err)
	}
	if strings.Contains(text.String(), "s3cret") {
		t.Error(text.String())
	}
}

// Versions that are not in the table are looked up in kubeadm itself; for the
// one that is in both, both say the same.
func TestKubeadmItselfTellsItsImages(t *testing.T) {
	good := goodImage(t)
	info, err := good.Stat()
	if err != nil {
		t.Fatal(err)
	}
	n := newNode(good, info.Size(), Options{})
	if n.image, err = imagefs.Open(good, info.Size()); err != nil {
		t.Fatal(err)
	}
	n.tree = n.image.Tree
	n.learn()
	known := knownTags[n.kubernetes]
	if got, err := n.newestEtcd("/usr/bin/kubeadm"); err != nil || got != known.etcd {
		t.Errorf("etcd %q, %v; want %q", got, err, known.etcd)
	}
	for tag, want := range map[string]bool{known.coredns: true, known.pause: true, "v1.99.77": false} {
		if got, err := n.mentions("/usr/bin/kubeadm", tag); err != nil || got != want {
			t.Errorf("%s: %v, %v", tag, got, err)
		}
	}
}
