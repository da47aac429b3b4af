#!/usr/bin/env bash
# Publishes an image to a subscription of yours, looks at what nothing but Azure
# can check, and takes it back: gallery replication, TrustedLaunch, the signed
# upload into a managed disk, and that a virtual machine boots.
#
#   scripts/try-azure.sh IMAGE SUBSCRIPTION RESOURCE_GROUP LOCATION [SECOND_LOCATION]
#
# It needs `az` (logged in), bin/nodesmith, and a resource group that exists. It
# costs: a gallery version for a few minutes, a Standard_B2s machine for as long
# as one boots. All that it makes is deleted at the end, also after a failure.
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
az() { command az "$@" --subscription "$subscription" --only-show-errors; }

clean_up() {
    status=$?
    set +e
    echo "== taking everything back"
    az vm delete --yes --force-deletion true -g "$group" -n "$machine" 2>/dev/null
    for kind in nic public-ip nsg vnet; do
        case $kind in
            nic) name=${machine}VMNic ;;
            public-ip) name=${machine}PublicIP ;;
            nsg) name=${machine}NSG ;;
            vnet) name=${machine}VNET ;;
        esac
        az network "$kind" delete -g "$group" -n "$name" 2>/dev/null
    done
    bin/nodesmith publish retract "$image" --to azure -f "$work/publish.yaml"
    az sig delete -g "$group" --gallery-name "$gallery" 2>/dev/null
    echo "== left of it (should be nothing):"
    az resource list -g "$group" --query "[?contains(name, '$gallery') || contains(name, '$machine') || starts_with(name, 'nodesmith-')].id" -o tsv
    rm -rf "$work"
    exit "$status"
}
trap clean_up EXIT

regions="[{name: $location}"
[ -z "$second" ] || regions+=", {name: $second}"
regions+="]"
cat > "$work/publish.yaml" <<YAML
apiVersion: nodesmith.dev/v1alpha1
kind: PublishTarget
metadata: {name: try}
spec:
  azure:
    - subscription: $subscription
      resourceGroup: $group
      location: $location
      gallery: {name: $gallery, regions: $regions}
YAML

echo "== publish, killed after 20 s, and again"
timeout -s KILL 20 bin/nodesmith publish "$image" --to azure -f "$work/publish.yaml" || true
bin/nodesmith publish status "$image"
bin/nodesmith publish "$image" --to azure -f "$work/publish.yaml"

echo "== once more: nothing to do"
bin/nodesmith publish "$image" --to azure -f "$work/publish.yaml" --dry-run

echo "== the version, as Azure sees it"
definition=$(az sig image-definition list -g "$group" --gallery-name "$gallery" --query '[0].name' -o tsv)
id=$(az sig image-version list -g "$group" --gallery-name "$gallery" --gallery-image-definition "$definition" --query '[0].id' -o tsv)
az sig image-version show --ids "$id" --expand ReplicationStatus --query '{state: provisioningState, replication: replicationStatus.summary[].{region: region, state: state}, excludeFromLatest: publishingProfile.excludeFromLatest}'
az sig image-definition show -g "$group" --gallery-name "$gallery" --gallery-image-definition "$definition" --query '{generation: hyperVGeneration, features: features}'

echo "== disks and blobs that were only needed on the way (should be none):"
az disk list -g "$group" --query "[?starts_with(name, 'nodesmith-')].name" -o tsv

echo "== a machine"
security=(--security-type Standard)
if az sig image-definition show -g "$group" --gallery-name "$gallery" --gallery-image-definition "$definition" --query 'features[].value' -o tsv | grep -q TrustedLaunch; then
    security=(--security-type TrustedLaunch --enable-secure-boot true --enable-vtpm true)
fi
az vm create -g "$group" -n "$machine" --image "$id" --size Standard_B2s "${security[@]}" --generate-ssh-keys --admin-username azureuser \
    --public-ip-address "" --boot-diagnostics-storage "" --query powerState -o tsv
az vm get-instance-view -g "$group" -n "$machine" --query 'instanceView.vmAgent.statuses[0].displayStatus' -o tsv

echo "== retract says that the machine uses it, and keeps it"
bin/nodesmith publish retract "$image" --to azure -f "$work/publish.yaml" --dry-run
