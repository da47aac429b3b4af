#!/bin/sh
# Makes the ordinary user of the image, with subordinate ids, and the folders that
# both that user and root write to.
set -eu

useradd --uid 1000 --create-home --shell /usr/sbin/nologin nodesmith
for folder in /work /cache /data; do
    mkdir "$folder"
    chown nodesmith: "$folder"
done
# What useradd leaves behind.
rm -f /etc/passwd- /etc/group- /etc/shadow- /etc/gshadow- /etc/subuid- /etc/subgid-

# Debian's newuidmap is root's (setuid) and has no CAP_SYS_ADMIN in a container, and
# the kernel takes a map from root with that capability or from the user whose
# namespace it is (user_namespaces(7)). With file capabilities it runs as that user.
chmod u-s /usr/bin/newuidmap /usr/bin/newgidmap
setcap cap_setuid=ep /usr/bin/newuidmap
setcap cap_setgid=ep /usr/bin/newgidmap
