#!/usr/bin/env bash
# Times what docs/benchmarks.md states, in one run, and prints it as a table.
#
#   scripts/bench.sh          nothing changed, one file changed, a further infrastructure
#   BENCH_PATCH=v1.34.1 ...   also a Kubernetes patch release, whose programs are compiled before
#   BENCH_COLD=1 ...          also from nothing at all: no download, no compile cache
#   BENCH_PEERS=1 ...         also the root file system beside mmdebstrap's, a disk beside mkosi's, and
#                             power-on to a node that is ready beside a plain Debian and cloud-init
#   BENCH_RUNS=3 ...          pairs of each of these; 1 by default
set -euo pipefail
cd "$(dirname "$0")/.."

spec=examples/debian-12.yaml
work=$(mktemp -d /var/tmp/nodesmith-bench.XXXXXX)
trap 'rm -rf "$work"' EXIT

seconds() { # NAME COMMAND...: prints a row with the wall time of the command
    local name=$1 start
    shift
    start=$EPOCHREALTIME
    quietly "$@"
    awk -v name="$name" -v a="$start" -v b="$EPOCHREALTIME" 'BEGIN { printf "| %s | %.2f s |\n", name, b - a }'
}

build() { bin/nodesmith build -f "$spec" -o "$1" --progress plain "${@:2}"; }

quietly() { "$@" >"$work/log" 2>&1 || { tail -20 "$work/log" >&2; return 1; }; } # what has to be there before

echo "| what | wall time |"
echo "|---|---|"
if [ -n "${BENCH_COLD:-}" ]; then
    seconds "from nothing: empty caches, locked, downloaded, compiled" env XDG_CACHE_HOME="$work/cold" bin/nodesmith build -f "$spec" -o "$work/cold-out" --progress plain
fi
quietly build "$work/out"
seconds "nothing changed" build "$work/out" --locked
seconds "nothing changed, the file written anew" bash -c "rm '$work'/out/*.qcow2; bin/nodesmith build -f $spec -o '$work/out' --locked --progress plain"
seconds "one user file changed" build "$work/out" --locked --set "spec.files=[{path: /etc/motd, content: $EPOCHREALTIME}]"

# A further infrastructure, on an operating system that only this run has, so that
# no earlier one has installed its packages there; they are downloaded.
quietly build "$work/vsphere" --infrastructure vsphere
here="spec.scripts=[{name: bench, when: beforePackages, content: 'true $EPOCHREALTIME'}]"
quietly build "$work/further" --set "$here"
seconds "a further infrastructure: vSphere's packages installed, an OVA made" build "$work/further" --set "$here" --infrastructure qemu,vsphere

if [ -n "${BENCH_PATCH:-}" ]; then
    patch="spec.kubernetes.version=$BENCH_PATCH"
    quietly build "$work/compiled" --set metadata.name=patched --set "$patch"
    for formats in '' ova,vhd; do
        quietly build "$work/before$formats" --set "spec.formats=[$formats]"
        seconds "Kubernetes $BENCH_PATCH in place of v1.34.0, locking included: qcow2${formats:+,$formats}" build "$work/before$formats" --set "$patch" --set "spec.formats=[$formats]" --set "spec.files=[{path: /etc/motd, content: $EPOCHREALTIME}]"
    done
fi

# An engine that has built nothing, on downloads that are there.
cache=${XDG_CACHE_HOME:-$HOME/.cache}/nodesmith
mkdir -p "$work/engine/nodesmith" "$work/lock"
for part in downloads go inputs; do ln -s "$cache/$part" "$work/engine/nodesmith/$part"; done
cp "$work"/out/*.lock.yaml "$work/lock/"
if [ -n "${BENCH_COLD:-}" ]; then
    seconds "empty engine, everything downloaded" env XDG_CACHE_HOME="$work/engine" bin/nodesmith build -f "$spec" -o "$work/lock" --locked --progress plain
fi
if [ -n "${BENCH_PEERS:-}" ]; then
    scripts/install-deps.sh peers
    go test -run '^$' -bench . -benchtime "${BENCH_RUNS:-1}x" -timeout 6h ./test/peers
fi
