// Package contract checks, without booting, that an image is what Cluster API
// expects of a Kubernetes node.
//
// What comes in is a disk as an io.ReaderAt; what goes out is a Report with one
// result per check. The contract is data: List returns every check with its
// reason, and docs/contract.md is generated from it. Checks read the image's
// partitions and files through imagefs; nothing is mounted, nothing of the
// image is executed, and the image may be hostile or made by others. The same
// image gives the same report. Memory does not grow with the image.
package contract

import (
	"context"
	"fmt"
	"io"
	"slices"

	"nodesmith.dev/nodesmith/internal/fault"
)

// Severity says what a check that does not hold means.
type Severity string

// The severities. An image that breaks a required check fails; one that breaks
// a recommended one gets a warning.
const (
	Required    Severity = "required"
	Recommended Severity = "recommended"
)

// Check is one clause of the contract.
type Check struct {
	// ID is stable: section.name.
	ID string `json:"id"`
	// Title says what holds in a good image.
	Title string `json:"title"`
	// Why says what goes wrong without it.
	Why string `json:"why"`
	// How says what is looked at.
	How      string   `json:"how"`
	Severity Severity `json:"severity"`
	// Families, Infrastructures, Firmware and Architectures say where the check
	// applies; empty means everywhere.
	Families        []Family `json:"families,omitempty"`
	Infrastructures []string `json:"infrastructures,omitempty"`
	Firmware        string   `json:"firmware,omitempty"`
	Architectures   []string `json:"architectures,omitempty"`
	// Kubernetes is the range of versions that the check applies to, like
	// ">=v1.28" or ">=v1.28 <v1.36"; empty means all.
	Kubernetes string `json:"kubernetes,omitempty"`

	run func(*node, *result)
	// raw checks look at the disk and apply even when there is no file system.
	raw bool
}

// List returns the whole contract, in the order in which it is checked.
func List() []Check {
	return slices.Concat(diskChecks, bootChecks, kernelChecks, sysctlChecks(), serviceChecks(), packageChecks(),
		kubernetesChecks, containerdChecks, imageChecks, cloudInitChecks, infrastructureChecks, identityChecks, hygieneChecks)
}

// Options say what an image is meant for.
type Options struct {
	// Infrastructure is where the image will run; "" leaves out what is
	// particular to one.
	Infrastructure string
	// Firmware lists what the image must boot on, bios and uefi; empty means what
	// the image itself says that it is made for, and both if it says nothing.
	Firmware []string
	// Accounts are people's accounts that the image is meant to have. They may
	// have authorized keys and sudo rules; passwords they may not.
	Accounts []string
	// Files are paths of files that the image's spec asks for. A proxy in one of
	// them is meant for the node.
	Files []string
}

// Infrastructures are the values of Options.Infrastructure.
var Infrastructures = []string{"qemu", "vsphere", "aws", "azure", "openstack", "kubevirt", "proxmox", "nutanix", "gcp"}

// Firmware that a check may be about.
const (
	bios = "bios"
	uefi = "uefi"
)

// Verify checks an image of size bytes. It returns an error only for options
// that make no sense and when ctx ends; whatever is wrong with the image stands
// in the report.
func Verify(ctx context.Context, disk io.ReaderAt, size int64, options Options) (*Report, error) {
	if options.Infrastructure != "" && !slices.Contains(Infrastructures, options.Infrastructure) {
		return nil, fault.New(fault.Usage, "", "%q is not one of %v", options.Infrastructure, Infrastructures)
	}
	n := openNode(disk, size, options)
	if len(n.options.Firmware) == 0 {
		n.options.Firmware = n.firmware()
	}
	report := &Report{Version: ReportVersion, Infrastructure: options.Infrastructure, Firmware: n.options.Firmware, Image: n.describe()}
	for _, c := range List() {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		n.ctx = ctx
		report.Results = append(report.Results, n.check(c))
	}
	// A check that ctx interrupted has failed for that reason only.
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	report.count()
	return report, nil
}

// Firmware returns what an image says that it boots from, bios and uefi; both
// if it says nothing.
func Firmware(disk io.ReaderAt, size int64) []string {
	return openNode(disk, size, Options{}).firmware()
}

// check runs one check. A panic in it is a defect of this program that a
// hostile image found; it must not let the image pass.
func (n *node) check(c Check) (out Result) {
	out = Result{ID: c.ID, Title: c.Title, Severity: c.Severity}
	if why := n.inapplicable(c); why != "" {
		out.Status, out.Notes = Skipped, []string{why}
		return out
	}
	defer func() {
		if p := recover(); p != nil {
			out.Status, out.Problems = Failed, append(out.Problems, fmt.Sprintf("the check broke down: %v", p))
		}
	}()
	var r result
	switch {
	case c.raw:
		c.run(n, &r)
	case n.openErr != nil:
		r.fail("there are no partitions to look at: %v", n.openErr)
	case n.tree == nil:
		r.fail("there is no root file system to look at: %v", n.image.RootErr)
	default:
		c.run(n, &r)
	}
	out.Problems, out.Notes = r.problems, r.notes
	switch {
	case len(out.Problems) == 0:
		out.Status = Passed
	case c.Severity == Recommended:
		out.Status = Warned
	default:
		out.Status = Failed
	}
	return out
}

// inapplicable says why a check does not apply, or "".
func (n *node) inapplicable(c Check) string {
	switch {
	case len(c.Infrastructures) > 0 && !slices.Contains(c.Infrastructures, n.options.Infrastructure):
		return fmt.Sprintf("only for %v", c.Infrastructures)
	case c.Firmware != "" && !slices.Contains(n.options.Firmware, c.Firmware):
		return "only for " + c.Firmware
	// What the image is made of is unknown where it cannot be read; the check
	// then runs, and fails for that.
	case n.tree == nil:
		return ""
	case len(c.Families) > 0 && !slices.Contains(c.Families, n.family):
		return fmt.Sprintf("only for %v", c.Families)
	case len(c.Architectures) > 0 && n.architecture != "" && !slices.Contains(c.Architectures, n.architecture):
		return fmt.Sprintf("only for %v", c.Architectures)
	case n.kubernetes != "" && !inRange(c.Kubernetes, n.kubernetes):
		return "only for Kubernetes " + c.Kubernetes
	}
	return ""
}

// result is what a check finds: problems decide, notes inform.
type result struct{ problems, notes []string }

// maxProblems keeps a hostile image from filling the report.
const maxProblems = 40

func (r *result) fail(format string, args ...any) {
	if len(r.problems) == maxProblems {
		r.problems = append(r.problems, "and more")
	}
	if len(r.problems) < maxProblems {
		r.problems = append(r.problems, printable(fmt.Sprintf(format, args...)))
	}
}

func (r *result) note(format string, args ...any) {
	if len(r.notes) < maxProblems {
		r.notes = append(r.notes, printable(fmt.Sprintf(format, args...)))
	}
}
