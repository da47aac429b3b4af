package aws

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ebs"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	s3types "github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/opencontainers/go-digest"

	"nodesmith.dev/nodesmith/api/v1alpha1"
	"nodesmith.dev/nodesmith/internal/format"
	"nodesmith.dev/nodesmith/internal/format/formattest"
	"nodesmith.dev/nodesmith/internal/format/known"
	"nodesmith.dev/nodesmith/internal/publish"
	"nodesmith.dev/nodesmith/internal/publish/aws/snapshot"
	"nodesmith.dev/nodesmith/internal/publish/publishtest"
	"nodesmith.dev/nodesmith/internal/publish/publishtest/awsmodel"
	"nodesmith.dev/nodesmith/internal/publish/publishtest/ec2import"
	"nodesmith.dev/nodesmith/internal/publish/publishtest/faultproxy"
	"nodesmith.dev/nodesmith/internal/publish/publishtest/moto"
)

const home, abroad = "eu-central-1", "us-east-1"

var server *moto.Server

// A child of the suite is this program too, and needs no server of its own.
func TestMain(m *testing.M) {
	if os.Getenv("NODESMITH_PUBLISHTEST_CHILD") != "" {
		os.Exit(publishtest.Main(m, open))
	}
	os.Exit(moto.Main(m, func(s *moto.Server) { server = s }))
}

// The ways by which the disk comes to EC2, which a child process knows by name.
const (
	direct    = "EBS direct"
	throughS3 = "through S3"
	bucket    = "nodesmith-imports"
)

// target is what the suite publishes to.
func target(way string) v1alpha1.AWSTarget {
	t := v1alpha1.AWSTarget{
		Region: home, CopyTo: []string{abroad}, Name: "capa-ami-{{.OSDistro}}-{{.OSVersion}}-{{.KubernetesVersion}}",
		Share: v1alpha1.AWSShare{Accounts: []string{"444455556666"}}, Parameter: "/images/{{.OSDistro}}/{{.KubernetesVersion}}",
	}
	if way == throughS3 {
		t.Import = v1alpha1.AWSImport{Bucket: bucket, Role: "vmimport"}
	}
	return t
}

// open makes the publisher of a server's Args: its URL, a folder, a way, and how
// many of the disk's 128 blocks hold something.
func open(ctx context.Context, args []string) (publish.Publisher, publish.Image, error) {
	blocks, err := strconv.Atoi(args[3])
	if err != nil {
		return nil, publish.Image{}, err
	}
	p, err := newPublisher(ctx, args[0], args[1], target(args[2]))
	return p, image(diskOf(blocks, 1), time.Unix(1_790_000_000, 0)), err
}

func newPublisher(ctx context.Context, url, state string, target v1alpha1.AWSTarget) (*Publisher, error) {
	config := moto.Config(url, home)
	return New(ctx, target, Options{State: state, Config: &config, Poll: time.Millisecond})
}

// newDisk is a disk of which 8 blocks hold something.
func newDisk(seed uint64) *formattest.Disk { return diskOf(8, seed) }

// diskOf is a disk of 64 MiB with so many blocks that hold something.
func diskOf(blocks int, seed uint64) *formattest.Disk {
	disk := formattest.NewDisk(64 << 20)
	r := rand.New(rand.NewPCG(1, 1))
	for i := range int64(blocks) {
		disk.Random(r, i*64<<20/int64(blocks)+100, 4096)
	}
	disk.Random(rand.New(rand.NewPCG(seed, 2)), 24<<20+9000, 512)
	return disk
}

func image(disk *formattest.Disk, built time.Time) publish.Image {
	content, _ := io.ReadAll(io.NewSectionReader(disk, 0, disk.Size()))
	return publish.Image{
		Open: func(ctx context.Context, name string) (publish.Content, error) { return fileOf(ctx, disk, name) },
		Name: "node", Reference: "node:1", Infrastructure: "aws", Architecture: "amd64", Distro: "debian", DistroVersion: "12",
		Kubernetes: "v1.34.0", Firmware: []string{"bios", "uefi"}, Digest: digest.FromBytes(content), Level: publish.Boot, Built: built, Disk: disk,
	}
}

// file is a publish.Content that goes when it is closed.
type file struct {
	*os.File
	size int64
}

func (f file) Size() int64 { return f.size }

func (f file) Close() error { return errors.Join(f.File.Close(), os.RemoveAll(filepath.Dir(f.Name()))) }

// fileOf packs the disk.
func fileOf(ctx context.Context, disk format.Source, name string) (publish.Content, error) {
	f, err := known.Named(name)
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "nodesmith-test-")
	if err != nil {
		return nil, err
	}
	path := filepath.Join(dir, "disk"+f.Suffix)
	if _, err := (format.Converter{}).Convert(ctx, disk, []format.Target{{Path: path, New: f.New}}); err != nil {
		return nil, err
	}
	opened, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	info, err := opened.Stat()
	return file{opened, info.Size()}, err
}

// account is moto behind the recorder and the suite's proxy.
type account struct {
	imports  *ec2import.Handler
	recorder *awsmodel.Recorder
	proxy    *faultproxy.Proxy
	args     []string
}

func start(t testing.TB) *account { return startWay(t, direct, 8) }

func startWay(t testing.TB, way string, blocks int) *account {
	t.Helper()
	server.Reset(t)
	if _, err := objects().CreateBucket(t.Context(), &s3.CreateBucketInput{
		Bucket: aws.String(bucket), CreateBucketConfiguration: &s3types.CreateBucketConfiguration{LocationConstraint: home},
	}); err != nil {
		t.Fatal(err)
	}
	imports := ec2import.New(t, server.URL, faultproxy.Forward(t, server.URL, nil))
	recorder := awsmodel.New(t, server.Venv, imports)
	proxy := faultproxy.Start(t, recorder, faultproxy.Options{})
	return &account{imports, recorder, proxy, []string{proxy.URL, t.TempDir(), way, strconv.Itoa(blocks)}}
}

func objects() *s3.Client {
	return s3.NewFromConfig(moto.Config(server.URL, home), func(o *s3.Options) { o.UsePathStyle = true })
}

func (a *account) Args() []string           { return a.args }
func (a *account) Proxy() *faultproxy.Proxy { return a.proxy }

func client(name string) *ec2.Client { return ec2.NewFromConfig(moto.Config(server.URL, name)) }

// Check asks moto itself.
func (a *account) Check(t testing.TB, image publish.Image, present bool) {
	t.Helper()
	if bad := a.recorder.Violations(); len(bad) > 0 {
		t.Errorf("AWS would refuse:\n%s", strings.Join(slices.Compact(bad), "\n"))
	}
	a.checkNothingUnderWay(t)
	want := 0
	if present {
		want = 1
	}
	for _, name := range []string{home, abroad} {
		r := &region{name: name, look: client(name)}
		images, err := r.images(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if len(images) != want {
			t.Errorf("%s has %d AMIs, want %d", name, len(images), want)
		}
		all, err := r.snapshots(t.Context(), filter("owner-id", moto.Account))
		if err != nil {
			t.Fatal(err)
		}
		// Besides ours moto makes one for each AMI.
		expected := want
		if name == home {
			expected = 2 * want
		}
		if len(all) != expected {
			t.Errorf("%s has %d snapshots, want %d", name, len(all), expected)
		}
		for _, s := range all {
			if tag(s.Tags, publish.TagDigest) != "" && name == home {
				holds(t, *s.SnapshotId, image)
			}
		}
		if !present || len(images) != 1 {
			continue
		}
		if got := tag(images[0].Tags, publish.TagDigest); got != image.Digest.String() {
			t.Errorf("%s: the AMI's digest is %q", name, got)
		}
		shared, err := r.sharedWith(t.Context(), *images[0].ImageId)
		if err != nil || !slices.Equal(names(shared), []string{"account 444455556666"}) {
			t.Errorf("%s: shared with %v, %v", name, names(shared), err)
		}
		checkDisksShared(t, r, images[0])
	}
}

// checkDisksShared holds that whom the AMI is shared with may read its snapshots.
func checkDisksShared(t testing.TB, r *region, image types.Image) {
	t.Helper()
	for _, disk := range disksOf(image) {
		out, err := r.look.DescribeSnapshotAttribute(t.Context(), &ec2.DescribeSnapshotAttributeInput{
			SnapshotId: &disk, Attribute: types.SnapshotAttributeNameCreateVolumePermission,
		})
		if err != nil || len(out.CreateVolumePermissions) != 1 || aws.ToString(out.CreateVolumePermissions[0].UserId) != "444455556666" {
			t.Errorf("%s: snapshot %s is shared with %+v, %v", r.name, disk, out, err)
		}
	}
}

// checkNothingUnderWay holds that nothing is in the bucket, or on its way.
func (a *account) checkNothingUnderWay(t testing.TB) {
	t.Helper()
	if active := a.imports.Active(); len(active) > 0 {
		t.Errorf("imports %v go on", active)
	}
	left, err := objects().ListObjectsV2(t.Context(), &s3.ListObjectsV2Input{Bucket: aws.String(bucket)})
	if err != nil || len(left.Contents) > 0 {
		t.Errorf("the bucket has %+v, %v", left, err)
	}
	begun, err := objects().ListMultipartUploads(t.Context(), &s3.ListMultipartUploadsInput{Bucket: aws.String(bucket)})
	if err != nil || len(begun.Uploads) > 0 {
		t.Errorf("uploads to the bucket were left: %+v, %v", begun, err)
	}
}

func once(ctx context.Context, request func(context.Context) error) error { return request(ctx) }

// holds compares a snapshot with the disk, byte for byte.
func holds(t testing.TB, id string, image publish.Image) {
	t.Helper()
	var mu sync.Mutex
	got := make([]byte, image.Disk.Size())
	err := snapshot.Read(t.Context(), ebs.NewFromConfig(moto.Config(server.URL, home)), id, once, func(index int32, data []byte) error {
		mu.Lock()
		defer mu.Unlock()
		copy(got[int64(index)*snapshot.BlockSize:], data)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	want, _ := io.ReadAll(io.NewSectionReader(image.Disk, 0, image.Disk.Size()))
	if !bytes.Equal(got, want) {
		t.Errorf("snapshot %s does not hold the disk", id)
	}
}

// Use starts an instance.
func (a *account) Use(t testing.TB, image publish.Image) (undo func()) {
	t.Helper()
	r := &region{name: home, look: client(home), ec2: client(home)}
	images, err := r.imagesOf(t.Context(), image.Digest)
	if err != nil || len(images) != 1 {
		t.Fatalf("%d AMIs, %v", len(images), err)
	}
	one := int32(1)
	out, err := r.ec2.RunInstances(t.Context(), &ec2.RunInstancesInput{ImageId: images[0].ImageId, MinCount: &one, MaxCount: &one, InstanceType: types.InstanceTypeM5Large})
	if err != nil {
		t.Fatal(err)
	}
	return func() {
		if _, err := r.ec2.TerminateInstances(t.Context(), &ec2.TerminateInstancesInput{InstanceIds: []string{*out.Instances[0].InstanceId}}); err != nil {
			t.Fatal(err)
		}
	}
}

// throttled is how EC2 throttles.
var throttled = faultproxy.Answer(http.StatusServiceUnavailable, nil,
	`<Response><Errors><Error><Code>RequestLimitExceeded</Code><Message>Request limit exceeded.</Message></Error></Errors></Response>`)

func TestSuite(t *testing.T) {
	publishtest.Run(t, publishtest.Suite{Open: open, Start: func(t testing.TB) publishtest.Server { return start(t) }, Throttled: throttled})
}

func TestSuiteThroughS3(t *testing.T) {
	publishtest.Run(t, publishtest.Suite{
		Open: open, Start: func(t testing.TB) publishtest.Server { return startWay(t, throughS3, 8) }, Throttled: throttled, Kills: 2, Faults: 3,
	})
}
