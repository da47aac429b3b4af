package aws

import (
	"bytes"
	"context"
	"io"
	"math/rand/v2"
	"net/http/httptest"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/ebs"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/opencontainers/go-digest"

	"nodesmith.dev/nodesmith/api/v1alpha1"
	"nodesmith.dev/nodesmith/internal/format/formattest"
	"nodesmith.dev/nodesmith/internal/publish"
	"nodesmith.dev/nodesmith/internal/publish/aws/snapshot"
	"nodesmith.dev/nodesmith/internal/publish/publishtest"
	"nodesmith.dev/nodesmith/internal/publish/publishtest/awsmodel"
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

// target is what the suite publishes to.
func target() v1alpha1.AWSTarget {
	return v1alpha1.AWSTarget{
		Region: home, CopyTo: []string{abroad}, Name: "capa-ami-{{.OSDistro}}-{{.OSVersion}}-{{.KubernetesVersion}}",
		Share: v1alpha1.AWSShare{Accounts: []string{"444455556666"}}, Parameter: "/images/{{.OSDistro}}/{{.KubernetesVersion}}",
	}
}

// open makes the publisher of a server's Args: its URL, and a folder.
func open(ctx context.Context, args []string) (publish.Publisher, publish.Image, error) {
	p, err := newPublisher(ctx, args[0], args[1], target())
	return p, image(newDisk(1), time.Unix(1_790_000_000, 0)), err
}

func newPublisher(ctx context.Context, url, state string, target v1alpha1.AWSTarget) (*Publisher, error) {
	config := moto.Config(url, home)
	return New(ctx, target, Options{State: state, Config: &config, Poll: time.Millisecond})
}

// newDisk is one of 64 MiB of which 4 MiB hold something.
func newDisk(seed uint64) *formattest.Disk {
	disk := formattest.NewDisk(64 << 20)
	r := rand.New(rand.NewPCG(1, 1))
	for i := range int64(8) {
		disk.Random(r, i*8<<20+100, 4096)
	}
	disk.Random(rand.New(rand.NewPCG(seed, 2)), 24<<20+9000, 512)
	return disk
}

func image(disk *formattest.Disk, built time.Time) publish.Image {
	content, _ := io.ReadAll(io.NewSectionReader(disk, 0, disk.Size()))
	return publish.Image{
		Name: "node", Reference: "node:1", Infrastructure: "aws", Architecture: "amd64", Distro: "debian", DistroVersion: "12",
		Kubernetes: "v1.34.0", Firmware: []string{"bios", "uefi"}, Digest: digest.FromBytes(content), Level: publish.Boot, Built: built, Disk: disk,
	}
}

// account is moto behind the recorder and the suite's proxy.
type account struct {
	recorder *awsmodel.Recorder
	proxy    *publishtest.Proxy
	args     []string
}

func start(t testing.TB) *account {
	t.Helper()
	server.Reset(t)
	recorder := awsmodel.New(t, server.Venv, faultproxy.Forward(t, server.URL, nil))
	front := httptest.NewServer(recorder)
	t.Cleanup(front.Close)
	u, err := url.Parse(front.URL)
	if err != nil {
		t.Fatal(err)
	}
	proxy := publishtest.NewProxy(t, u)
	return &account{recorder, proxy, []string{proxy.URL.String(), t.TempDir()}}
}

func (a *account) Args() []string            { return a.args }
func (a *account) Proxy() *publishtest.Proxy { return a.proxy }

func client(name string) *ec2.Client { return ec2.NewFromConfig(moto.Config(server.URL, name)) }

// Check asks moto itself.
func (a *account) Check(t testing.TB, image publish.Image, present bool) {
	t.Helper()
	if bad := a.recorder.Violations(); len(bad) > 0 {
		t.Errorf("AWS would refuse:\n%s", strings.Join(slices.Compact(bad), "\n"))
	}
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

func TestSuite(t *testing.T) {
	publishtest.Run(t, publishtest.Suite{
		Open: open, Start: func(t testing.TB) publishtest.Server { return start(t) },
		Throttled: publishtest.Fault{Status: 503, Body: `<Response><Errors><Error><Code>RequestLimitExceeded</Code><Message>Request limit exceeded.</Message></Error></Errors></Response>`},
	})
}
