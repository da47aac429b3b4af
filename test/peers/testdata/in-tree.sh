#!/bin/sh
# in-tree.sh TREE WORK PROGRAM...: runs a program with TREE as its root and WORK as its
# /srv. In a mount namespace of its own (unshare --mount), which ends with it.
# The root is changed by pivot_root: in a chroot nobody may make the user namespaces
# that mkosi's sandbox is made of.
set -eu
tree=$1 work=$2
shift 2
mount --bind "$tree" "$tree"
for dir in dev proc sys; do
    mount --rbind "/$dir" "$tree/$dir"
done
for dir in tmp run var/tmp; do
    mount -t tmpfs tmpfs "$tree/$dir"
done
mount --bind "$work" "$tree/srv"
cd "$tree"
pivot_root . mnt
umount -l /mnt
cd /srv
exec "$@"
