#!/bin/sh
# secret-node.sh: on a node that got its bootstrap data as Cluster API's AWS
# provider sends it, that cloud-init read it.
set -u

# shellcheck source=internal/vmtest/assets/report.sh
. "${0%/*}/report.sh"

once() {
	starts=$(journalctl --unit nodesmith-report.service --output cat --no-pager | grep -c '^Started')
	echo "the unit that the data asks for started $starts times; $(ls -l /etc/secret-userdata.txt)"
	[ "$starts" = 1 ] && [ -s /etc/secret-userdata.txt ]
}

done_without_error() {
	cloud-init status --long
	cloud-init status | grep -qx 'status: done'
}

check boot boot_finished
check bootstrap.once once
check cloud-init.done done_without_error
