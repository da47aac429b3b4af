#!/bin/sh
# full-node.sh: on a node of examples/full.yaml, that what the spec says reached
# the programs that it is meant for.
set -u

# shellcheck source=internal/vmtest/assets/report.sh
. "${0%/*}/report.sh"

file_systems() {
	for point in / /var /var/lib/containerd /var/lib/etcd /data/scratch; do
		findmnt --noheadings --output TARGET,SOURCE,SIZE --mountpoint "$point" || return 1
	done
}

first_boot() {
	journalctl --unit first-boot-greet.service --output cat --no-pager
	journalctl --unit first-boot-greet.service --output cat --no-pager |
		grep -qx 'first boot of full with Kubernetes v1.34.0 on qemu' &&
		[ -e /var/lib/nodesmith/first-boot/greet ]
}

# Microseconds since the kernel's start.
since() { systemctl show --property "$2" --value "$1"; }

before_bootstrap() {
	first=$(since first-boot-greet.service ActiveEnterTimestampMonotonic)
	final=$(since cloud-final.service ExecMainStartTimestampMonotonic)
	echo "first-boot-greet.service ended at $first us, cloud-final.service started at $final us"
	[ "$first" -gt 0 ] && [ "$first" -le "$final" ]
}

containerd_config() {
	dump=$(containerd config dump)
	for line in 'max_container_log_line_size = 32768' 'SystemdCgroup = true' "address = '127.0.0.1:1338'"; do
		if ! printf '%s' "$dump" | grep -F "$line"; then
			echo "no $line"
			return 1
		fi
	done
}

# asks HOST IMAGE: the first server that is asked for the image is HOST.
asks() {
	answer=$(env --unset HTTPS_PROXY timeout 120 ctr images pull --hosts-dir /etc/containerd/certs.d "$2" 2>&1)
	echo "$answer"
	printf '%s' "$answer" | grep -qF "https://$1/"
}

# kubelet_config: what kubelet makes of a file such as kubeadm's and the image's
# drop-ins, asked of a kubelet without a cluster.
kubelet_config() {
	cat >/run/kubelet.yaml <<-'EOF'
		apiVersion: kubelet.config.k8s.io/v1beta1
		kind: KubeletConfiguration
		authentication: {anonymous: {enabled: true}, webhook: {enabled: false}}
		authorization: {mode: AlwaysAllow}
		cgroupDriver: systemd
		maxPods: 110
	EOF
	systemd-run --quiet --unit kubelet-alone kubelet --config /run/kubelet.yaml \
		--config-dir /etc/kubernetes/kubelet.conf.d --v=2 || return 1
	retry 240 configz || {
		journalctl --unit kubelet-alone --no-pager --output cat | tail -n 5
		return 1
	}
}

configz() {
	python3 - <<-'EOF'
		import json, ssl, urllib.request
		context = ssl._create_unverified_context()
		answer = urllib.request.urlopen("https://127.0.0.1:10250/configz", context=context, timeout=20)
		config = json.load(answer)["kubeletconfig"]
		got = [config["maxPods"], config["evictionHard"], config["imageMaximumGCAge"], config["cgroupDriver"]]
		print(got)
		assert got[0] == 200 and got[1]["memory.available"] == "300Mi" and got[3] == "systemd", got
	EOF
}

kubelet_unit() {
	unit=$(systemctl show --property Environment kubelet.service)
	echo "$unit $(cat /etc/default/kubelet)"
	printf '%s' "$unit" | grep -qF -- '--config-dir=/etc/kubernetes/kubelet.conf.d' &&
		grep -qF -- '--node-labels=example.org/image=full' /etc/default/kubelet
}

proxies() {
	for service in containerd kubelet; do
		systemctl show --property Environment "$service.service" | grep -F 'HTTPS_PROXY=http://proxy.example.com:3128' || return 1
	done
}

built() {
	sshd -T | grep -x 'maxauthtries 3' && getent group capture && cat /etc/issue && [ -x /usr/local/bin/node-note ] &&
		grep 'kube-proxy:v1.34.0' /usr/local/share/container-images
}

accounts() {
	id ada && [ "$(id --user ada)" = 2001 ] && getent group storage && id --name --groups ada | grep -qw storage
}

# A disabled unit is there, and nothing starts it.
disabled_unit() {
	state=$(systemctl is-enabled fstrim.timer)
	echo "fstrim.timer is $state and $(systemctl is-active fstrim.timer)"
	[ "$state" = disabled ] && ! systemctl is-active --quiet fstrim.timer
}

check boot boot_finished
check file-systems file_systems
check accounts accounts
check units.disabled disabled_unit
check scripts.built built
check scripts.first-boot first_boot
check scripts.order before_bootstrap
check containerd.config containerd_config
check containerd.mirror asks 192.0.2.5:5000 docker.io/library/none:1
check containerd.exclusive asks registry.example.com quay.io/none/none:1
check kubelet.unit kubelet_unit
check proxy proxies
check kubelet.config kubelet_config
