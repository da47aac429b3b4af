package report_test

import (
	"bytes"
	"encoding/json"
	"testing"

	"nodesmith.dev/nodesmith/internal/contract"
	"nodesmith.dev/nodesmith/internal/infra"
	"nodesmith.dev/nodesmith/internal/report"
	"nodesmith.dev/nodesmith/internal/report/reporttest"
	"nodesmith.dev/nodesmith/internal/vmtest"
)

func TestEveryCheckOfTheContractFitsTheSchema(t *testing.T) {
	empty := make([]byte, 1<<20)
	result, err := contract.Verify(t.Context(), bytes.NewReader(empty), int64(len(empty)), contract.Options{Infrastructure: "aws"})
	if err != nil {
		t.Fatal(err)
	}
	document := report.OfContract(result, result.Err(false) == nil)
	reporttest.Validate(t, report.VerifyKind, document)
	if len(document.Checks) != len(contract.List()) || document.Verdict != contract.Failed || document.Infrastructure != "aws" {
		t.Errorf("%d checks of %d, verdict %s for %s", len(document.Checks), len(contract.List()), document.Verdict, document.Infrastructure)
	}
	if counts := document.Counts(); counts[contract.Failed] != result.Counts.Failed || counts[contract.Skipped] != result.Counts.Skipped {
		t.Errorf("counts %v, want %+v", counts, result.Counts)
	}
	for _, c := range document.Checks {
		if c.Status == contract.Failed && c.Evidence == "" {
			t.Errorf("%s failed for no reason", c.ID)
		}
	}
}

func TestBootsOfOneImageAreOneListOfChecks(t *testing.T) {
	document := report.OfBoot(&vmtest.Report{Verdict: vmtest.Fail, Boots: []vmtest.BootResult{
		{Firmware: vmtest.BIOS, Accelerator: vmtest.TCG, Disk: infra.VirtioBlock, Network: infra.VirtioNet, Seconds: 80.5, Verdict: vmtest.Pass,
			Checks: []vmtest.Check{{ID: "root.grown", Status: vmtest.Pass, Evidence: "10 GiB"}}},
		{Firmware: vmtest.UEFI, Verdict: vmtest.Fail, Error: "no report in 10m", Checks: []vmtest.Check{{ID: "root.grown", Status: vmtest.Fail}}},
	}})
	reporttest.Validate(t, report.VerifyKind, document)
	want := []report.Check{
		{ID: "root.grown", Status: contract.Passed, Evidence: "10 GiB", Firmware: "bios"}, {ID: "root.grown", Status: contract.Failed, Firmware: "uefi"},
	}
	if len(document.Checks) != 2 || document.Checks[0] != want[0] || document.Checks[1] != want[1] || document.Verdict != contract.Failed || len(document.Boots) != 2 {
		t.Errorf("%+v", document)
	}
}

// Before a build made anything, lists are empty and not null.
func TestAnEmptyDocumentHasItsLists(t *testing.T) {
	text, err := json.Marshal(report.OfBoot(&vmtest.Report{}))
	if err != nil || !bytes.Contains(text, []byte(`"checks":[]`)) {
		t.Errorf("%s, %v", text, err)
	}
}
