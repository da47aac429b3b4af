#!/bin/sh
# What scripts of specs do to a tree, and engines may do differently.
set -eu

mkdir -p /opt/company/shared /opt/company/empty
echo one >/opt/company/one
ln /opt/company/one /opt/company/two
ln -s one /opt/company/link
mkfifo /opt/company/pipe
truncate --size 1M /opt/company/hole
chown 65534:60000 /opt/company/one
chown 1000:1000 /opt/company/shared /opt/company/pipe
chmod 3775 /opt/company/shared
cp /bin/dash /opt/company/tool
chmod 6755 /opt/company/tool
setcap cap_net_bind_service+ep /opt/company/tool

# Of the layers below: a file with two names from here on, one that goes, one
# that another takes the place of, and a folder that is made anew.
ln /usr/bin/sed /opt/company/sed
rm /usr/bin/diff3
echo changed >/usr/bin/sdiff
rm -r /usr/share/doc
mkdir -p /usr/share/doc/company
