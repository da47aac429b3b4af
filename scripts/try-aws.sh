#!/usr/bin/env bash
# Publishes an image to a real AWS account and says whether it came to be as the
# emulator of the tests can't: that EBS takes the checksums, a child snapshot is
# whole, the AMI boots. It costs a few cents, and takes away what it made.
#
#   AWS_PROFILE=... scripts/try-aws.sh IMAGE REGION
#
# IMAGE is as for nodesmith publish. Needs the aws command and a default VPC.
set -euo pipefail
cd "$(dirname "$0")/.."
image=${1:?IMAGE} region=${2:?REGION}

work=$(mktemp -d)
instance=
cleanup() {
    if [ -n "$instance" ]; then
        aws ec2 terminate-instances --region "$region" --instance-ids "$instance" >/dev/null
        aws ec2 wait instance-terminated --region "$region" --instance-ids "$instance"
    fi
    bin/nodesmith publish retract "$image" -f "$work/target.yaml"
    rm -rf "$work"
}
cat >"$work/target.yaml" <<END
apiVersion: nodesmith.dev/v1alpha1
kind: PublishTarget
metadata: {name: try}
spec:
  aws: [{region: $region}]
END

bin/nodesmith publish "$image" -f "$work/target.yaml" --yes-unverified --dry-run
trap cleanup EXIT
bin/nodesmith publish "$image" -f "$work/target.yaml" --yes-unverified
echo "EBS took all checksums. A second run has to do nothing:"
bin/nodesmith publish "$image" -f "$work/target.yaml" --yes-unverified --dry-run

ami=$(bin/nodesmith publish list -f "$work/target.yaml" --json | jq -rs 'flatten | map(select(.digest != null)) | max_by(.created).id')
aws ec2 describe-images --region "$region" --image-ids "$ami" \
    --query 'Images[0].{Name: Name, BootMode: BootMode, Ena: EnaSupport, Imds: ImdsSupport, Tpm: TpmSupport, Disk: BlockDeviceMappings[0].Ebs}'

instance=$(aws ec2 run-instances --region "$region" --image-id "$ami" --instance-type m6i.large --query 'Instances[0].InstanceId' --output text)
echo "Booting $instance; its console follows when EC2 has it (some minutes)."
aws ec2 wait instance-status-ok --region "$region" --instance-ids "$instance"
aws ec2 get-console-output --region "$region" --instance-id "$instance" --latest --output text | tail -40
echo "$ami boots."
