# report.sh: how a script in the guest reports to nodesmith. Source it.
# shellcheck shell=sh
#
# A report is one JSON object a line on a virtio-serial port, and {"done":true}
# at its end, which the shell's exit writes whatever happens. The scripts that
# scripts.sh runs find the port open, for it can be opened only once, and leave
# the end to it.

port=/dev/virtio-ports/org.nodesmith.report.0

# udev makes the port's name when the driver is loaded.
tries=0
until [ -n "${NODESMITH_REPORTING:-}" ] || [ -e "$port" ] || [ "$tries" -ge 30 ]; do
	sleep 1
	tries=$((tries + 1))
done
if [ -z "${NODESMITH_REPORTING:-}" ]; then
	exec 3>"$port"
	trap 'printf "{\"done\":true}\n" >&3' EXIT
	export NODESMITH_REPORTING=1
fi

# report ID pass|fail EVIDENCE
report() {
	printf '{"id":"%s","status":"%s","evidence":"%s"}\n' "$1" "$2" \
		"$(printf '%s' "$3" | tr '\n\t' '  ' | tr -d '\000-\037\177' | cut -c1-1800 | sed 's/[\\"]/\\&/g')" >&3
}

# check ID COMMAND...: COMMAND's exit decides, its output is the evidence.
check() {
	id=$1
	shift
	if evidence=$("$@" 2>&1); then
		report "$id" pass "$evidence"
	else
		report "$id" fail "$evidence"
	fi
}

# retry SECONDS COMMAND...: runs COMMAND until it succeeds or the time is over;
# prints what its last run printed. It rests for as long as COMMAND took: asking
# must not keep from a slow guest's CPUs what it asks for.
retry() {
	end=$(($(date +%s) + $1))
	shift
	until began=$(date +%s) && output=$("$@" 2>&1); do
		now=$(date +%s)
		if [ "$now" -ge "$end" ]; then
			printf '%s' "$output"
			return 1
		fi
		sleep $((now - began + 2))
	done
	printf '%s' "$output"
}

# boot_finished waits until systemd has run the jobs of the boot.
boot_finished() {
	state=$(systemctl is-system-running --wait)
	echo "$state"
	[ "$state" = running ] || [ "$state" = degraded ]
}
