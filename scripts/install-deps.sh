#!/usr/bin/env bash
# Installs what nodesmith and its tests need of a Debian or Ubuntu machine.
# Does nothing, and needs no network, where everything is there.
set -euo pipefail

# program -> package; the first block is what nodesmith itself needs, the
# second what its tests judge it by.
needs=(
    runc=runc
    qemu-system-x86_64=qemu-system-x86
    qemu-img=qemu-utils
    /usr/share/OVMF/OVMF_CODE_4M.fd=ovmf

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
    ld=binutils
    gcc=gcc
    /usr/lib/x86_64-linux-gnu/libc.a=libc6-dev
    /usr/lib/x86_64-linux-gnu/libseccomp.a=libseccomp-dev
    pkg-config=pkg-config
    node=nodejs
    npm=npm
)

# CNCF Distribution, which the store's tests push to, is built from its module.
registry=${XDG_CACHE_HOME:-$HOME/.cache}/nodesmith-test/distribution-v3.1.1/registry
if [ ! -x "$registry" ] && command -v go >/dev/null; then
    echo "Building CNCF Distribution"
    GOBIN=$(dirname "$registry") CGO_ENABLED=0 go install github.com/distribution/distribution/v3/cmd/registry@v3.1.1
fi

export PATH="$PATH:/usr/sbin:/sbin"
missing=()
for need in "${needs[@]}"; do
    what=${need%=*}
    case $what in
        /*) [ -e "$what" ] || missing+=("${need#*=}") ;;
        *) command -v "$what" >/dev/null || missing+=("${need#*=}") ;;
    esac
done
here=$(dirname "${BASH_SOURCE[0]}")
if [ ${#missing[@]} -eq 0 ]; then
    "$here/install-azurite.sh"
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
"$here/install-azurite.sh"
