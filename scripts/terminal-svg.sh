#!/usr/bin/env bash
# Records the README's terminal session, docs/terminal.svg, from a real run: a build
# in which one file of the user's changed, then a look into the image. The build
# before it, which is not shown, makes everything else.
set -euo pipefail
cd "$(dirname "$0")/.."

root=$PWD
work=$(mktemp -d /var/tmp/nodesmith-svg.XXXXXX)
trap 'rm -rf "$work"' EXIT
export PATH="$root/bin:$PATH" XDG_DATA_HOME="$work/data"

cp examples/debian-12.yaml "$work/"
nodesmith build -f "$work/debian-12.yaml" -o "$work/out" --progress quiet >/dev/null
printf '  files:\n  - {path: /etc/motd, content: "Built with nodesmith on %s\\n"}\n' "$(date -u +%FT%TZ)" >>"$work/debian-12.yaml"
go build -o "$work/terminal-svg" scripts/terminal-svg.go
cd "$work"
./terminal-svg -o "$root/docs/terminal.svg" \
    'nodesmith build -f debian-12.yaml' \
    'nodesmith verify out/debian-12-qemu.qcow2 --level contract'
