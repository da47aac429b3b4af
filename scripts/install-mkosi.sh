#!/usr/bin/env bash
# Makes a tree of Debian 13 with the newest mkosi that Debian has, which the
# benchmarks of test/peers run: $XDG_CACHE_HOME/nodesmith-test/mkosi. Debian
# 13's own mkosi brings what it needs, that of unstable takes its place. Does
# nothing where it is there.
set -euo pipefail

tree=${XDG_CACHE_HOME:-$HOME/.cache}/nodesmith-test/mkosi
if [ -e "$tree/usr/bin/mkosi" ]; then
    exit 0
fi
if [ "$(id -u)" != 0 ]; then
    echo "The tree with mkosi is made as root." >&2
    exit 1
fi
echo "Making a tree of Debian 13 with mkosi in $tree"
mkdir -p "${tree%/*}"
half=$(mktemp -d "$tree.XXXXXX")
trap 'rm -rf --one-file-system "$half"' EXIT
mirror=http://deb.debian.org/debian
# Whatever ends it, its mounts end with the namespace. The mkosi of unstable depends on
# a package, systemd-tpm, whose files Debian 13 has in others. A mirror's unstable
# may be weeks behind: its signature counts, not its age.
# shellcheck disable=SC2016 # the hooks' own shell knows the tree as $1
unshare --mount --propagation private mmdebstrap --quiet --mode=root --variant=minbase \
    --include=mkosi,apt-utils,grub-common,grub-pc-bin --keyring=/usr/share/keyrings/debian-archive-keyring.gpg \
    --setup-hook='printf "Package: *\nPin: release n=sid\nPin-Priority: -1\n" >"$1/etc/apt/preferences.d/sid"' \
    --customize-hook='chroot "$1" sh -ec "cd /root; apt-get -qq download mkosi/sid; dpkg --install --force-depends mkosi_*.deb; rm mkosi_*.deb"' \
    trixie "$half" "deb $mirror trixie main" "deb [check-valid-until=no] $mirror sid main"
chmod 755 "$half"
mv -T "$half" "$tree"
trap - EXIT
