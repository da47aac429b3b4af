#!/usr/bin/env bash
# The checks that take seconds and need no network: formatting, go vet, shell.
set -euo pipefail
cd "$(dirname "$0")/.."

unformatted=$(gofmt -l api cmd internal scripts test)
if [ -n "$unformatted" ]; then
    echo "not formatted (gofmt -w): $unformatted" >&2
    exit 1
fi
go vet ./...
go vet -tags all ./test ./test/faults ./internal/engine ./internal/publish/...
# That clients compile is seen by make test-all; here, that every package has files
# for their systems.
for system in darwin windows; do
    GOOS=$system CGO_ENABLED=0 go list -deps ./cmd/nodesmith >/dev/null
done
mapfile -t scripts < <(git ls-files '*.sh' '.ci/run' '**/policy-rc.d')
shellcheck -x -P SCRIPTDIR "${scripts[@]}"
