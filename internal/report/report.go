// Package report has the documents that nodesmith prints for programs.
//
// What comes in is what a command did; what goes out is JSON of a fixed shape
// with a version, described by a JSON Schema (Schema). Within one version fields
// are added and never changed or taken away.
package report

import (
	"nodesmith.dev/nodesmith/internal/contract"
	"nodesmith.dev/nodesmith/internal/infra"
	"nodesmith.dev/nodesmith/internal/proof"
	"nodesmith.dev/nodesmith/internal/vmtest"
)

// APIVersion is the version of every document here.
const APIVersion = "nodesmith.dev/v1alpha1"

// The kinds of documents.
const (
	BuildKind  = "BuildReport"
	PlanKind   = "PlanReport"
	VerifyKind = "VerifyReport"

	// Those of documents with a version of their own.
	ConfigKind        = "ConfigReport"
	ContractKind      = "ContractReport"
	ImageKind         = "ImageReport"
	ImagesKind        = "ImagesReport"
	PruneKind         = "PruneReport"
	PublishPlanKind   = "PublishPlanReport"
	PublishStatusKind = "PublishStatusReport"
	PublishedKind     = "PublishedReport"
	VersionKind       = "VersionReport"
)

// Build is what build --json prints.
type Build struct {
	APIVersion string     `json:"apiVersion"`
	Kind       string     `json:"kind"`
	Image      string     `json:"image"` // metadata.name
	Artifacts  []Artifact `json:"artifacts"`
	Stages     []Stage    `json:"stages"`
}

// Artifact is an image file.
type Artifact struct {
	Infrastructure string `json:"infrastructure"`
	Architecture   string `json:"arch"`
	Format         string `json:"format"`
	Path           string `json:"path"`
	Digest         string `json:"digest"`    // sha256:... of the file
	SizeBytes      int64  `json:"sizeBytes"` // of the file
}

// Stage is a part of a build.
type Stage struct {
	Name string `json:"name"`
	// Seconds is how long something of the stage was under way.
	Seconds float64 `json:"seconds"`
	// Cached says that nothing of the stage had to be done.
	Cached bool `json:"cached"`
	// SizeBytes is that of what the stage takes in (packages, modules) or makes
	// (lock, disks, files).
	SizeBytes int64 `json:"sizeBytes,omitempty"`
}

// Verification is what verify --json prints, whatever the level.
type Verification struct {
	APIVersion string          `json:"apiVersion"`
	Kind       string          `json:"kind"`
	Level      string          `json:"level"`
	Verdict    contract.Status `json:"verdict"` // pass or fail
	// Image says what was found in the image (level contract).
	Image          *contract.Summary `json:"image,omitempty"`
	Infrastructure string            `json:"infrastructure,omitempty"`
	// Firmware is what the image was checked for, or booted on.
	Firmware []string `json:"firmware,omitempty"`
	Boots    []Boot   `json:"boots,omitempty"`
	Checks   []Check  `json:"checks"`
}

// Check is one check's outcome.
type Check struct {
	ID       string            `json:"id"`
	Status   contract.Status   `json:"status"`
	Evidence string            `json:"evidence"`
	Title    string            `json:"title,omitempty"`
	Severity contract.Severity `json:"severity,omitempty"`
	// Firmware is that of the boot which the check belongs to.
	Firmware string `json:"firmware,omitempty"`
}

// Boot is one boot of the image.
type Boot struct {
	Firmware          string               `json:"firmware"`
	Accelerator       string               `json:"accelerator"`
	AcceleratorReason string               `json:"acceleratorReason,omitempty"`
	Disk              infra.DiskController `json:"disk"`
	Network           infra.NetworkCard    `json:"network"`
	Seconds           float64              `json:"seconds"`
	Verdict           contract.Status      `json:"verdict"`
	Error             string               `json:"error,omitempty"`
}

// Counts returns how many checks have each status.
func (v *Verification) Counts() map[contract.Status]int {
	counts := map[contract.Status]int{}
	for _, c := range v.Checks {
		counts[c.Status]++
	}
	return counts
}

// OfContract is the document of a report of the level contract. passed says
// whether it counts as passed: a strict reader counts warnings.
func OfContract(r *contract.Report, passed bool) *Verification {
	v := &Verification{
		APIVersion: APIVersion, Kind: VerifyKind, Level: proof.Contract.String(), Verdict: verdict(passed),
		Image: &r.Image, Infrastructure: r.Infrastructure, Firmware: r.Firmware, Checks: []Check{},
	}
	for _, result := range r.Results {
		v.Checks = append(v.Checks, Check{
			ID: result.ID, Status: result.Status, Evidence: result.Evidence(), Title: result.Title, Severity: result.Severity,
		})
	}
	return v
}

// OfBoot is the document of a report of the levels boot and cluster.
func OfBoot(r *vmtest.Report) *Verification {
	v := &Verification{APIVersion: APIVersion, Kind: VerifyKind, Level: proof.Boot.String(), Verdict: verdict(r.Verdict == vmtest.Pass), Checks: []Check{}}
	if r.Cluster {
		v.Level = proof.Cluster.String()
	}
	for _, b := range r.Boots {
		v.Firmware = append(v.Firmware, string(b.Firmware))
		v.Boots = append(v.Boots, Boot{
			Firmware: string(b.Firmware), Accelerator: string(b.Accelerator), AcceleratorReason: b.AcceleratorReason,
			Disk: b.Disk, Network: b.Network, Seconds: b.Seconds, Verdict: verdict(b.Verdict == vmtest.Pass), Error: b.Error,
		})
		for _, c := range b.Checks {
			v.Checks = append(v.Checks, Check{ID: c.ID, Status: verdict(c.Status == vmtest.Pass), Evidence: c.Evidence, Firmware: string(b.Firmware)})
		}
	}
	return v
}

func verdict(passed bool) contract.Status {
	if passed {
		return contract.Passed
	}
	return contract.Failed
}
