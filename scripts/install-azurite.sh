#!/usr/bin/env bash
# Installs Azurite, Microsoft's emulator of Azure's blob service, where the tests
# of the Azure publisher look for it. The versions of it and of all that it needs
# are those of its package-lock.json. Does nothing where it is there.
set -euo pipefail
cd "$(dirname "$0")/../internal/publish/azure/azuretest/azurite"

place=${XDG_CACHE_HOME:-$HOME/.cache}/nodesmith-test/azurite-$(sha256sum package-lock.json | cut -c1-12)
if [ -e "$place/node_modules/.bin/azurite-blob" ]; then
    exit 0
fi
for program in node npm; do
    if ! command -v "$program" >/dev/null; then
        echo "Azurite needs $program; as root: apt-get install nodejs npm" >&2
        exit 1
    fi
done
echo "Installing Azurite in $place"
mkdir -p "${place%/*}"
half=$(mktemp -d "$place.XXXXXX")
trap 'rm -rf "$half"' EXIT
cp package.json package-lock.json "$half"
npm ci --prefix "$half" --omit=dev --ignore-scripts --no-audit --no-fund --loglevel=error
mv -T "$half" "$place"
trap - EXIT
