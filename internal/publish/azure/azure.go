// Package azure publishes an image to an Azure subscription: as a version in an
// Azure Compute Gallery (Shared Image Gallery), or as a managed image.
//
// What comes in is a disk, which goes to Azure as a fixed VHD that is never made:
// pages that hold something are read, and sent, in parallel, either into a
// managed disk or into a page blob; what was sent is not sent again by the next
// run. What goes out is a version that machines can be made of, with replicas
// where they are wanted, and nothing that was only needed on the way. At most
// 64 MiB (parallel 16) of the disk are in memory.
//
// Credentials come from Azure's default chain (environment, workload or managed
// identity, az login). The signed address with which a disk is written is a
// secret: it is asked for anew by each run, and is in no journal, log or error.
package azure

import (
	"context"
	"fmt"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/cloud"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"
	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/compute/armcompute/v7"

	"nodesmith.dev/nodesmith/api/v1alpha1"
	"nodesmith.dev/nodesmith/internal/fault"
	"nodesmith.dev/nodesmith/internal/publish"
)

// Publisher is one subscription's gallery, or one resource group for managed
// images.
type Publisher struct {
	target v1alpha1.AzureTarget
	api    clients
}

var (
	_ publish.Publisher  = (*Publisher)(nil)
	_ publish.Classifier = (*Publisher)(nil)
)

// Endpoint is where a cloud's services answer, and how to talk to them. The zero
// value is the target's cloud, with the credentials of Azure's default chain.
type Endpoint struct {
	Credential azcore.TokenCredential
	// Cloud has the address of Resource Manager; Blobs that of a storage account's
	// blob service, with %s for the account's name.
	Cloud cloud.Configuration
	Blobs string
	// Transport sends requests; nil for the SDK's own.
	Transport Transport
	// Poll is how often Resource Manager is asked whether something is done, where
	// it does not say itself; 0 means 10 s.
	Poll time.Duration
}

// clouds are the values of AzureTarget.Cloud.
var clouds = map[string]Endpoint{
	"public":       {Cloud: cloud.AzurePublic, Blobs: "https://%s.blob.core.windows.net"},
	"usGovernment": {Cloud: cloud.AzureGovernment, Blobs: "https://%s.blob.core.usgovcloudapi.net"},
	"china":        {Cloud: cloud.AzureChina, Blobs: "https://%s.blob.core.chinacloudapi.cn"},
}

// New makes the publisher of a target, which has its defaults. It asks nobody
// anything yet.
func New(target v1alpha1.AzureTarget, endpoint Endpoint) (*Publisher, error) {
	if endpoint.Blobs == "" {
		known, ok := clouds[target.Cloud]
		if !ok {
			return nil, fault.New(fault.BadSpec, "", "azure: cloud %q is not known", target.Cloud)
		}
		endpoint.Cloud, endpoint.Blobs = known.Cloud, known.Blobs
	}
	if endpoint.Credential == nil {
		chain, err := azidentity.NewDefaultAzureCredential(&azidentity.DefaultAzureCredentialOptions{
			ClientOptions: azcore.ClientOptions{Cloud: endpoint.Cloud},
		})
		if err != nil {
			return nil, explain(err)
		}
		endpoint.Credential = chain
	}
	api, err := newClients(target, endpoint)
	if err != nil {
		return nil, fmt.Errorf("azure: %w", err)
	}
	return &Publisher{target, api}, nil
}

// Place names the gallery, or the resource group.
func (p *Publisher) Place() string {
	place := "azure " + p.target.Subscription + "/" + p.target.ResourceGroup
	if p.target.Gallery != nil {
		place += "/" + p.target.Gallery.Name
	}
	return place
}

// Classify says what can be done about an error of Plan, List and Retract.
func (p *Publisher) Classify(err error) publish.Class { return Classify(err) }

// get asks for one thing; what is not there is nil.
func get[T any](ctx context.Context, ask func(context.Context) (T, error)) (*T, error) {
	answer, err := ask(ctx)
	switch {
	case isNotFound(err):
		return nil, nil
	case err != nil:
		return nil, explain(err)
	}
	return &answer, nil
}

// generation is V2 where the disk boots by UEFI, unless the target wants another
// one, which the disk has to boot by.
func generation(wanted string, image *publish.Image) (armcompute.HyperVGeneration, error) {
	boots := map[string]string{"V1": "bios", "V2": "uefi"}
	has := func(firmware string) bool {
		for _, f := range image.Firmware {
			if f == firmware {
				return true
			}
		}
		return false
	}
	if wanted == "" {
		wanted = "V1"
		if has("uefi") {
			wanted = "V2"
		}
	}
	if !has(boots[wanted]) {
		return "", fault.New(fault.BadSpec, "set generation to what the disk boots by, or build it with spec.disk.firmware: [bios, uefi]",
			"machines of generation %s start by %s, and the disk of %s does not", wanted, boots[wanted], image.Reference)
	}
	return armcompute.HyperVGeneration(wanted), nil
}
