#!/bin/sh
# boot-report.sh: reports what a node image promises after its first boot.
# DISK_SIZE is the size of the disk in bytes.
set -u
: "${DISK_SIZE:?}"

# shellcheck source=report.sh
. "${0%/*}/report.sh"

# A kubelet without its configuration exits and is started again, until kubeadm
# writes one: it may be failing at the moment that we look.
no_failed_units() {
	failed=$(systemctl list-units --failed --plain --no-legend | grep -v '^kubelet\.service' | cut -d' ' -f1)
	echo "failed units: ${failed:-none}"
	[ -z "$failed" ] && return 0
	for unit in $failed; do
		journalctl --no-pager -o cat -n 5 -u "$unit"
	done
	return 1
}

# cloud-init 23.4 and later exit with 2 after a warning; its text is what counts.
cloud_init_status() {
	status=$(cloud-init status --long)
	echo "$status"
	errors=$(grep -A20 '"errors": \[$' /run/cloud-init/result.json 2>/dev/null | tr -d '\n')
	[ -z "$errors" ] || echo "$errors"
	[ -z "$errors" ] && printf '%s\n' "$status" | grep -qx 'status: done'
}

cloud_init_datasource() {
	cat /run/cloud-init/cloud-id
	sed -n 's/.*"datasource": *"\([^"]*\)".*/\1/p' /run/cloud-init/result.json
	grep -q '"datasource": *"DataSourceNoCloud' /run/cloud-init/result.json
}

cloud_init_seconds() {
	ended=$(systemctl show cloud-final.service --property=ActiveEnterTimestampMonotonic --value)
	[ "${ended:-0}" -gt 0 ] || return 1
	echo "$((ended / 1000000))"
}

# The partition ends within 2 MiB of the disk's end (backup GPT, alignment), and
# the file system fills it but for inode tables (1/64 with 256 byte inodes), a
# journal and reserve (at most 192 MiB together).
root_grown() {
	size=$(df --block-size=1 --output=size / | tail -n 1)
	device=$(basename "$(readlink -f "$(findmnt -no SOURCE /)")")
	start=$(cat "/sys/class/block/$device/start") || return 1
	sectors=$(cat "/sys/class/block/$device/size") || return 1
	echo "disk $((DISK_SIZE >> 20)) MiB, root partition ends at $(((start + sectors) >> 11)) MiB, file system $((size >> 20)) MiB of $((sectors >> 11)) MiB"
	[ $(((start + sectors) * 512)) -ge $((DISK_SIZE - (2 << 20))) ] &&
		[ "$size" -ge $((sectors * 512 - sectors * 512 / 40 - (192 << 20))) ]
}

# A line of fstab with nofail may have been left out of the boot without a word.
fstab_mounted() {
	wrong=0
	while read -r device point kind options _; do
		case "$device,$kind,$options," in
		,* | \#* | *,swap,* | *,noauto,*) continue ;;
		esac
		want=$(readlink -f "$(findfs "$device")")
		have=$(findmnt -no SOURCE --mountpoint "$point")
		echo "$point ${have:-is not mounted}"
		if [ -z "$have" ] || [ "$have" != "$want" ]; then
			echo "(want ${want:-$device})"
			wrong=1
		fi
	done </etc/fstab
	return "$wrong"
}

# Kubernetes takes the node's address from the default route's interface.
default_route() {
	ip -4 route show default
	[ -n "$(ip -4 route show default)" ]
}

machine_id() {
	cat /etc/machine-id
	grep -Eqx '[0-9a-f]{32}' /etc/machine-id
}

host_keys() {
	set -- /etc/ssh/ssh_host_*_key
	[ -f "$1" ] || { echo "none in /etc/ssh"; return 1; }
	for key in "$@"; do
		ssh-keygen -lf "$key" || return 1
	done
}

ssh_running() { systemctl is-active ssh.service || systemctl is-active sshd.service; }

ssh_keys_only() {
	config=$(sshd -T) || { echo "$config"; return 1; }
	printf '%s\n' "$config" | grep -E '^(passwordauthentication|kbdinteractiveauthentication) '
	printf '%s\n' "$config" | grep -qx 'passwordauthentication no'
}

# The boot is over, so a containerd that will be active is; its API may lag.
containerd_active() {
	systemctl is-active containerd.service && retry 30 ctr version
}

containerd_cri() {
	systemctl --quiet is-active containerd.service || { echo "containerd does not run"; return 1; }
	info=$(retry 60 crictl info) || { echo "$info"; return 1; }
	condition=$(printf '%s' "$info" | tr -d ' \n\t' | sed 's/[{}]/\n/g' | grep '"type":"RuntimeReady"')
	echo "${condition:-$info}"
	case $condition in
	*'"status":true'*) return 0 ;;
	*) return 1 ;;
	esac
}

containerd_cgroups() {
	config=$(containerd config dump) || return 1
	printf '%s\n' "$config" | grep SystemdCgroup
	printf '%s\n' "$config" | grep -q 'SystemdCgroup = true'
}

kubernetes_version() {
	want=$(cat /etc/kubernetes-version) || return 1
	kubelet=$(kubelet --version)
	kubeadm=$(kubeadm version -o short)
	kubectl=$(kubectl version --client | sed -n 's/^Client Version: //p')
	echo "/etc/kubernetes-version $want, kubelet ${kubelet#Kubernetes }, kubeadm $kubeadm, kubectl $kubectl"
	[ "$kubelet" = "Kubernetes $want" ] && [ "$kubeadm" = "$want" ] && [ "$kubectl" = "$want" ]
}

# kubeadm without a version would ask the internet for the newest one.
kubeadm_images() {
	version=$(cat /etc/kubernetes-version) && kubeadm config images list --kubernetes-version "$version"
}

images_present() {
	images=$(kubeadm_images) || return 1
	missing=
	for image in $images; do
		crictl inspecti "$image" >/dev/null 2>&1 || missing="$missing $image"
	done
	echo "missing:${missing:- none} of" "$images"
	[ -z "$missing" ]
}

images_pinned() {
	images=$(kubeadm_images) || return 1
	loose=
	for image in $images; do
		crictl inspecti --output json "$image" 2>/dev/null | grep -q '"pinned": *true' || loose="$loose $image"
	done
	echo "not pinned:${loose:- none}"
	[ -z "$loose" ]
}

kubelet_waits() {
	enabled=$(systemctl is-enabled kubelet.service)
	state=$(systemctl show kubelet.service --property=ActiveState --value)
	echo "${enabled:-not installed}, $state"
	[ "$enabled" = enabled ] && [ "$state" != inactive ]
}

modules_loaded() {
	missing=
	for module in overlay br_netfilter; do
		# The first path is there for what is built into the kernel, too.
		[ -d "/sys/module/$module" ] || grep -q "^$module " /proc/modules || missing="$missing $module"
	done
	echo "missing:${missing:- none} of overlay br_netfilter"
	[ -z "$missing" ]
}

sysctls_set() {
	wrong=0
	while read -r name want; do
		value=$(sysctl -n "$name") || value=missing
		echo "$name=$value"
		[ "$value" = "$want" ] || { echo "(want $want)"; wrong=1; }
	done <<-END
		net.ipv4.ip_forward 1
		net.ipv6.conf.all.forwarding 1
		net.bridge.bridge-nf-call-iptables 1
		net.bridge.bridge-nf-call-ip6tables 1
		vm.overcommit_memory 1
		kernel.panic 10
		kernel.panic_on_oops 1
	END
	return "$wrong"
}

no_swap() {
	lines=$(wc -l </proc/swaps)
	cat /proc/swaps
	[ "$lines" -eq 1 ]
}

chrony_active() { systemctl is-active chrony.service || systemctl is-active chronyd.service; }

report user-data pass "this script runs as uid $(id -u) on kernel $(uname -r)"
check boot.finished boot_finished
check boot.units no_failed_units
check cloud-init.status cloud_init_status
check cloud-init.datasource cloud_init_datasource
check cloud-init.seconds cloud_init_seconds
check root.grown root_grown
check fstab.mounted fstab_mounted
check network.route default_route
check machine-id machine_id
check ssh.host-keys host_keys
check ssh.running ssh_running
check ssh.keys-only ssh_keys_only
check containerd.active containerd_active
check containerd.cri containerd_cri
check containerd.cgroups containerd_cgroups
check kubernetes.version kubernetes_version
check images.present images_present
check images.pinned images_pinned
check kubelet.waits kubelet_waits
check kernel.modules modules_loaded
check kernel.sysctls sysctls_set
check swap.off no_swap
check time.synchronised chrony_active
