package aws

import (
	"fmt"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"nodesmith.dev/nodesmith/api/v1alpha1"
	"nodesmith.dev/nodesmith/internal/fault"
	"nodesmith.dev/nodesmith/internal/publish"
	"nodesmith.dev/nodesmith/internal/publish/publishtest"
	"nodesmith.dev/nodesmith/internal/publish/publishtest/faultproxy"
)

var quick = publish.Policy{Tries: 3, First: time.Millisecond, Longest: time.Millisecond}

// publishTo publishes as the command line does, and returns the plan.
func publishTo(t *testing.T, a *account, state string, target v1alpha1.AWSTarget, image publish.Image) *publish.Plan {
	t.Helper()
	plan, err := tryToPublish(t, a, state, filepath.Join(t.TempDir(), "journal"), target, image)
	if err != nil {
		t.Fatal(err)
	}
	return plan
}

// tryToPublish is publishTo where it may fail.
func tryToPublish(t *testing.T, a *account, state, path string, target v1alpha1.AWSTarget, image publish.Image) (*publish.Plan, error) {
	t.Helper()
	p, err := newPublisher(t.Context(), a.args[0], state, target)
	if err != nil {
		t.Fatal(err)
	}
	journal, err := publish.OpenJournal(path)
	if err != nil {
		t.Fatal(err)
	}
	defer journal.Close()
	plan, err := publish.MakePlan(t.Context(), p, image, journal.State(), quick)
	if err != nil {
		t.Fatal(err)
	}
	return plan, publish.Apply(t.Context(), plan, journal, publish.Options{Reporter: publishtest.Silent{}, Retry: quick})
}

// What EC2 is told of the disk is seen on the recorded requests: moto keeps of an
// AMI its name.
func TestTheAMISaysWhatTheDiskBootsOn(t *testing.T) {
	a := start(t)
	img := image(newDisk(1), time.Unix(1_790_000_000, 0))
	publishTo(t, a, a.args[1], v1alpha1.AWSTarget{Region: home, Name: target(direct).Name, CopyTo: []string{abroad}}, img)
	in := a.recorder.Requests("RegisterImage")[0].Input
	disk := a.recorder.Requests("PutSnapshotBlock")[0].Input["SnapshotId"]
	for field, want := range map[string]string{
		"Name": "capa-ami-debian-12-v1.34.0-1790000000-" + img.Digest.Encoded()[:12], "Architecture": "x86_64", "VirtualizationType": "hvm",
		"BootMode": "uefi-preferred", "EnaSupport": "true", "ImdsSupport": "v2.0", "RootDeviceName": "/dev/xvda",
		"BlockDeviceMappings": fmt.Sprintf("[map[DeviceName:/dev/xvda Ebs:map[DeleteOnTermination:true SnapshotId:%v VolumeType:gp3]]]", disk),
	} {
		if got := fmt.Sprint(in[field]); got != want {
			t.Errorf("%s is %s, want %s", field, got, want)
		}
	}
	copied := a.recorder.Requests("CopyImage")[0]
	if copied.Region != abroad || copied.Input["SourceRegion"] != home || copied.Input["ClientToken"] == nil {
		t.Errorf("copied by %+v", copied)
	}
	if bad := a.recorder.Violations(); len(bad) > 0 {
		t.Errorf("AWS would refuse: %q", bad)
	}
}

// The second version sends one block, with the list of the first one's blocks and
// without it.
func TestTheNextVersionSendsWhatChanged(t *testing.T) {
	for name, sameMachine := range map[string]bool{"on the same machine": true, "on another": false} {
		t.Run(name, func(t *testing.T) {
			a := start(t)
			publishTo(t, a, a.args[1], v1alpha1.AWSTarget{Region: home, Name: target(direct).Name}, image(newDisk(1), time.Unix(1_790_000_000, 0)))
			first := a.recorder.Requests("PutSnapshotBlock")
			a.recorder.Forget()
			state := a.args[1]
			if !sameMachine {
				state = t.TempDir()
			}
			publishTo(t, a, state, v1alpha1.AWSTarget{Region: home, Name: target(direct).Name}, image(newDisk(2), time.Unix(1_790_000_060, 0)))
			second := a.recorder.Requests("PutSnapshotBlock")
			if len(first) != 8 || len(second) != 1 || second[0].Input["BlockIndex"] != "48" {
				t.Errorf("%d blocks, then %d: %v", len(first), len(second), second)
			}
			if parent := a.recorder.Requests("StartSnapshot")[0].Input["ParentSnapshotId"]; parent != first[0].Input["SnapshotId"] {
				t.Errorf("the parent is %v, want %v", parent, first[0].Input["SnapshotId"])
			}
			if read := len(a.recorder.Requests("GetSnapshotBlock")); sameMachine != (read == 0) {
				t.Errorf("%d blocks read back", read)
			}
			if bad := a.recorder.Violations(); len(bad) > 0 {
				t.Errorf("AWS would refuse: %q", bad)
			}
		})
	}
}

// A run that was killed while EC2 registered leaves an AMI that only its name tells.
func TestAnAMIWithoutTagsIsRetracted(t *testing.T) {
	a := start(t)
	img := image(newDisk(1), time.Unix(1_790_000_000, 0))
	name := "capa-ami-debian-12-v1.34.0-1790000000-" + short(img.Digest)
	if _, err := client(home).RegisterImage(t.Context(), &ec2.RegisterImageInput{Name: &name}); err != nil {
		t.Fatal(err)
	}
	p, err := newPublisher(t.Context(), a.args[0], a.args[1], target(direct))
	if err != nil {
		t.Fatal(err)
	}
	journal, err := publish.OpenJournal(filepath.Join(t.TempDir(), "journal"))
	if err != nil {
		t.Fatal(err)
	}
	defer journal.Close()
	plan, err := publish.MakeRetract(t.Context(), p, img.Digest, journal.State(), quick)
	if err == nil {
		err = publish.Apply(t.Context(), plan, journal, publish.Options{Reporter: publishtest.Silent{}, Retry: quick})
	}
	if err != nil {
		t.Fatal(err)
	}
	if left, err := (&region{name: home, look: client(home)}).images(t.Context()); err != nil || len(left) > 0 {
		t.Errorf("left: %+v, %v", left, err)
	}
}

func TestOldImagesGoUnlessTheyAreUsed(t *testing.T) {
	a := start(t)
	keepOne := v1alpha1.AWSTarget{Region: home, Name: target(direct).Name, Keep: 1}
	all := keepOne
	all.Keep = 0
	client := client(home)
	var old []publish.Image
	for i := range int64(3) {
		img := image(newDisk(uint64(i)), time.Unix(1_790_000_000+i, 0))
		publishTo(t, a, a.args[1], all, img)
		old = append(old, img)
	}
	undo := a.Use(t, old[0])
	defer undo()
	r := &region{name: home, look: client}
	inTemplate, err := r.imagesOf(t.Context(), old[1].Digest)
	if err != nil {
		t.Fatal(err)
	}
	name := "nodes"
	if _, err := client.CreateLaunchTemplate(t.Context(), &ec2.CreateLaunchTemplateInput{
		LaunchTemplateName: &name, LaunchTemplateData: &types.RequestLaunchTemplateData{ImageId: inTemplate[0].ImageId},
	}); err != nil {
		t.Fatal(err)
	}
	plan := publishTo(t, a, a.args[1], keepOne, image(newDisk(9), time.Unix(1_790_000_009, 0)))
	var said []string
	for _, s := range plan.Steps {
		if strings.Contains(s.ID, "/remove/") {
			said = append(said, string(s.Action)+" "+strings.TrimLeft(s.Why[strings.Index(s.Why, " ")+1:], " "))
		}
	}
	slices.Sort(said)
	if len(said) != 3 || !strings.HasPrefix(said[0], "delete") || !strings.HasPrefix(said[1], "keep is in use by instance i-") || said[2] != "keep is in use by launch template nodes, version 1" {
		t.Errorf("the plan says %q", said)
	}
	for i, want := range []int{1, 1, 0} {
		if left, err := r.imagesOf(t.Context(), old[i].Digest); err != nil || len(left) != want {
			t.Errorf("old image %d: %d AMIs, want %d, %v", i, len(left), want, err)
		}
	}
}

// What moto does not have is seen on the requests, which AWS's model takes.
func TestKeysOrganizationsAndDatesAreAskedForAsAWSHasThem(t *testing.T) {
	const (
		organization = "arn:aws:organizations::123456789012:organization/o-abcdefghij"
		unit         = "arn:aws:organizations::123456789012:ou/o-abcdefghij/ou-abcd-12345678"
	)
	keys := map[string]string{
		home:   "arn:aws:kms:eu-central-1:123456789012:key/1234abcd-12ab-34cd-56ef-1234567890ab",
		abroad: "arn:aws:kms:us-east-1:123456789012:key/5678abcd-12ab-34cd-56ef-1234567890ab",
	}
	for _, way := range []string{direct, throughS3} {
		t.Run(way, func(t *testing.T) {
			a := startWay(t, way, 8)
			encrypted := target(way)
			encrypted.Encrypt, encrypted.KMSKeys, encrypted.DeprecateAfter, encrypted.TPM = true, keys, 90, true
			encrypted.Share = v1alpha1.AWSShare{Organizations: []string{organization}, OrganizationalUnits: []string{unit}}
			publishTo(t, a, a.args[1], encrypted, image(newDisk(1), time.Unix(1_790_000_000, 0)))
			begin := map[string]string{direct: "StartSnapshot", throughS3: "ImportSnapshot"}[way]
			keyField := map[string]string{direct: "KmsKeyArn", throughS3: "KmsKeyId"}[way]
			for _, want := range []struct{ operation, field, value string }{
				{begin, "Encrypted", "true"}, {begin, keyField, keys[home]},
				{"CopyImage", "Encrypted", "true"}, {"CopyImage", "KmsKeyId", keys[abroad]},
				{"RegisterImage", "TpmSupport", "v2.0"}, {"RegisterImage", "BootMode", "uefi"},
				{"ModifyImageAttribute", "LaunchPermission", fmt.Sprintf("map[Add:[map[OrganizationArn:%s] map[OrganizationalUnitArn:%s]]]", organization, unit)},
				{"EnableImageDeprecation", "DeprecateAt", "2026-12-20T14:13:00Z"},
			} {
				requests := a.recorder.Requests(want.operation)
				if len(requests) == 0 || fmt.Sprint(requests[0].Input[want.field]) != want.value {
					t.Errorf("%s.%s: %+v, want %s", want.operation, want.field, requests, want.value)
				}
			}
			if bad := a.recorder.Violations(); len(bad) > 0 {
				t.Errorf("AWS would refuse: %q", bad)
			}
		})
	}
}

// Credentials that expire during the upload end the run, with what to do; with new
// ones it goes on with the same snapshot.
func TestCredentialsThatExpireEndTheRunAndTheNextGoesOn(t *testing.T) {
	a := start(t)
	img := image(newDisk(1), time.Unix(1_790_000_000, 0))
	journal := filepath.Join(t.TempDir(), "journal")
	expired := a.proxy.Add(faultproxy.Fault{
		Match: func(r *http.Request) bool { return r.Method == http.MethodPut }, Skip: 4, Times: -1,
		Do: faultproxy.Answer(http.StatusForbidden, http.Header{"X-Amzn-Errortype": {"ExpiredTokenException"}}, `{"message": "The security token included in the request is expired"}`),
	})
	_, err := tryToPublish(t, a, a.args[1], journal, target(direct), img)
	if fault.KindOf(err) != fault.Remote || !strings.Contains(fault.RemedyOf(err), "new credentials") || a.proxy.Hits(expired) == 0 {
		t.Fatalf("with expired credentials: %v (%s)", err, fault.RemedyOf(err))
	}
	a.proxy.Clear()
	if _, err := tryToPublish(t, a, a.args[1], journal, target(direct), img); err != nil {
		t.Fatal(err)
	}
	a.Check(t, img, true)
	if started := len(a.recorder.Requests("StartSnapshot")); started != 1 {
		t.Errorf("%d snapshots were started", started)
	}
}

// Accounts that may not write snapshots have EC2 import the disk.
func TestTheDiskIsImportedFromTheBucket(t *testing.T) {
	a := startWay(t, throughS3, 8)
	img := image(newDisk(1), time.Unix(1_790_000_000, 0))
	publishTo(t, a, a.args[1], target(throughS3), img)
	a.Check(t, img, true)
	key := objectOf(img.Digest)
	in := a.recorder.Requests("ImportSnapshot")
	if len(in) != 1 || fmt.Sprint(in[0].Input["DiskContainer"]) != fmt.Sprintf("map[Description:%s Format:VMDK UserBucket:map[S3Bucket:%s S3Key:%s]]", in[0].Input["Description"], bucket, key) || in[0].Input["RoleName"] != "vmimport" {
		t.Errorf("imported by %+v", in)
	}
	for operation, count := range map[string]int{"CreateMultipartUpload": 1, "UploadPart": 1, "CompleteMultipartUpload": 1, "DeleteObject": 1, "StartSnapshot": 0} {
		if got := len(a.recorder.Requests(operation)); got != count {
			t.Errorf("%d times %s, want %d", got, operation, count)
		}
	}
}
