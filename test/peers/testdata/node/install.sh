# install.sh: makes a plain Debian the node that nodesmith builds, with what the HTTP
# server SERVER has: ready.sh sources it. PACKAGES are all of the node's packages, from
# the archive's SUITE; IMAGES are pulled. The first stage that fails is the last.
# shellcheck shell=sh
: "${SERVER:?}" "${SUITE:?}" "${PACKAGES:?}" "${IMAGES:?}"

here=${0%/*}
log=$here/install.log

# stage ID COMMAND...: reports a stage, and when it is over.
stage() {
	id=$1
	shift
	if "$@" >"$log" 2>&1; then
		report "$id" pass "$(tail -n 1 "$log")"
		return
	fi
	report "$id" fail "$(tail -c 1500 "$log")"
	exit 1
}

# apt asks that archive and no other.
apt() {
	DEBIAN_FRONTEND=noninteractive apt-get --quiet --yes --option "Dir::Etc::SourceList=$here/archive.list" \
		--option Dir::Etc::SourceParts=- --option DPkg::Lock::Timeout=600 "$@"
}

# Of the packages nothing is unpacked that the node does not have of them, either.
install_packages() {
	cp "$here/dpkg.cfg" /etc/dpkg/dpkg.cfg.d/node &&
		printf 'deb [trusted=yes] http://%s/archive %s main\n' "$SERVER" "$SUITE" >"$here/archive.list" &&
		apt update || return 1
	# shellcheck disable=SC2086 # a list
	apt --no-install-recommends install $PACKAGES
}

# Programs, units and configuration, as they are on the node.
install_software() {
	curl --fail --silent --show-error "http://$SERVER/software.tar" | tar --extract --file - --directory / &&
		systemctl daemon-reload &&
		systemctl restart systemd-modules-load.service systemd-sysctl.service
}

start_containerd() {
	mkdir -p /etc/containerd/certs.d/_default &&
		printf '[host."http://%s"]\n  capabilities = ["pull", "resolve"]\n' "$SERVER" >/etc/containerd/certs.d/_default/hosts.toml &&
		systemctl enable --now containerd.service
}

# All at once: kubeadm config images pull takes one after the other.
pull_images() {
	pulls=
	for image in $IMAGES; do
		crictl --timeout 60s pull "$image" &
		pulls="$pulls $!"
	done
	failed=0
	for pull in $pulls; do
		wait "$pull" || failed=1
	done
	return "$failed"
}

# Last: without kubeadm's configuration it starts again and again.
start_kubelet() { systemctl enable --now kubelet.service; }

stage packages install_packages
stage software install_software
stage containerd start_containerd
stage images pull_images
stage kubelet start_kubelet
