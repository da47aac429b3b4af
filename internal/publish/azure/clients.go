package azure

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/arm"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/compute/armcompute/v7"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/container"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/pageblob"

	"nodesmith.dev/nodesmith/api/v1alpha1"
)

// Transport sends HTTP requests; *http.Client does.
type Transport interface {
	Do(*http.Request) (*http.Response, error)
}

// clients are the parts of Azure's API that a Publisher uses.
type clients struct {
	galleries   *armcompute.GalleriesClient
	sharing     *armcompute.GallerySharingProfileClient
	definitions *armcompute.GalleryImagesClient
	versions    *armcompute.GalleryImageVersionsClient
	images      *armcompute.ImagesClient
	disks       *armcompute.DisksClient
	machines    *armcompute.VirtualMachinesClient
	scaleSets   *armcompute.VirtualMachineScaleSetsClient

	credential azcore.TokenCredential
	options    policy.ClientOptions
	blobs      string
	poll       time.Duration
}

// tryTimeout is how long one request may take: 4 MiB get through in it at 14 kB/s.
const tryTimeout = 5 * time.Minute

func newClients(target v1alpha1.AzureTarget, e Endpoint) (clients, error) {
	transport := e.Transport
	if transport == nil {
		own := http.DefaultTransport.(*http.Transport).Clone()
		own.MaxIdleConnsPerHost = 64 // a connection for each request under way
		transport = &http.Client{Transport: own}
	}
	options := policy.ClientOptions{
		Cloud: e.Cloud, Transport: discreet{transport},
		Telemetry: policy.TelemetryOptions{ApplicationID: "nodesmith"},
		// The package publish tries again, with what the API says of when.
		Retry: policy.RetryOptions{MaxRetries: -1, TryTimeout: tryTimeout},
	}
	factory, err := armcompute.NewClientFactory(target.Subscription, e.Credential, &arm.ClientOptions{ClientOptions: options})
	if err != nil {
		return clients{}, err
	}
	poll := e.Poll
	if poll == 0 {
		poll = 10 * time.Second
	}
	return clients{
		galleries: factory.NewGalleriesClient(), sharing: factory.NewGallerySharingProfileClient(),
		definitions: factory.NewGalleryImagesClient(), versions: factory.NewGalleryImageVersionsClient(),
		images: factory.NewImagesClient(), disks: factory.NewDisksClient(),
		machines: factory.NewVirtualMachinesClient(), scaleSets: factory.NewVirtualMachineScaleSetsClient(),
		credential: e.Credential, options: options, blobs: e.Blobs, poll: poll,
	}, nil
}

// account is the address of a storage account's blob service.
func (c *clients) account(name string) string { return fmt.Sprintf(c.blobs, name) }

// container is one of a storage account.
func (c *clients) container(account, name string) (*container.Client, error) {
	return container.NewClient(c.account(account)+"/"+name, c.credential, &container.ClientOptions{ClientOptions: c.options})
}

// blob is a page blob of a storage account.
func (c *clients) blob(account, container, name string) (*pageblob.Client, error) {
	return pageblob.NewClient(c.account(account)+"/"+container+"/"+name, c.credential, &pageblob.ClientOptions{ClientOptions: c.options})
}

// signed is the page blob at a signed address.
func (c *clients) signed(address string) (*pageblob.Client, error) {
	client, err := pageblob.NewClientWithNoCredential(address, &pageblob.ClientOptions{ClientOptions: c.options})
	if err != nil {
		// The SDK's error may have the address.
		return nil, errors.New("the address that Azure gives to write the disk is none")
	}
	return client, nil
}

// discreet keeps addresses out of errors: a signed one is a secret.
type discreet struct{ next Transport }

// Do sends a request.
func (d discreet) Do(request *http.Request) (*http.Response, error) {
	response, err := d.next.Do(request)
	if failed, ok := errors.AsType[*url.Error](err); ok {
		err = &unansweredError{request.Method + " " + request.URL.Scheme + "://" + request.URL.Host + request.URL.Path, failed.Err}
	}
	return response, err
}

// unansweredError says that a request got no answer.
type unansweredError struct {
	request string // method and address, without what signs it
	cause   error
}

func (e *unansweredError) Error() string { return e.request + ": " + e.cause.Error() }

// Unwrap gives errors.As the cause.
func (e *unansweredError) Unwrap() error { return e.cause }

// passes says whether another try may be answered: not where the name or the
// certificate of who should answer is wrong.
func (e *unansweredError) passes() bool {
	if lookup, ok := errors.AsType[*net.DNSError](e.cause); ok && lookup.IsNotFound {
		return false
	}
	_, untrusted := errors.AsType[*tls.CertificateVerificationError](e.cause)
	return !untrusted && !errors.Is(e.cause, context.Canceled)
}
