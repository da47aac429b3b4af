#!/usr/bin/env bash
# Builds the step programs, then nodesmith with them embedded, into bin/.
# The same sources give the same bytes, wherever they lie.
set -euo pipefail
cd "$(dirname "$0")/.."

version=$(git describe --tags --always --dirty 2>/dev/null || echo unknown)
reproducible=(-trimpath -buildvcs=false)
steps=internal/build/steps/bin

for dir in cmd/step-*; do
    name=$(basename "$dir")
    CGO_ENABLED=0 GOOS=linux GOARCH=amd64 \
        go build "${reproducible[@]}" -ldflags="-s -w -buildid=" -o "$steps/$name.new" "./$dir"
    # An unchanged program keeps its file, so that go build has nothing to do.
    if cmp -s "$steps/$name.new" "$steps/$name"; then
        rm "$steps/$name.new"
    else
        mv "$steps/$name.new" "$steps/$name"
    fi
done

CGO_ENABLED=0 go build "${reproducible[@]}" \
    -ldflags="-s -w -X nodesmith.dev/nodesmith/internal/cli.version=$version" -o bin/nodesmith ./cmd/nodesmith
