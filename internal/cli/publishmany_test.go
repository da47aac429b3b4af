package cli

import (
	"context"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/cloud"
	"github.com/aws/aws-sdk-go-v2/service/ec2"

	"nodesmith.dev/nodesmith/api/v1alpha1"
	"nodesmith.dev/nodesmith/internal/format"
	"nodesmith.dev/nodesmith/internal/format/formattest"
	"nodesmith.dev/nodesmith/internal/publish"
	"nodesmith.dev/nodesmith/internal/publish/azure"
	"nodesmith.dev/nodesmith/internal/publish/azure/azuretest"
	"nodesmith.dev/nodesmith/internal/publish/publishtest/faultproxy"
	"nodesmith.dev/nodesmith/internal/publish/publishtest/moto"
)

// counted is a disk that counts the bytes that are read of it.
type counted struct {
	format.Source
	read atomic.Int64
}

func (c *counted) ReadAt(p []byte, offset int64) (int, error) {
	n, err := c.Source.ReadAt(p, offset)
	c.read.Add(int64(n))
	return n, err
}

// dataOfMany is how much each disk of the test holds, as much as Azure gets at once;
// diskOfMany its size.
const dataOfMany, diskOfMany = 4 << 20, 24 << 20

// awsRegions are where the image is to be, the first where it is made.
var awsRegions = []string{"eu-central-1", "eu-west-1", "us-east-1", "us-west-2", "ap-south-1"}

// Eleven places are one command, and each infrastructure's disk is read once: the OVA
// that three vCenters get is made once, regions copy, and galleries replicate.
func TestOneCommandPublishesToElevenPlacesWithOneReadOfEachDisk(t *testing.T) {
	for name, value := range map[string]string{
		"XDG_STATE_HOME": t.TempDir(), "GOVC_URL": "", "GOVC_USERNAME": "user", "GOVC_PASSWORD": "pass", "GOVC_PERSIST_SESSION": "false",
		"AWS_ACCESS_KEY_ID": "AKIDEXAMPLE", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_CONFIG_FILE": os.DevNull, "AWS_SHARED_CREDENTIALS_FILE": os.DevNull,
	} {
		t.Setenv(name, value)
	}
	server := moto.Start(t)
	t.Setenv("AWS_ENDPOINT_URL", server.URL)
	resources := startAzure(t)
	disks := map[string]*formattest.Disk{}
	for i, name := range []string{"vsphere", "aws", "azure"} {
		disks[name] = formattest.NewDisk(diskOfMany)
		disks[name].Random(rand.New(rand.NewPCG(uint64(i), 3)), 0, dataOfMany)
	}
	storeDisks(t, disks)
	target := filepath.Join(t.TempDir(), "publish.yaml")
	text := "apiVersion: nodesmith.dev/v1alpha1\nkind: PublishTarget\nmetadata: {name: lab}\nspec:\n" + vCenters(t, 3) +
		"  aws:\n  - {region: " + awsRegions[0] + ", copyTo: [" + strings.Join(awsRegions[1:], ", ") + "]}\n" +
		"  azure:\n  - subscription: " + azuretest.Subscription + "\n    resourceGroup: images\n    location: westeurope\n" +
		"    gallery: {name: nodes, regions: [{name: westeurope}, {name: northeurope}, {name: eastus}]}\n"
	if err := os.WriteFile(target, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	read, files := publishCounting(t, "web:v1", target)
	for _, name := range []string{"aws", "azure"} {
		if read[name] < dataOfMany || read[name] >= 2*dataOfMany {
			t.Errorf("%d bytes were read of the disk for %s, which has %d", read[name], name, dataOfMany)
		}
	}
	if len(files) < 3 || slices.ContainsFunc(files, func(f fs.FileInfo) bool { return !os.SameFile(f, files[0]) }) {
		t.Errorf("%d OVAs were sent, and not all are one file", len(files))
	}
	for _, region := range awsRegions {
		images, err := ec2.NewFromConfig(moto.Config(server.URL, region)).DescribeImages(t.Context(), &ec2.DescribeImagesInput{Owners: []string{"self"}})
		if err != nil || len(images.Images) != 1 {
			t.Errorf("%s has %+v, %v", region, images, err)
		}
	}
	if v := resources.Version("web/1.34.1"); v == nil {
		t.Errorf("Azure has %q", resources.Left())
	} else if n := len(v.Properties.PublishingProfile.TargetRegions); n != 3 {
		t.Errorf("the version is in %d regions", n)
	}
	if list := output(t, "publish", "list", "-f", target, "--to", "vsphere"); strings.Count(list, "debian-12-kube-v1.34.0") != 3 {
		t.Errorf("list\n%s", list)
	}
}

// publishCounting publishes as the command does, and returns how many bytes were
// read of the disks that are sent as they are, by infrastructure, and the files that
// were sent.
func publishCounting(t *testing.T, image, target string) (read map[string]int64, files []fs.FileInfo) {
	t.Helper()
	o := publishing{specFlags: specFlags{file: target}, unverified: true, progress: progressFlag{mode: "quiet"}}
	spec, buildContext, closer, err := o.targets(strings.NewReader(""))
	if err != nil {
		t.Fatal(err)
	}
	defer closer.Close()
	errands, closeAll, err := o.errands(t.Context(), streams{io.Discard, io.Discard}, image, spec, buildContext)
	if err != nil {
		t.Fatal(err)
	}
	if len(errands) != 5 {
		t.Errorf("%d errands, want 3 vCenters, an account and a subscription", len(errands))
	}
	var mu sync.Mutex
	disks := map[string]*counted{}
	for _, e := range errands {
		disk, open := &counted{Source: e.image.Disk}, e.image.Open
		disks[e.image.Infrastructure], e.image.Disk = disk, disk
		e.image.Open = func(ctx context.Context, format string) (publish.Content, error) {
			content, err := open(ctx, format)
			if err != nil {
				return nil, err
			}
			info, err := content.(*fileContent).Stat()
			mu.Lock()
			defer mu.Unlock()
			files = append(files, info)
			return content, err
		}
	}
	if err := o.run(t.Context(), streams{io.Discard, io.Discard}, errands); err != nil {
		t.Fatal(err)
	}
	if err := closeAll(); err != nil {
		t.Fatal(err)
	}
	read = map[string]int64{}
	for name, disk := range disks {
		read[name] = disk.read.Load()
	}
	return read, files
}

// startAzure starts a subscription, to which the command's Azure targets go.
func startAzure(t *testing.T) *azuretest.Resources {
	t.Helper()
	azurite := azuretest.StartAzurite(t)
	resources := azuretest.NewResources(t, azurite)
	front := faultproxy.Start(t, azuretest.Handler(t, resources, azurite), faultproxy.Options{TLS: true})
	resources.SignedBase = front.URL
	own := publishers["azure"]
	t.Cleanup(func() { publishers["azure"] = own })
	publishers["azure"] = func(_ context.Context, spec v1alpha1.PublishSpec, _ fs.FS) ([]publish.Publisher, error) {
		p, err := azure.New(spec.Azure[0], azure.Endpoint{
			Credential: &azuretest.Login{}, Blobs: front.URL + "/%s", Poll: time.Millisecond,
			Cloud: cloud.Configuration{
				ActiveDirectoryAuthorityHost: "https://login.microsoftonline.com/",
				Services:                     map[cloud.ServiceName]cloud.ServiceConfiguration{cloud.ResourceManager: {Endpoint: front.URL, Audience: "https://management.core.windows.net/"}},
			},
			Transport: front.Server.Client(),
		})
		return []publish.Publisher{p}, err
	}
	return resources
}
