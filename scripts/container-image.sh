#!/usr/bin/env bash
# Makes the container image in which nodesmith builds, from Debian's packages and
# bin/nodesmith: scripts/container-image.sh [FILE], out/nodesmith-image.tar without
# an argument.
set -euo pipefail
cd "$(dirname "$0")/.."

file=${1:-out/nodesmith-image.tar}
go run ./scripts/containerimage -o "$file" -name "nodesmith:$(git describe --tags --always --dirty 2>/dev/null || echo latest)"
echo "$file: docker load -i $file"
