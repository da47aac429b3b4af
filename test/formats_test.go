package test

import (
	"encoding/json"
	"maps"
	"strings"
	"testing"

	"nodesmith.dev/nodesmith/internal/contract"
	"nodesmith.dev/nodesmith/internal/format/known"
	"nodesmith.dev/nodesmith/internal/report"
	"nodesmith.dev/nodesmith/internal/testenv"
)

// verdict is what each check of the contract says of a good image.
func verdict(t *testing.T, file string) map[string]contract.Status {
	t.Helper()
	r := must(t, "verify", file, "--level", "contract", "--strict", "--json", "--infrastructure", "qemu")
	var verified report.Verification
	if err := json.Unmarshal([]byte(r.out), &verified); err != nil {
		t.Fatal(err)
	}
	statuses := map[string]contract.Status{}
	for _, result := range verified.Checks {
		statuses[result.ID] = result.Status
	}
	return statuses
}

func TestTheContractIsTheSameInEveryFormatOfTheBuiltImage(t *testing.T) {
	testenv.NeedRoot(t)
	want := verdict(t, raw())
	r := must(t, "convert", raw(), "--to", strings.Join(known.Names(), ","), "-o", t.TempDir())
	for _, file := range strings.Fields(r.out) {
		if got := verdict(t, file); !maps.Equal(got, want) {
			t.Errorf("%s: %v, want %v", file, got, want)
		}
	}
}
