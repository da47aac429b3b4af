package contract

import (
	"fmt"
	"io"
	"strconv"
	"strings"
	"unicode"

	"nodesmith.dev/nodesmith/internal/fault"
)

// ReportVersion is the version of the report's JSON.
const ReportVersion = "contract/v1alpha1"

// Status is how a check ended.
type Status string

// The statuses.
const (
	Passed  Status = "pass"
	Warned  Status = "warn" // a recommended check does not hold
	Failed  Status = "fail" // a required check does not hold, or could not be carried out
	Skipped Status = "skip" // the check does not apply to this image
)

// Result is one check's.
type Result struct {
	ID       string   `json:"id"`
	Title    string   `json:"title"`
	Severity Severity `json:"severity"`
	Status   Status   `json:"status"`
	// Problems say what does not hold; empty if and only if Status is Passed or Skipped.
	Problems []string `json:"problems,omitempty"`
	// Notes say what was found, or why the check was skipped.
	Notes []string `json:"notes,omitempty"`
}

// Evidence is the result in one text: what does not hold, else what was found.
func (r Result) Evidence() string {
	if len(r.Problems) > 0 {
		return strings.Join(r.Problems, "; ")
	}
	return strings.Join(r.Notes, "; ")
}

// Report is the outcome of one verification.
type Report struct {
	Version        string  `json:"version"`
	Image          Summary `json:"image"`
	Infrastructure string  `json:"infrastructure,omitempty"`
	// Firmware is what the image was checked to boot from.
	Firmware []string `json:"firmware,omitempty"`
	Counts   Counts   `json:"counts"`
	Results  []Result `json:"results"`
}

// Summary says what the image is, as far as it could be read.
type Summary struct {
	// Size is the virtual disk's, in bytes.
	Size         int64  `json:"size"`
	System       string `json:"system,omitempty"` // PRETTY_NAME of os-release
	Family       Family `json:"family,omitempty"`
	Architecture string `json:"architecture,omitempty"`
	Kubernetes   string `json:"kubernetes,omitempty"` // kubeadm's version
}

// Counts are the numbers of results by status.
type Counts struct {
	Passed  int `json:"passed"`
	Warned  int `json:"warned"`
	Failed  int `json:"failed"`
	Skipped int `json:"skipped"`
}

func (r *Report) count() {
	r.Counts = Counts{}
	for _, result := range r.Results {
		switch result.Status {
		case Passed:
			r.Counts.Passed++
		case Warned:
			r.Counts.Warned++
		case Failed:
			r.Counts.Failed++
		case Skipped:
			r.Counts.Skipped++
		}
	}
}

// Err returns a fault.Contract if a check failed or, with strict, warned. A
// report without a single passed check proves nothing and is an error too.
func (r *Report) Err(strict bool) error {
	bad := r.Counts.Failed
	if strict {
		bad += r.Counts.Warned
	}
	switch {
	case bad > 0:
		return fault.New(fault.Contract, "the report above says what and where; nodesmith contract list says why it matters",
			"the image breaks %d of %d checks", bad, len(r.Results)-r.Counts.Skipped)
	case r.Counts.Passed == 0:
		return fault.New(fault.Contract, "", "no check was carried out")
	}
	return nil
}

// WriteText writes the report for people: what is wrong first and at length,
// then a line of numbers. With all, every check has a line.
func (r *Report) WriteText(w io.Writer, all bool) error {
	var b strings.Builder
	if r.Image.System != "" {
		fmt.Fprintf(&b, "%s, %s, Kubernetes %s\n", printable(r.Image.System), or(r.Image.Architecture, "unknown architecture"), or(printable(r.Image.Kubernetes), "unknown"))
	}
	for _, result := range r.Results {
		if !all && (result.Status == Passed || result.Status == Skipped) {
			continue
		}
		fmt.Fprintf(&b, "%-4s  %s: %s\n", strings.ToUpper(string(result.Status)), result.ID, result.Title)
		for _, p := range result.Problems {
			fmt.Fprintf(&b, "      - %s\n", p)
		}
		if all {
			for _, n := range result.Notes {
				fmt.Fprintf(&b, "      %s\n", n)
			}
		}
	}
	fmt.Fprintf(&b, "%d checks passed, %d failed, %d warned, %d do not apply\n", r.Counts.Passed, r.Counts.Failed, r.Counts.Warned, r.Counts.Skipped)
	_, err := io.WriteString(w, b.String())
	return err
}

func or(s, instead string) string {
	if s == "" {
		return instead
	}
	return s
}

// printable makes text from an image safe for a terminal.
func printable(s string) string {
	const longest = 400
	if len(s) > longest {
		s = s[:longest] + "..."
	}
	if strings.IndexFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }) < 0 {
		return s
	}
	quoted := strconv.Quote(s)
	return strings.ReplaceAll(quoted[1:len(quoted)-1], `\"`, `"`)
}
