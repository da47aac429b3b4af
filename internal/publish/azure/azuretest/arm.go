package azuretest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"
	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/compute/armcompute/v7"
	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/compute/armcompute/v7/fake"
)

// Resources is a server of Azure Resource Manager: the SDK's fakes before a
// memory. It is an http.Handler, so that a proxy can stand before it.
type Resources struct {
	// Allowed are fields of bodies, by operation, that no example of Microsoft's
	// sets, and why they are set all the same.
	Allowed map[string]map[string]string
	// Polls is how often a version has to be asked for before it is there.
	Polls int
	// SignedBase takes the place of Azurite's endpoint in signed addresses, for a
	// proxy before it; "" for none.
	SignedBase string

	t       testing.TB
	azurite *Azurite
	model   *Model

	mu          sync.Mutex
	wrong       []string
	begun       map[string]operation // what is under way at a path
	made        int
	galleries   map[string]*armcompute.Gallery
	definitions map[string]*armcompute.GalleryImage
	versions    map[string]*version
	images      map[string]*armcompute.Image
	disks       map[string]*armcompute.Disk
	machines    []*armcompute.VirtualMachine
	scaleSets   []*armcompute.VirtualMachineScaleSet

	transport *fake.ServerFactoryTransport
}

// version is one of an image, with what was in its source when it was made.
type version struct {
	armcompute.GalleryImageVersion
	polls   int
	Content string // SHA-256, hexadecimal
}

// NewResources makes an empty subscription whose disks are page blobs in Azurite.
func NewResources(t testing.TB, azurite *Azurite) *Resources {
	r := &Resources{
		t: t, azurite: azurite, model: LoadModel(t), begun: map[string]operation{}, Polls: 2,
		galleries: map[string]*armcompute.Gallery{}, definitions: map[string]*armcompute.GalleryImage{},
		versions: map[string]*version{}, images: map[string]*armcompute.Image{}, disks: map[string]*armcompute.Disk{},
	}
	r.transport = r.newTransport()
	return r
}

// operation is one of the API's, and the fakes that carry it out.
type operation struct {
	name      string
	transport *fake.ServerFactoryTransport
}

// newTransport makes fakes that have nothing under way.
func (r *Resources) newTransport() *fake.ServerFactoryTransport {
	return fake.NewServerFactoryTransport(&fake.ServerFactory{
		GalleriesServer: r.galleriesServer(), GallerySharingProfileServer: r.sharingServer(), GalleryImagesServer: r.definitionsServer(),
		GalleryImageVersionsServer: r.versionsServer(), ImagesServer: r.imagesServer(), DisksServer: r.disksServer(),
		VirtualMachinesServer: r.machinesServer(), VirtualMachineScaleSetsServer: r.scaleSetsServer(),
	})
}

// operations are the paths of the API below a provider, and the client's methods
// by HTTP method: the SDK's fakes want to know which one is called, and only the
// client's context says it.
var operations = []struct {
	path   *regexp.Regexp
	client string
	method map[string]string
}{
	{regexp.MustCompile(`/galleries/[^/]+/images/[^/]+/versions/[^/]+$`), "GalleryImageVersionsClient", change},
	{regexp.MustCompile(`/galleries/[^/]+/images/[^/]+/versions$`), "GalleryImageVersionsClient", map[string]string{"GET": "NewListByGalleryImagePager"}},
	{regexp.MustCompile(`/galleries/[^/]+/images/[^/]+$`), "GalleryImagesClient", change},
	{regexp.MustCompile(`/galleries/[^/]+/images$`), "GalleryImagesClient", map[string]string{"GET": "NewListByGalleryPager"}},
	{regexp.MustCompile(`/galleries/[^/]+/share$`), "GallerySharingProfileClient", map[string]string{"POST": "BeginUpdate"}},
	{regexp.MustCompile(`/galleries/[^/]+$`), "GalleriesClient", change},
	{regexp.MustCompile(`/disks/[^/]+/beginGetAccess$`), "DisksClient", map[string]string{"POST": "BeginGrantAccess"}},
	{regexp.MustCompile(`/disks/[^/]+/endGetAccess$`), "DisksClient", map[string]string{"POST": "BeginRevokeAccess"}},
	{regexp.MustCompile(`/disks/[^/]+$`), "DisksClient", change},
	{regexp.MustCompile(`/disks$`), "DisksClient", map[string]string{"GET": "NewListByResourceGroupPager"}},
	{regexp.MustCompile(`/Microsoft.Compute/images/[^/]+$`), "ImagesClient", change},
	{regexp.MustCompile(`/Microsoft.Compute/images$`), "ImagesClient", map[string]string{"GET": "NewListByResourceGroupPager"}},
	{regexp.MustCompile(`/virtualMachines$`), "VirtualMachinesClient", map[string]string{"GET": "NewListAllPager"}},
	{regexp.MustCompile(`/virtualMachineScaleSets$`), "VirtualMachineScaleSetsClient", map[string]string{"GET": "NewListAllPager"}},
}

var change = map[string]string{"GET": "Get", "PUT": "BeginCreateOrUpdate", "PATCH": "BeginUpdate", "DELETE": "BeginDelete"}

// pollSuffix ends the address at which the fakes are asked how far they are.
const pollSuffix = "/get/fake/status"

// operation returns what a request asks for. What is begun gets fakes of its own: they
// hold on to an operation until somebody has asked for its end, which a client that
// was killed does not.
func (r *Resources) operation(request *http.Request) operation {
	r.mu.Lock()
	defer r.mu.Unlock()
	if path, polled := strings.CutSuffix(request.URL.Path, pollSuffix); polled {
		return r.begun[path]
	}
	for _, o := range operations {
		method := o.method[request.Method]
		if method == "" || !o.path.MatchString(request.URL.Path) {
			continue
		}
		asked := operation{o.client + "." + method, r.transport}
		if strings.HasPrefix(method, "Begin") {
			asked.transport = r.newTransport()
			r.begun[request.URL.Path] = asked
		}
		return asked
	}
	return operation{}
}

// ServeHTTP answers as Resource Manager would.
func (r *Resources) ServeHTTP(w http.ResponseWriter, request *http.Request) {
	if !strings.HasPrefix(request.Header.Get("Authorization"), "Bearer ") {
		http.Error(w, `{"error":{"code":"AuthenticationFailed","message":"no token"}}`, http.StatusUnauthorized)
		return
	}
	body, err := io.ReadAll(request.Body)
	if err != nil {
		panic(http.ErrAbortHandler) // cut off: Azure does not get it either
	}
	asked := r.operation(request)
	if asked.name == "" {
		r.note(fmt.Sprintf("%s %s is no operation of the fakes", request.Method, request.URL.Path))
		http.Error(w, `{"error":{"code":"NotImplemented"}}`, http.StatusNotImplemented)
		return
	}
	// A client that goes away does not stop what it asked for; the fakes panic if it does.
	ctx := context.WithValue(context.WithoutCancel(request.Context()), runtime.CtxAPINameKey{}, asked.name)
	out := request.Clone(ctx)
	out.URL.Scheme, out.URL.Host = "https", request.Host
	out.Body = io.NopCloser(bytes.NewReader(body))
	response, err := asked.transport.Do(out)
	if refused, ok := errors.AsType[*azcore.ResponseError](err); ok {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(refused.StatusCode)
		_, _ = fmt.Fprintf(w, `{"error":{"code":%q,"message":"the fake refuses"}}`, refused.ErrorCode)
		return
	}
	if err != nil {
		r.note(fmt.Sprintf("%s: %v", asked.name, err))
		http.Error(w, `{"error":{"code":"InternalServerError"}}`, http.StatusInternalServerError)
		return
	}
	defer func() { _ = response.Body.Close() }()
	for key, values := range response.Header {
		w.Header()[key] = values
	}
	w.WriteHeader(response.StatusCode)
	if body, err := runtime.Payload(response); err == nil {
		_, _ = w.Write(body)
	}
}

var _ policy.Transporter = (*fake.ServerFactoryTransport)(nil)

// note writes down something that must not happen.
func (r *Resources) note(wrong ...string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, w := range wrong {
		if !slices.Contains(r.wrong, w) {
			r.wrong = append(r.wrong, w)
		}
	}
}

// check holds a body against the model.
func (r *Resources) check(operation string, body any) {
	r.note(r.model.Check(operation, body, r.Allowed[operation])...)
}

// Wrong is what was asked that the model does not know.
func (r *Resources) Wrong() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.wrong
}

// Left is what is in the subscription, in words: "disk nodesmith-1", "version
// debian-12/1.34.1".
func (r *Resources) Left() (all []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for name := range r.galleries {
		all = append(all, "gallery "+name)
	}
	for name := range r.definitions {
		all = append(all, "definition "+name)
	}
	for name := range r.versions {
		all = append(all, "version "+name)
	}
	for name := range r.images {
		all = append(all, "image "+name)
	}
	for name := range r.disks {
		all = append(all, "disk "+name)
	}
	return all
}

// Contents are the SHA-256 of what versions were made of, by name.
func (r *Resources) Contents() map[string]string {
	r.mu.Lock()
	defer r.mu.Unlock()
	contents := map[string]string{}
	for name, v := range r.versions {
		contents[name] = v.Content
	}
	return contents
}

// Version returns a version as it is; nil for none.
func (r *Resources) Version(name string) *armcompute.GalleryImageVersion {
	r.mu.Lock()
	defer r.mu.Unlock()
	if v := r.versions[name]; v != nil {
		copied := v.GalleryImageVersion
		return &copied
	}
	return nil
}

// Use makes a machine, or a scale set, of an image.
func (r *Resources) Use(id string, scaleSet bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	reference := &armcompute.ImageReference{ID: &id}
	name := fmt.Sprintf("node-%d", len(r.machines)+len(r.scaleSets))
	vmID := "/subscriptions/s/resourceGroups/clusters/providers/Microsoft.Compute/virtualMachines/" + name
	if scaleSet {
		r.scaleSets = append(r.scaleSets, &armcompute.VirtualMachineScaleSet{ID: &vmID, Name: &name, Properties: &armcompute.VirtualMachineScaleSetProperties{
			VirtualMachineProfile: &armcompute.VirtualMachineScaleSetVMProfile{StorageProfile: &armcompute.VirtualMachineScaleSetStorageProfile{ImageReference: reference}},
		}})
		return
	}
	r.machines = append(r.machines, &armcompute.VirtualMachine{ID: &vmID, Name: &name, Properties: &armcompute.VirtualMachineProperties{
		StorageProfile: &armcompute.StorageProfile{ImageReference: reference},
	}})
}

// Unuse takes all machines and scale sets away.
func (r *Resources) Unuse() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.machines, r.scaleSets = nil, nil
}

// Clear takes everything away that is in the subscription and in Azurite's
// containers of it.
func (r *Resources) Clear() {
	r.mu.Lock()
	defer r.mu.Unlock()
	clear(r.galleries)
	clear(r.definitions)
	clear(r.versions)
	clear(r.images)
	clear(r.disks)
	for _, name := range []string{diskContainer, "nodesmith"} {
		if all, err := r.azurite.Container(name); err == nil {
			_, _ = all.Delete(context.Background(), nil) // it may not be there
		}
	}
}
