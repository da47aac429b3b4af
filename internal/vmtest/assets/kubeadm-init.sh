#!/bin/sh
# kubeadm-init.sh: forms a control plane with what the image holds, and reports.
set -u

# shellcheck source=report.sh
. "${0%/*}/report.sh"

export KUBECONFIG=/etc/kubernetes/admin.conf
here=${0%/*}
config=$here/kubeadm.yaml
patches=$here/patches
log=$here/kubeadm.log

# Under emulation a control plane wants more than two CPUs give: each of its Go
# programs would collect garbage on all of them while its heap is still small.
gogc=400
gomaxprocs=1

# kubeadm names the API version that it writes itself; older ones it may warn of.
write_config() {
	api=$(kubeadm config print init-defaults | sed -n 's|^apiVersion: kubeadm.k8s.io/||p' | head -n 1)
	version=$(cat /etc/kubernetes-version)
	sed "s/@VERSION@/$version/; s|@PATCHES@|$patches|" "$here/kubeadm-$api.yaml" >"$config"
}

# The API server is asked every second whether it is ready: under emulation that
# alone takes a good part of a CPU, and the control plane starves itself.
write_patches() {
	mkdir -p "$patches"
	settings=$(printf '{"name":"GOGC","value":"%s"},{"name":"GOMAXPROCS","value":"%s"}' "$gogc" "$gomaxprocs")
	for component in kube-apiserver kube-controller-manager kube-scheduler etcd; do
		probes='"livenessProbe":{"periodSeconds":60},"startupProbe":{"periodSeconds":20,"failureThreshold":60}'
		[ "$component" != kube-apiserver ] || probes="$probes,\"readinessProbe\":{\"periodSeconds\":20}"
		printf '{"spec":{"containers":[{"name":"%s",%s,"env":[%s]}]}}\n' "$component" "$probes" "$settings" >"$patches/$component.json"
	done
}

# kubeadm wants 2 CPUs and 1700 MiB: only a smaller machine may go without.
ignored() {
	[ "$(nproc)" -ge 2 ] || printf 'NumCPU,'
	[ "$(sed -n 's/^MemTotal: *\([0-9]*\) kB/\1/p' /proc/meminfo)" -ge $((1700 * 1024)) ] || printf 'Mem,'
}

kubeadm_init() {
	write_config && write_patches || return 1
	systemctl set-environment GOGC="$gogc" GOMAXPROCS="$gomaxprocs" # for kubelet
	started=$(date +%s)
	if kubeadm init --config "$config" --ignore-preflight-errors "$(ignored)" --v=1 >"$log" 2>&1; then
		echo "kubeadm init took $(($(date +%s) - started)) s"
		return 0
	fi
	tail -n 4 "$log"
	components
	return 1
}

# What the container runtime knows of the control plane: which components run,
# and the last words of each.
components() {
	for id in $(crictl ps --all --quiet 2>/dev/null); do
		crictl ps --all --no-trunc --id "$id" --output json |
			sed -n 's/^ *"\(name\|state\|attempt\)": *"\{0,1\}\([^",]*\).*/\2/p' | tr '\n' ' '
		crictl logs --tail 2 "$id" 2>&1 | cut -c1-160
	done
}

ready() { kubectl get --raw='/readyz'; }

# All static pods of the control plane: their phase as the API server knows it.
static_pods_running() {
	for component in etcd kube-apiserver kube-controller-manager kube-scheduler; do
		phase=$(kubectl --namespace kube-system get pods --selector "component=$component" \
			--output 'jsonpath={.items[*].status.phase}')
		echo "$component ${phase:-missing}"
		[ "$phase" = Running ] || return 1
	done
}

# Without a network plugin the node is not Ready: that it is there and may host
# a control plane is what counts.
node_registered() {
	nodes=$(kubectl get nodes --selector node-role.kubernetes.io/control-plane --no-headers)
	echo "$nodes"
	[ -n "$nodes" ]
}

# kube-proxy runs from its own image: its rules for the API server's service are
# what shows that it works. The host's iptables lists them at little cost; where
# it is older than the image's it can't read them, and the image's lists them.
service_rules() {
	proxy=$(crictl --timeout 60s ps --quiet --name kube-proxy)
	[ -n "$proxy" ] || { echo "kube-proxy has not been started"; return 1; }
	rules=$(iptables --table nat --list-rules KUBE-SERVICES) ||
		rules=$(crictl --timeout 60s exec --sync --timeout 60 "$proxy" /usr/sbin/iptables --table nat --list-rules KUBE-SERVICES)
	printf '%s\n' "$rules" | grep 'default/kubernetes:https'
}

kube_proxy_works() { retry 600 service_rules || { components; return 1; }; }

# The console shows kubeadm's progress, so that the error of a hang does, too.
: >"$log"
tail -f "$log" >/dev/console &
progress=$!

check kubeadm.init kubeadm_init
check apiserver.ready retry 300 ready
check control-plane.running retry 300 static_pods_running
check node.registered retry 120 node_registered
check kube-proxy.rules kube_proxy_works
kill "$progress"
