#!/bin/sh
# ready.sh: reports when this machine is a node that kubeadm may join to a cluster, and
# then what kubeadm itself says to that. IMAGES are the container images that a node
# holds. INSTALL, if it is set, names the script beside this one that first makes the
# machine such a node; its disk is then made one to keep, and the machine switched off.
set -u
: "${IMAGES:?}"

# shellcheck source=internal/vmtest/assets/report.sh
. "${0%/*}/report.sh"

kubelet_waits() {
	systemctl --quiet is-enabled kubelet.service &&
		[ "$(systemctl show kubelet.service --property=ActiveState --value)" != inactive ]
}

images_present() {
	held=$(crictl --timeout 60s images --output json) || return 1
	for image in $IMAGES; do
		case $held in
		*"\"$image\""*) ;;
		*) return 1 ;;
		esac
	done
}

# What a node is just before kubeadm join.
waits_to_join() {
	systemctl --quiet is-active containerd.service && kubelet_waits && images_present
}

# kubeadm's own checks of a machine: programs, kernel, sysctls, swap, ports, container
# runtime, images.
preflight() {
	config=${0%/*}/kubeadm.yaml
	kubeadm config print init-defaults | sed -n '/^apiVersion:/{p;q}' >"$config" || return 1
	printf 'kind: ClusterConfiguration\nkubernetesVersion: %s\n' "$(cat /etc/kubernetes-version)" >>"$config"
	kubeadm init phase preflight --config "$config"
}

# Takes away what nobody leaves in an image, and the kernel's copy that only mkosi makes.
tidy() {
	systemctl stop kubelet.service &&
		apt-get clean &&
		rm -rf /var/lib/apt/lists/* /usr/lib/modules/*/vmlinuz &&
		journalctl --quiet --rotate --vacuum-size=1 &&
		sync &&
		fstrim --verbose /
}

report user-data pass "this script runs on kernel $(uname -r)"
if [ -n "${INSTALL:-}" ]; then
	# shellcheck source=test/peers/testdata/node/install.sh
	. "${0%/*}/$INSTALL"
fi
until waits_to_join >/dev/null 2>&1; do
	sleep 0.5
done
report ready pass "$(cut -d' ' -f1 /proc/uptime) s after the kernel's start"
check kubeadm.preflight preflight
if [ -n "${INSTALL:-}" ]; then
	check tidied tidy
	# After this script, which ends its report.
	systemd-run --quiet --on-active=3 --timer-property=AccuracySec=1 systemctl poweroff
fi
