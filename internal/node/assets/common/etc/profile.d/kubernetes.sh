# shellcheck shell=sh
# Root's kubectl speaks to the control plane that kubeadm made on this node.
if [ -z "${KUBECONFIG-}" ]; then
	for f in /etc/kubernetes/super-admin.conf /etc/kubernetes/admin.conf; do
		if [ -r "$f" ]; then
			export KUBECONFIG="$f"
			break
		fi
	done
	unset f
fi
alias k=kubectl
