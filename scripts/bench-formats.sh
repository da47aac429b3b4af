#!/usr/bin/env bash
# Compares nodesmith convert with qemu-img, in pairs, and prints ratios.
#
#   scripts/bench-formats.sh [NODE_IMAGE]
#
# Inputs: a real node image (given, or out/debian-12-qemu.qcow2 of make image), a
# disk of 1 GiB of random bytes, an empty disk of 20 GiB. Every input is read
# once before, so that both sides read from memory. PAIRS (default 3) is the
# number of runs of each side; they alternate, and the ratio is that of the
# medians. qemu-img does not wait for the disk and nodesmith does, so qemu-img's
# file is synced within its time.
set -euo pipefail
cd "$(dirname "$0")/.."

node=${1:-out/debian-12-qemu.qcow2}
pairs=${PAIRS:-3}
nodesmith=${NODESMITH:-$PWD/bin/nodesmith}
for program in qemu-img /usr/bin/time; do
    command -v "$program" >/dev/null || { echo "bench-formats: $program is missing (apt-get install qemu-utils time)" >&2; exit 5; }
done
[[ -e $node ]] || { echo "bench-formats: $node is missing: run make image, or give a node image" >&2; exit 2; }

work=$(mktemp -d "${TMPDIR:-/var/tmp}/bench-formats.XXXXXX")
trap 'rm -rf "$work"' EXIT
head -c 1G /dev/urandom >"$work/random.raw"
truncate -s 20G "$work/empty.raw"
"$nodesmith" convert "$node" --cache=false --to raw --name node -o "$work" >/dev/null
cat "$work/node.raw" "$work/random.raw" >/dev/null

# measure LABEL COMMAND...: appends "wall cpu kib" to the label's file.
measure() {
    local label=$1
    shift
    rm -rf "$work/new" && mkdir "$work/new"
    /usr/bin/time -f '%e %U %S %M' -o "$work/time" "$@" >/dev/null
    awk '{ printf "%.2f %.2f %d\n", $1, $2 + $3, $4 }' "$work/time" >>"$work/$label.times"
    find "$work/new" -type f -printf '%b %s\n' | awk '{ stored += $1 * 512; size += $2 } END { printf "%d\n", (stored < size ? stored : size) / 1000000 }' >"$work/$label.size"
}

# median LABEL COLUMN
median() { sort -n -k "$2" "$work/$1.times" | awk -v c="$2" '{ v[NR] = $c } END { print v[int((NR + 1) / 2)] }'; }

qemu() { # OPTIONS... INPUT: converts to $work/new/disk, and syncs it
    # shellcheck disable=SC2016 # the inner shell expands its own arguments
    measure "$label.qemu" sh -c 'qemu-img convert -f raw "$@" && sync -d "${0}"' "$work/new/disk" "$@" "$work/new/disk"
}

ours() { measure "$label.ours" "$nodesmith" convert --cache=false --from raw -o "$work/new" "$@"; }

row() {
    local q="$label.qemu" o="$label.ours"
    echo "$1|$2|$(median "$o" 1)|$(median "$q" 1)|$(median "$o" 2)|$(median "$q" 2)|$(median "$o" 3)|$(median "$q" 3)|$(cat "$work/$o.size")|$(cat "$work/$q.size")" |
        awk -F'|' '{ printf "| %s | %s | %.2f s / %.2f s = **%.2f** | %.1f / %.1f | %d / %d | %d / %d = %.3f |\n", $1, $2, $3, $4, $3 / ($4 > 0 ? $4 : 0.01), $5, $6, $7 / 1024, $8 / 1024, $9, $10, $9 / ($10 > 0 ? $10 : 1) }'
}

echo "| input | formats (nodesmith / qemu-img) | wall, ratio | CPU s | peak MiB | size MB, ratio |"
echo "|---|---|---|---|---|---|"
# pair NAME QEMU_OPTIONS OUR_OPTIONS
pair() {
    for input in node random empty; do
        label="$input.${1//[^a-z0-9]/-}"
        for ((i = 0; i < pairs; i++)); do
            # shellcheck disable=SC2086 # options are words
            ours "$work/$input.raw" $3
            # shellcheck disable=SC2086
            qemu $2 "$work/$input.raw"
        done
        row "$input" "$1"
    done
}

# again NAME OUR_OPTIONS: the first conversion into an empty cache, and the second
# after one percent of the data, in 64 places, was overwritten.
again() {
    local first second
    local label="again.${1//[^a-z0-9]/-}"
    for ((i = 0; i < pairs; i++)); do
        rm -rf "$work/cache"
        cp --sparse=always "$work/node.raw" "$work/changed.raw"
        # shellcheck disable=SC2086 # options are words
        measure "$label.first" env XDG_CACHE_HOME="$work/cache" "$nodesmith" convert --from raw -o "$work/new" "$work/changed.raw" $2
        for ((j = 0; j < 64; j++)); do
            dd if="$work/random.raw" of="$work/changed.raw" bs=64K count=4 skip=$((j * 4)) seek=$((3000 + j * 250)) conv=notrunc status=none
        done
        # shellcheck disable=SC2086
        measure "$label.second" env XDG_CACHE_HOME="$work/cache" "$nodesmith" convert --from raw -o "$work/new" "$work/changed.raw" $2
    done
    first=$(median "$label.first" 1) second=$(median "$label.second" 1)
    awk -v n="$1" -v a="$first" -v b="$second" -v c="$(median "$label.first" 2)" -v d="$(median "$label.second" 2)" -v m="$(median "$label.second" 3)" \
        'BEGIN { printf "| node, 1%% changed | %s, second / first | %.2f s / %.2f s = **%.2f** | %.1f / %.1f | %d | |\n", n, b, a, b / a, d, c, m / 1024 }'
}

pair "vmdk / vmdk streamOptimized" "-O vmdk -o subformat=streamOptimized" "--to vmdk"
pair "qcow2 zstd / -c -m 2 -W" "-O qcow2 -c -m 2 -W -o compression_type=zstd" "--to qcow2"
pair "qcow2 zlib / -c -m 2 -W" "-O qcow2 -c -m 2 -W" "--to qcow2 --qcow2-compression zlib"
pair "qcow2 plain / -m 16 -W" "-O qcow2 -m 16 -W" "--to qcow2 --qcow2-compression none"
pair "vhd fixed / vpc fixed -m 16 -W" "-O vpc -o subformat=fixed,force_size=on -m 16 -W" "--to vhd"
pair "raw / raw -m 16 -W" "-O raw -m 16 -W" "--to raw"
pair "ova vhd qcow2 gce / vmdk alone" "-O vmdk -o subformat=streamOptimized" "--to ova --to vhd --to qcow2 --to gce"
again "vmdk" "--to vmdk"
again "ova vhd qcow2 gce" "--to ova --to vhd --to qcow2 --to gce"
