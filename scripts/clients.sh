#!/usr/bin/env bash
# Compiles nodesmith for the systems on which it is a client of engines elsewhere:
# scripts/clients.sh [OS/ARCHITECTURE...], all of them without an argument.
# CLIENTS=DIR keeps the programs, which are the same bytes wherever the sources lie.
set -euo pipefail
cd "$(dirname "$0")/.."

systems=("$@")
if [ ${#systems[@]} -eq 0 ]; then
    systems=(darwin/arm64 darwin/amd64 windows/amd64 windows/arm64 linux/arm64)
fi
for system in "${systems[@]}"; do
    os=${system%/*} architecture=${system#*/}
    options=(-o /dev/null)
    if [ -n "${CLIENTS:-}" ]; then
        mkdir -p "$CLIENTS"
        suffix=
        [ "$os" != windows ] || suffix=.exe
        options=(-trimpath -buildvcs=false "-ldflags=-s -w" -o "$CLIENTS/nodesmith-$os-$architecture$suffix")
    fi
    CGO_ENABLED=0 GOOS=$os GOARCH=$architecture go build "${options[@]}" ./cmd/nodesmith
    echo "compiled for $system"
done
