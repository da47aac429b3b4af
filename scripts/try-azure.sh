#!/usr/bin/env bash
# Publishes an image to a subscription of yours, looks at what nothing but Azure
# can check, and takes it back: the signed upload into a managed disk and what a
# killed one left, gallery replication, TrustedLaunch, managed images, and that a
# virtual machine boots of each.
#
#   [ACCOUNT=...] scripts/try-azure.sh IMAGE SUBSCRIPTION RESOURCE_GROUP LOCATION [SECOND_LOCATION]
#
# It needs `az` (logged in), jq, bin/nodesmith, and a resource group that exists;
# with ACCOUNT, a storage account in it, also the way by a page blob is tried. It
# costs: images for a few minutes, a Standard_B2s machine for as long as each boots.
# All that it makes is deleted at the end, also after a failure.
set -euo pipefail
if [ $# -lt 4 ]; then
    sed -n '2,/^set/{/^set/d;s/^# \{0,1\}//;p;}' "$0" >&2
    exit 2
fi
image=$1 subscription=$2 group=$3 location=$4 second=${5:-}
cd "$(dirname "$0")/.."
gallery=nodesmithtry$RANDOM
machine=nodesmith-try-$RANDOM
work=$(mktemp -d)
target=$work/publish.yaml
az() { command az "$@" --subscription "$subscription" --only-show-errors; }
nodesmith() { bin/nodesmith publish "$@" --to azure -f "$target"; }

delete_machine() {
    az vm delete --yes --force-deletion true -g "$group" -n "$machine" 2>/dev/null || true
    for thing in nic:VMNic public-ip:PublicIP nsg:NSG vnet:VNET; do
        az network "${thing%:*}" delete -g "$group" -n "$machine${thing#*:}" 2>/dev/null || true
    done
}

clean_up() {
    status=$?
    set +e
    echo "== taking everything back"
    delete_machine
    nodesmith retract "$image"
    az sig delete -g "$group" --gallery-name "$gallery" 2>/dev/null
    echo "== left of it (should be nothing):"
    az resource list -g "$group" --query "[?contains(name, '$gallery') || contains(name, '$machine') || starts_with(name, 'nodesmith-')].id" -o tsv
    rm -rf "$work"
    exit "$status"
}
trap clean_up EXIT

# target LINE... writes the target; each line is one more field of it.
target() {
    cat >"$target" <<YAML
apiVersion: nodesmith.dev/v1alpha1
kind: PublishTarget
metadata: {name: try}
spec:
  azure:
    - subscription: $subscription
      resourceGroup: $group
      location: $location
YAML
    printf '      %s\n' "$@" >>"$target"
}

# publish publishes to the end, holds that a second run has nothing to do, and sets
# id to what was made.
publish() {
    nodesmith "$image" --yes-unverified
    plan=$(nodesmith "$image" --dry-run --json)
    jq -e '.bytes == 0 and all(.steps[]; .action == "exists")' <<<"$plan" >/dev/null || { echo "a second run would not do nothing: $plan" >&2; exit 1; }
    id=$(nodesmith list --json | jq -er --argjson plan "$plan" 'select(.digest == $plan.image).id')
    echo "== disks and blobs that were only needed on the way (should be none):"
    az disk list -g "$group" --query "[?starts_with(name, 'nodesmith-')].name" -o tsv
    if [ -n "${ACCOUNT:-}" ]; then
        az storage blob list --account-name "$ACCOUNT" --container-name nodesmith --auth-mode login --query '[].name' -o tsv 2>/dev/null || true
    fi
}

# boot makes a machine of the image, with these options, and holds that it keeps it.
boot() {
    az vm create -g "$group" -n "$machine" --image "$id" --size Standard_B2s "$@" --generate-ssh-keys --admin-username azureuser \
        --public-ip-address "" --boot-diagnostics-storage "" --query powerState -o tsv
    az vm get-instance-view -g "$group" -n "$machine" --query 'instanceView.vmAgent.statuses[0].displayStatus' -o tsv
    nodesmith retract "$image" --dry-run --json | jq -e 'any(.steps[]; .action == "keep")' >/dev/null ||
        { echo "the image would not be kept while $machine is there" >&2; exit 1; }
    delete_machine
    nodesmith retract "$image"
}

regions="[{name: $location}${second:+, {name: $second\}}]"
echo "== a gallery, through a disk: a run that is killed after 20 s, and again"
target "gallery: {name: $gallery, regions: $regions}"
timeout -s KILL 20 bin/nodesmith publish "$image" --to azure -f "$target" --yes-unverified || true
bin/nodesmith publish status "$image"
publish

echo "== the version, as Azure sees it"
az sig image-version show --ids "$id" --expand ReplicationStatus --query '{state: provisioningState, replication: replicationStatus.summary[].{region: region, state: state}, excludeFromLatest: publishingProfile.excludeFromLatest}'
definition=$(az sig image-definition list -g "$group" --gallery-name "$gallery" --query '[0]')
jq '{generation: .hyperVGeneration, features}' <<<"$definition"
security=(--security-type Standard)
if jq -e 'any(.features[]?; .value | test("TrustedLaunch"))' <<<"$definition" >/dev/null; then
    security=(--security-type TrustedLaunch --enable-secure-boot true --enable-vtpm true)
fi
boot "${security[@]}"

if [ -n "${ACCOUNT:-}" ]; then
    echo "== a gallery, through a page blob"
    target "gallery: {name: $gallery, regions: $regions}" "upload: {storageAccount: $ACCOUNT}"
    publish
    boot "${security[@]}"
fi

echo "== a managed image"
target "managedImage: {}"
publish
boot --security-type Standard
echo "all of it held"
