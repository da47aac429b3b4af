#!/usr/bin/env bash
# The checks that fetch their own tools. Versions are pinned here.
set -euo pipefail
cd "$(dirname "$0")/.."

golangci_lint=github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0
govulncheck=golang.org/x/vuln/cmd/govulncheck@v1.1.4

scripts/check.sh
go run "$golangci_lint" run ./...
go run "$govulncheck" ./...
