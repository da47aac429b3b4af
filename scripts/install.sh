#!/usr/bin/env bash
# Installs bin/nodesmith, its manual pages and the completions of bash, zsh and fish
# below PREFIX (/usr/local), or below DESTDIR/PREFIX for packagers.
set -euo pipefail
cd "$(dirname "$0")/.."

to=${DESTDIR:-}${PREFIX:-/usr/local}
export SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || echo 0)}
install -D -m 0755 bin/nodesmith "$to/bin/nodesmith"
bin/nodesmith man -o "$to/share/man/man1" >/dev/null
while read -r shell path; do
    mkdir -p "$(dirname "$to/share/$path")"
    bin/nodesmith completion "$shell" >"$to/share/$path"
done <<'PATHS'
bash bash-completion/completions/nodesmith
zsh zsh/site-functions/_nodesmith
fish fish/vendor_completions.d/nodesmith.fish
PATHS
echo "installed in $to"
