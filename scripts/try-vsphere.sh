#!/usr/bin/env bash
# Tries on a real vCenter what no simulator shows (docs/publishing.md): publishes
# an OVA, clones the template linked, boots the clone, sees that the template is
# kept while the clone is there, and takes everything away.
#
#   GOVC_URL=... GOVC_USERNAME=... GOVC_PASSWORD=... scripts/try-vsphere.sh out/debian-12-vsphere.ova publish.yaml
#
# The target has one vCenter, with clones: linked. It needs govc, jq and
# bin/nodesmith. It powers on one virtual machine, nodesmith-try.
set -euo pipefail

image=${1:?usage: try-vsphere.sh OVA PUBLISH.yaml}
target=${2:?usage: try-vsphere.sh OVA PUBLISH.yaml}
nodesmith=${NODESMITH:-bin/nodesmith}
clone="nodesmith-try"

for program in govc jq "$nodesmith"; do
    command -v "$program" >/dev/null || { echo "needs $program" >&2; exit 1; }
done

cleanup() {
    govc vm.destroy "$clone" 2>/dev/null || true
    "$nodesmith" publish retract "$image" -f "$target" || true
}
trap cleanup EXIT

echo "1. a run that is killed while it sends"
timeout --signal=KILL 20 "$nodesmith" publish "$image" -f "$target" --yes-unverified || true
"$nodesmith" publish status "$image"

echo "2. the next one finishes it; the one after that does nothing"
"$nodesmith" publish "$image" -f "$target" --yes-unverified
plan=$("$nodesmith" publish "$image" -f "$target" --dry-run --json)
jq -e '.bytes == 0 and all(.steps[]; .action == "exists")' <<<"$plan" >/dev/null || { echo "a second run would not do nothing" >&2; exit 1; }

template=$("$nodesmith" publish list -f "$target" --json | jq -er --argjson plan "$plan" 'select(.digest == $plan.image).name')
echo "3. the template is $template, with this firmware, snapshot and properties"
govc vm.info -json "$template" |
    jq '.virtualMachines[0] | {firmware: .config.firmware, secureBoot: .config.bootOptions.efiSecureBootEnabled,
        snapshot: .snapshot.currentSnapshot, properties: [.config.vAppConfig.property[] | {id, category, defaultValue}]}'

echo "4. a linked clone shares its disk"
govc vm.clone -vm "$template" -snapshot nodesmith -link -on=false "$clone"
govc device.info -vm "$clone" -json 'disk-*' |
    jq -e '.devices[0].backing.parent.fileName' || { echo "the clone's disk has no parent" >&2; exit 1; }

echo "5. the template is kept while the clone is there"
if "$nodesmith" publish retract "$image" -f "$target"; then
    echo "it was not kept" >&2
    exit 1
fi

echo "6. the clone boots"
govc vm.power -on "$clone"
govc vm.ip -wait 10m "$clone"

echo "7. everything goes"
govc vm.power -off -force "$clone"
govc vm.destroy "$clone"
"$nodesmith" publish retract "$image" -f "$target"
if govc vm.info -json "$template" | jq -e '.virtualMachines | length > 0' >/dev/null; then
    echo "$template is still there" >&2
    exit 1
fi
echo "all of it held"
