#!/usr/bin/env bash
# Publishes an image to a real AWS account and says whether it came to be as the
# emulator of the tests can't: that EBS takes the checksums, a child snapshot is
# whole, the policy in docs/publishing.md is enough, the AMI boots. It costs a few
# cents, and takes away what it made.
#
#   AWS_PROFILE=... [ROLE=ARN] [FIELDS=YAML] scripts/try-aws.sh FILE REGION [NEXT_FILE]
#
# FILE is an image for AWS beside its manifest, NEXT_FILE another build of the same
# NodeImage: its snapshot becomes a child of the first one's. ROLE is a role that may
# do all of this, and that the profile may assume: nodesmith is then held to the
# policy in docs/publishing.md. FIELDS are more fields of the target, such as
# 'import: {bucket: NAME}' for the way through S3 and ImportSnapshot (without NEXT_FILE:
# it has no parents), 'kmsKeys: {REGION: ARN}', 'deprecateAfter: 30', 'share: {...}'.
# Needs the aws command, jq, Go and a default VPC.
set -euo pipefail
cd "$(dirname "$0")/.."
if [ $# -lt 2 ]; then
    sed -n '2,/^set/{/^set/d;s/^# \{0,1\}//;p;}' "$0" >&2
    exit 2
fi
file=$1 region=$2 next=${3:-}

work=$(mktemp -d)
target=$work/target.yaml
instance=
cleanup() {
    if [ -n "$instance" ]; then
        aws ec2 terminate-instances --region "$region" --instance-ids "$instance" >/dev/null
        aws ec2 wait instance-terminated --region "$region" --instance-ids "$instance"
    fi
    for image in ${next:+"$next"} "$file"; do
        limited bin/nodesmith publish retract "$image" -f "$target"
    done
    rm -rf "$work"
}
cat >"$target" <<END
apiVersion: nodesmith.dev/v1alpha1
kind: PublishTarget
metadata: {name: try}
spec:
  aws: [{region: $region${FIELDS:+, $FIELDS}}]
END

# limited runs a command with the role's credentials, held to the policy in the docs.
limited() { env "${credentials[@]}" "$@"; }
credentials=()
if [ -n "${ROLE:-}" ]; then
    policy=$(awk '/^## AWS$/ {aws = 1} aws && /^    {$/ {policy = 1} policy {print} policy && /^    }$/ {exit}' docs/publishing.md | jq -c .)
    answer=$(aws sts assume-role --region "$region" --role-arn "$ROLE" --role-session-name nodesmith-try --policy "$policy")
    mapfile -t credentials < <(jq -r '.Credentials | "AWS_ACCESS_KEY_ID=\(.AccessKeyId)", "AWS_SECRET_ACCESS_KEY=\(.SecretAccessKey)", "AWS_SESSION_TOKEN=\(.SessionToken)"' <<<"$answer")
    credentials=(-u AWS_PROFILE "${credentials[@]}")
fi

# try publishes an image file, holds that a second run has nothing to do, reads the
# snapshot back, and sets ami.
try() {
    limited bin/nodesmith publish "$1" -f "$target" --yes-unverified
    digest=$(limited bin/nodesmith publish "$1" -f "$target" --dry-run --json | jq -er .image)
    limited bin/nodesmith publish "$1" -f "$target" --dry-run --json | jq -e '.bytes == 0 and all(.steps[]; .action == "exists")' >/dev/null ||
        { echo "a second run would not do nothing" >&2; exit 1; }
    ami=$(limited bin/nodesmith publish list -f "$target" --json | jq -er --arg digest "$digest" 'select(.digest == $digest).id')
    snapshot=$(aws ec2 describe-snapshots --region "$region" --owner-ids self --filters "Name=tag:nodesmith-digest,Values=$digest" |
        jq -er '.Snapshots[0].SnapshotId')
    limited go run scripts/ebs-compare.go "$region" "$snapshot" "$1"
}

limited bin/nodesmith publish "$file" -f "$target" --yes-unverified --dry-run
trap cleanup EXIT
echo "1. EBS takes the checksums, and the snapshot holds the disk"
try "$file"
if [ -n "$next" ]; then
    echo "2. the next version is a child, and holds its disk"
    try "$next"
    aws ec2 describe-snapshots --region "$region" --snapshot-ids "$snapshot" |
        jq -er '.Snapshots[0].Tags[] | select(.Key == "nodesmith-parent").Value | "its parent is \(.)"'
fi

echo "3. the AMI, as EC2 sees it"
aws ec2 describe-images --region "$region" --image-ids "$ami" \
    --query 'Images[0].{Name: Name, BootMode: BootMode, Ena: EnaSupport, Imds: ImdsSupport, Tpm: TpmSupport, Deprecated: DeprecationTime, Disk: BlockDeviceMappings[0].Ebs}'
aws ec2 describe-image-attribute --region "$region" --image-id "$ami" --attribute launchPermission --query LaunchPermissions

instance=$(aws ec2 run-instances --region "$region" --image-id "$ami" --instance-type m6i.large --query 'Instances[0].InstanceId' --output text)
echo "4. $instance boots, and keeps the AMI"
if limited bin/nodesmith publish retract "${next:-$file}" -f "$target"; then
    echo "it was not kept" >&2
    exit 1
fi
aws ec2 wait instance-status-ok --region "$region" --instance-ids "$instance"
aws ec2 get-console-output --region "$region" --instance-id "$instance" --latest --output text | tail -40
echo "all of it held"
