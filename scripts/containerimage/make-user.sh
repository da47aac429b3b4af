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
