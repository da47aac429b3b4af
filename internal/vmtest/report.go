package vmtest

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"nodesmith.dev/nodesmith/internal/infra"
)

// The version and kind of a Report in JSON.
const (
	ReportVersion = "nodesmith.dev/v1alpha1"
	ReportKind    = "BootReport"
)

// Report is what booting an image proved.
type Report struct {
	APIVersion string       `json:"apiVersion"`
	Kind       string       `json:"kind"`
	Cluster    bool         `json:"cluster"` // the first boot was to form a control plane, too
	Verdict    Status       `json:"verdict"` // pass only if every boot passed
	Boots      []BootResult `json:"boots"`
}

// BootResult is what one boot proved.
type BootResult struct {
	Firmware          Firmware `json:"firmware"`
	Accelerator       Accel    `json:"accelerator"`
	AcceleratorReason string   `json:"acceleratorReason"`
	// Disk and Network are the drivers of the machine's devices.
	Disk    infra.DiskController `json:"disk"`
	Network infra.NetworkCard    `json:"network"`
	Seconds float64              `json:"seconds"` // from QEMU's start to the report's end
	Verdict Status               `json:"verdict"` // pass only if every check passed
	Checks  []Check              `json:"checks"`
	// Error says why the boot did not come to its report's end.
	Error string `json:"error,omitempty"`
}

// Boot returns what a report says of the boots alone, without the control plane.
func (r *Report) Boot() *Report {
	if !r.Cluster {
		return r
	}
	alone := &Report{APIVersion: r.APIVersion, Kind: r.Kind, Verdict: Pass}
	for _, b := range r.Boots {
		b.Checks = slices.DeleteFunc(slices.Clone(b.Checks), func(c Check) bool {
			return slices.ContainsFunc(clusterChecks, func(of CheckInfo) bool { return of.ID == c.ID })
		})
		if b.Verdict = verdict(b.Checks); b.Error != "" {
			b.Verdict = Fail
		}
		if b.Verdict != Pass {
			alone.Verdict = Fail
		}
		alone.Boots = append(alone.Boots, b)
	}
	return alone
}

// complete puts checks into the order of expected and adds those that the guest
// did not report, as failed. Checks that nobody expects come last.
func complete(checks []Check, expected []CheckInfo) []Check {
	position := map[string]int{}
	for i, e := range expected {
		position[e.ID] = i - len(expected) // below 0, which is what unexpected ones have
	}
	all := slices.Clone(checks)
	for _, e := range expected {
		if !slices.ContainsFunc(checks, func(c Check) bool { return c.ID == e.ID }) {
			all = append(all, Check{e.ID, Fail, "not reported: " + e.Proves})
		}
	}
	slices.SortStableFunc(all, func(a, b Check) int { return cmp.Compare(position[a.ID], position[b.ID]) })
	return all
}

// verdict is pass if there are checks and none failed.
func verdict(checks []Check) Status {
	for _, c := range checks {
		if c.Status != Pass {
			return Fail
		}
	}
	if len(checks) == 0 {
		return Fail
	}
	return Pass
}

// WriteText writes the report as a table for people: a line for each boot and
// each check.
func (r *Report) WriteText(w io.Writer) error {
	var b strings.Builder
	for _, boot := range r.Boots {
		fmt.Fprintf(&b, "%-4s  boot on %s with %s and %s in %.0f s under %s (%s)\n", mark(boot.Verdict), boot.Firmware,
			boot.Disk, boot.Network, boot.Seconds, boot.Accelerator, boot.AcceleratorReason)
		width := 0
		for _, c := range boot.Checks {
			width = max(width, len(c.ID))
		}
		for _, c := range boot.Checks {
			fmt.Fprintf(&b, "      %-4s  %-*s  %s\n", mark(c.Status), width, c.ID, evidence(c))
		}
		if boot.Error != "" {
			fmt.Fprintf(&b, "      %s\n", strings.ReplaceAll(boot.Error, "\n", "\n      "))
		}
	}
	fmt.Fprintf(&b, "%-4s  verdict\n", mark(r.Verdict))
	_, err := io.WriteString(w, b.String())
	return err
}

// evidenceWidth is how much of a passed check's evidence the text form shows;
// JSON has all of it.
const evidenceWidth = 100

// evidence shortens what is only there to be glanced at.
func evidence(c Check) string {
	if runes := []rune(c.Evidence); c.Status == Pass && len(runes) > evidenceWidth {
		return string(runes[:evidenceWidth-1]) + "…"
	}
	return c.Evidence
}

// mark makes a failure stand out without colours.
func mark(s Status) string {
	if s == Pass {
		return "pass"
	}
	return "FAIL"
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
