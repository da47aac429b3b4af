#!/bin/sh
# scripts.sh: runs the scripts that SCRIPTS names, beside it, as one report.
set -u

# shellcheck source=report.sh
. "${0%/*}/report.sh"

for script in $SCRIPTS; do
	/bin/sh "${0%/*}/$script"
done
