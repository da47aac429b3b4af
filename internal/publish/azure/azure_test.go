package azure

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"io"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/cloud"
	"github.com/opencontainers/go-digest"

	"nodesmith.dev/nodesmith/api/v1alpha1"
	"nodesmith.dev/nodesmith/internal/publish"
	"nodesmith.dev/nodesmith/internal/publish/azure/azuretest"
	"nodesmith.dev/nodesmith/internal/publish/publishtest"
	"nodesmith.dev/nodesmith/internal/publish/publishtest/faultproxy"
)

func TestMain(m *testing.M) { os.Exit(publishtest.Main(m, open)) }

// diskMiB is the size of most tests' disk; Azure takes none below 20 MiB.
const diskMiB = 24

func testImage() publish.Image { return imageOf(diskMiB) }

// imageOf is an image whose disk of so many MiB is the same in every process.
func imageOf(size int64) publish.Image {
	disk := sparseDisk(size * mib)
	sum := sha256.New()
	_, _ = io.Copy(sum, io.NewSectionReader(disk, 0, disk.Size()))
	return publish.Image{
		Name: "debian-12", Reference: "debian-12:v1", Infrastructure: "azure", Architecture: "amd64", Distro: "debian", DistroVersion: "12",
		Kubernetes: "v1.34.2", Firmware: []string{"bios", "uefi"}, Digest: digest.NewDigest(digest.SHA256, sum),
		Level: publish.Boot, SecureBoot: true, Built: time.Unix(1790000000, 0), Disk: disk,
	}
}

// testTarget is a gallery in the subscription of the fakes.
func testTarget(change func(*v1alpha1.AzureTarget)) v1alpha1.AzureTarget {
	target := &v1alpha1.PublishTarget{Spec: v1alpha1.PublishSpec{Azure: []v1alpha1.AzureTarget{{
		Subscription: azuretest.Subscription, ResourceGroup: "images", Location: "westeurope",
		Upload:  v1alpha1.AzureUpload{Parallel: 2},
		Gallery: &v1alpha1.AzureGallery{Name: "nodes", Regions: []v1alpha1.AzureRegion{{Name: "northeurope", Replicas: 2}}},
	}}}}
	if change != nil {
		change(&target.Spec.Azure[0])
	}
	target.Default()
	return target.Spec.Azure[0]
}

func viaBlob(t *v1alpha1.AzureTarget) { t.Upload.StorageAccount = azuretest.Account }

func asManagedImage(t *v1alpha1.AzureTarget) {
	t.Gallery, t.ManagedImage = nil, &v1alpha1.AzureManagedImage{}
}

// open makes the publisher for a server's address, a login and a target, in
// whatever process.
func open(_ context.Context, args []string) (publish.Publisher, publish.Image, error) {
	size, err := strconv.ParseInt(args[2], 10, 64)
	if err != nil {
		return nil, publish.Image{}, err
	}
	publisher, err := New(testTarget(ways[args[1]]), testEndpoint(args[0], &azuretest.Login{}))
	return publisher, imageOf(size), err
}

func testEndpoint(address string, login *azuretest.Login) Endpoint {
	return Endpoint{
		Credential: login, Blobs: address + "/%s", Poll: time.Millisecond,
		Cloud: cloud.Configuration{
			ActiveDirectoryAuthorityHost: "https://login.microsoftonline.com/",
			Services: map[cloud.ServiceName]cloud.ServiceConfiguration{
				cloud.ResourceManager: {Endpoint: address, Audience: "https://management.core.windows.net/"},
			},
		},
		Transport: &http.Client{Transport: &http.Transport{
			TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, MaxIdleConnsPerHost: 8, //nolint:gosec // of the tests' own server
		}},
	}
}

// server is a subscription that the suite publishes to.
type server struct {
	azurite   *azuretest.Azurite
	resources *azuretest.Resources
	proxy     *faultproxy.Proxy
	way       string
	size      int64 // of the disk, in MiB
}

func startServer(t testing.TB, way string) *server { return startSized(t, way, diskMiB) }

func startSized(t testing.TB, way string, size int64) *server {
	t.Helper()
	azurite := azuretest.StartAzurite(t)
	resources := azuretest.NewResources(t, azurite)
	resources.Allowed = beyondExamples
	proxy := faultproxy.Start(t, azuretest.Handler(t, resources, azurite), faultproxy.Options{TLS: true})
	resources.SignedBase = proxy.URL
	s := &server{azurite, resources, proxy, way, size}
	t.Cleanup(func() {
		for _, wrong := range resources.Wrong() {
			t.Errorf("a request that Azure would not take: %s", wrong)
		}
	})
	return s
}

// beyondExamples are fields that no example of Microsoft's sets in that request,
// and why they are set: the model has them, and answers in the examples do.
var beyondExamples = map[string]map[string]string{
	"DisksClient.BeginCreateOrUpdate": {
		"Tags": anyResource,
		// What the Azure CLI sends with --hyper-v-generation and --architecture.
		"Properties.HyperVGeneration": "generation 2", "Properties.SupportedCapabilities": "architecture",
		"Properties.SupportedCapabilities.Architecture": "architecture",
	},
	"ImagesClient.BeginCreateOrUpdate": {
		"Tags": anyResource, "Properties.HyperVGeneration": "the model says that an image of a blob needs it",
		"Properties.StorageProfile.OSDisk.Caching": "hosts read images often",
	},
	"GalleriesClient.BeginCreateOrUpdate": {"Tags": anyResource},
	"GalleriesClient.BeginUpdate": {
		"Properties.SharingProfile": "shares a gallery that is there", "Properties.SharingProfile.Permissions": "shares a gallery that is there",
		"Properties.SharingProfile.CommunityGalleryInfo": "makes a gallery public that is there",
	},
	"GalleryImagesClient.BeginCreateOrUpdate": {
		"Tags": anyResource, "Properties.Architecture": "machines of other architectures don't take it",
		"Properties.Features": features, "Properties.Features.Name": features, "Properties.Features.Value": features,
	},
	"GalleryImageVersionsClient.BeginCreateOrUpdate": {
		"Tags": anyResource, "Properties.PublishingProfile.ExcludeFromLatest": latest,
	},
	"GalleryImageVersionsClient.BeginUpdate": {
		"Tags": anyResource, "Properties.PublishingProfile.ExcludeFromLatest": latest,
		"Properties.PublishingProfile.TargetRegions.ExcludeFromLatest": latest,
		"Properties.PublishingProfile.EndOfLifeDate":                   "the model says that it can be updated",
	},
}

const (
	anyResource = "any resource has them"
	features    = "TrustedLaunch and accelerated networking"
	latest      = "what was not booted is not the latest"
)

func (s *server) Args() []string {
	return []string{s.proxy.URL, s.way, strconv.FormatInt(s.size, 10)}
}

func (s *server) Proxy() *faultproxy.Proxy { return s.proxy }

// Check looks at the memory of the fakes and into Azurite.
func (s *server) Check(t testing.TB, image publish.Image, present bool) {
	t.Helper()
	var left []string
	for _, thing := range s.resources.Left() {
		if thing != "gallery nodes" { // stays for the next image
			left = append(left, thing)
		}
	}
	slices.Sort(left)
	var want []string
	switch {
	case present && s.way == "as a managed image":
		want = []string{"image debian-12-v1.34.2-" + short(image.Digest, 8)}
	case present:
		want = []string{"definition debian-12", "version debian-12/1.34.2000001"}
	}
	if len(left) == 2 && strings.HasPrefix(left[1], "version debian-12/1.34.2") { // numbers go up
		want[1] = left[1]
	}
	if !slices.Equal(left, want) {
		t.Errorf("left is %q, want %q", left, want)
	}
	if blobs := s.blobs(t); len(blobs) > 0 {
		t.Errorf("blobs are left: %q", blobs)
	}
	file := vhdOfImage(t, image)
	for name, content := range s.resources.Contents() {
		if present && content != file {
			t.Errorf("%s was made of other bytes than the VHD", name)
		}
	}
}

// vhdOfImage is the SHA-256 of the VHD that nodesmith's writer makes.
func vhdOfImage(t testing.TB, image publish.Image) string {
	t.Helper()
	view, err := viewOf(&image)
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.New()
	if _, err := io.Copy(sum, io.NewSectionReader(view, 0, view.Size())); err != nil {
		t.Fatal(err)
	}
	return hex.EncodeToString(sum.Sum(nil))
}

// blobs are all that Azurite holds.
func (s *server) blobs(t testing.TB) (names []string) {
	t.Helper()
	for _, name := range []string{"nodesmith", "managed-disks"} {
		client, err := s.azurite.Container(name)
		if err != nil {
			t.Fatal(err)
		}
		pager := client.NewListBlobsFlatPager(nil)
		for pager.More() {
			page, err := pager.NextPage(t.Context())
			if isNotFound(err) {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			for _, blob := range page.Segment.BlobItems {
				names = append(names, name+"/"+*blob.Name)
			}
		}
	}
	return names
}

// Use makes a machine of the image that is there.
func (s *server) Use(t testing.TB, _ publish.Image) (undo func()) {
	t.Helper()
	publisher, _, err := open(t.Context(), s.Args())
	if err != nil {
		t.Fatal(err)
	}
	all, err := publisher.List(t.Context())
	if err != nil || len(all) != 1 {
		t.Fatalf("the list has %+v: %v", all, err)
	}
	s.resources.Use(strings.ToUpper(all[0].ID), s.way == "as a managed image")
	return s.resources.Unuse
}

// ways are the targets of the tests, which a child process knows by name.
var ways = map[string]func(*v1alpha1.AzureTarget){
	"straight into a disk": nil, "by way of a blob": viaBlob, "as a managed image": asManagedImage,
}

func TestConformance(t *testing.T) {
	for way := range ways {
		t.Run(way, func(t *testing.T) {
			publishtest.Run(t, publishtest.Suite{
				Open:  open,
				Start: func(t testing.TB) publishtest.Server { return startServer(t, way) },
				Kills: 2, Faults: 3,
			})
		})
	}
}
