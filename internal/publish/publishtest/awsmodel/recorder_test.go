package awsmodel

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"nodesmith.dev/nodesmith/internal/publish/publishtest/moto"
	"nodesmith.dev/nodesmith/internal/testenv"
)

// The requests are as a client of AWS would send them, each with one thing wrong.
func TestViolationsAreWhatAWSWouldRefuse(t *testing.T) {
	testenv.Need(t, "python3")
	venv, err := moto.Venv()
	if err != nil {
		t.Fatal(err)
	}
	models := load(t, venv)
	const (
		form   = "application/x-www-form-urlencoded"
		right  = "Action=RegisterImage&Version=2016-11-15&Name=node&Architecture=x86_64&BootMode=uefi-preferred&BlockDeviceMapping.1.DeviceName=%2Fdev%2Fsda1&BlockDeviceMapping.1.Ebs.VolumeType=gp3&TagSpecification.1.ResourceType=image&TagSpecification.1.Tag.1.Key=a&TagSpecification.1.Tag.1.Value=b"
		answer = `{"SnapshotId": "snap-0123456789abcdef0"}`
	)
	for name, test := range map[string]struct {
		service, method, path, body string
		header                      http.Header
		want                        string // part of the only violation; "" for none
	}{
		"a right one":           {"ec2", "POST", "/", right, nil, ""},
		"no name":               {"ec2", "POST", "/", strings.Replace(right, "Name=node&", "", 1), nil, "RegisterImage.Name is required"},
		"an unknown boot mode":  {"ec2", "POST", "/", strings.Replace(right, "uefi-preferred", "efi", 1), nil, `RegisterImage.BootMode is "efi", not one of`},
		"in a list's structure": {"ec2", "POST", "/", strings.Replace(right, "gp3", "gp9", 1), nil, "BlockDeviceMappings[0].Ebs.VolumeType"},
		"an unknown parameter":  {"ec2", "POST", "/", right + "&Colour=red", nil, "parameter Colour is not in the model"},
		"no number":             {"ec2", "POST", "/", right + "&BlockDeviceMapping.1.Ebs.VolumeSize=big", nil, "not a whole number"},
		"an unknown action":     {"ec2", "POST", "/", "Action=MakeImage", nil, "is no operation"},
		"a right snapshot":      {"ebs", "POST", "/snapshots", `{"VolumeSize": 1, "Timeout": 60}`, nil, ""},
		"a timeout too short":   {"ebs", "POST", "/snapshots", `{"VolumeSize": 1, "Timeout": 5}`, nil, "at least 10"},
		"no size":               {"ebs", "POST", "/snapshots", `{}`, nil, "StartSnapshot.VolumeSize is required"},
		"a parent and a key":    {"ebs", "POST", "/snapshots", `{"VolumeSize": 1, "Encrypted": true, "ParentSnapshotId": "snap-0123456789abcdef0"}`, nil, "exclude each other"},
		"a block of nothing":    {"ebs", "PUT", "/snapshots/snap-0123456789abcdef0/blocks/1", "x", http.Header{"X-Amz-Data-Length": {"1"}, "X-Amz-Checksum": {"aaaa"}, "X-Amz-Checksum-Algorithm": {"SHA256"}}, "was not started"},
		"a right object":        {"s3", "POST", "/bucket/a/b?uploads=", "", nil, ""},
		"an unknown checksum":   {"s3", "POST", "/bucket/a?uploads=", "", http.Header{"X-Amz-Checksum-Algorithm": {"SHA3"}}, "CreateMultipartUpload.ChecksumAlgorithm"},
		"a part of another sum": {"s3", "PUT", "/bucket/a?partNumber=1&uploadId=u", "x", http.Header{"X-Amz-Checksum-Sha256": {"aaaa"}}, "is not that of the data"},
		"parts out of order":    {"s3", "POST", "/bucket/a?uploadId=u", `<CompleteMultipartUpload><Part><PartNumber>2</PartNumber></Part></CompleteMultipartUpload>`, nil, "part 2 stands at place 1"},
		"an unknown element":    {"s3", "POST", "/bucket/a?uploadId=u", `<CompleteMultipartUpload><Colour>red</Colour></CompleteMultipartUpload>`, nil, "MultipartUpload.Colour is not in the model"},
		"a parameter's type":    {"ssm", "POST", "/", `{"Name": "/a", "Value": "b", "Type": "Number"}`, http.Header{"X-Amz-Target": {"AmazonSSM.PutParameter"}}, "PutParameter.Type"},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRecorder(models, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, answer) }))
			request := httptest.NewRequest(test.method, test.path, strings.NewReader(test.body))
			for key, values := range test.header {
				request.Header[key] = values
			}
			request.Header.Set("Content-Type", form)
			request.Header.Set("Authorization", "AWS4-HMAC-SHA256 Credential=AKID/20261126/us-east-1/"+test.service+"/aws4_request, SignedHeaders=host, Signature=00")
			r.ServeHTTP(httptest.NewRecorder(), request)
			got := r.Violations()
			if test.want == "" && len(got) == 0 || len(got) == 1 && test.want != "" && strings.Contains(got[0], test.want) {
				return
			}
			t.Errorf("violations %q, want one that says %q", got, test.want)
		})
	}
}
