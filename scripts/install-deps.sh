#!/usr/bin/env bash
# Installs what nodesmith needs of a Debian or Ubuntu machine, and with the
# argument "tests" what its tests judge it by as well, with "all" also what
# make test-all does (an SSH server among it), with "peers" what benchmarks
# compare it with. Does nothing, and needs no network, where everything is there.
set -euo pipefail

# program -> package
needs=(
    runc=runc
    newuidmap=uidmap
    qemu-system-x86_64=qemu-system-x86
    qemu-img=qemu-utils
    /usr/share/OVMF/OVMF_CODE_4M.fd=ovmf
)
tests=${1:-}
if [ "$tests" = all ]; then
    tests=tests
    needs+=(
        sshd=openssh-server
        ssh=openssh-client
        dockerd=docker.io
    )
fi
if [ "$tests" = peers ]; then
    needs+=(
        mmdebstrap=mmdebstrap
        apt-ftparchive=apt-utils
        /usr/share/keyrings/debian-archive-keyring.gpg=debian-archive-keyring
        unshare=util-linux
        socat=socat
    )
fi
if [ "$tests" = tests ]; then
    needs+=(
        containerd=containerd
        mke2fs=e2fsprogs
        debugfs=e2fsprogs
        mkfs.vfat=dosfstools
        mcopy=mtools
        sgdisk=gdisk
        sfdisk=fdisk
        grub-mkimage=grub-common
        /usr/lib/grub/i386-pc/moddep.lst=grub-pc-bin
        shellcheck=shellcheck
        xz=xz-utils
        openssl=openssl
        pgrep=procps
        useradd=passwd
        ip=iproute2
        ld=binutils
        gcc=gcc
        /usr/lib/x86_64-linux-gnu/libc.a=libc6-dev
        /usr/lib/x86_64-linux-gnu/libseccomp.a=libseccomp-dev
        pkg-config=pkg-config
        node=nodejs
        npm=npm
        python3=python3
    )
fi

# emulators installs the servers that the tests publish and push to, or what the
# benchmarks compare with.
emulators() {
    [ "$tests" != peers ] || "$(dirname "${BASH_SOURCE[0]}")/install-mkosi.sh"
    [ "$tests" = tests ] || return 0
    # CNCF Distribution is built from its module.
    local registry=${XDG_CACHE_HOME:-$HOME/.cache}/nodesmith-test/distribution-v3.1.1/registry
    if [ ! -x "$registry" ]; then
        echo "Building CNCF Distribution"
        GOBIN=$(dirname "$registry") CGO_ENABLED=0 go install github.com/distribution/distribution/v3/cmd/registry@v3.1.1
    fi
    "$(dirname "${BASH_SOURCE[0]}")/install-azurite.sh"
}

export PATH="$PATH:/usr/sbin:/sbin"
missing=()
# Debian's python3 has no venv without this package.
if [ "$tests" = tests ] && ! python3 -c 'import ensurepip' 2>/dev/null; then
    missing+=(python3-venv)
fi
for need in "${needs[@]}"; do
    what=${need%=*}
    case $what in
        /*) [ -e "$what" ] || missing+=("${need#*=}") ;;
        *) command -v "$what" >/dev/null || missing+=("${need#*=}") ;;
    esac
done
if [ ${#missing[@]} -eq 0 ]; then
    emulators
    exit 0
fi

if ! command -v apt-get >/dev/null; then
    echo "This machine lacks ${missing[*]} (Debian's names), and has no apt-get to install them." >&2
    exit 1
fi
if [ "$(id -u)" != 0 ]; then
    echo "This machine lacks ${missing[*]}. As root: apt-get install ${missing[*]}" >&2
    exit 1
fi
echo "Installing ${missing[*]}"
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
emulators
