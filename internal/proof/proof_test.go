package proof

import (
	"testing"
	"time"
)

func TestALevelIsProvenByItsOwnAndAllLesserResults(t *testing.T) {
	at := func(minute int) time.Time { return time.Date(2026, 11, 26, 0, minute, 0, 0, time.UTC) }
	both := []string{"bios", "uefi"}
	contract := Result{Contract, true, nil, at(1)}
	boot := Result{Boot, true, both, at(2)}
	cluster := Result{Cluster, true, []string{"bios"}, at(3)}
	for _, test := range []struct {
		name     string
		results  []Result
		firmware []string
		want     Proof
	}{
		{"nothing was run", nil, both, Proof{}},
		{"the contract holds", []Result{contract}, both, Proof{Level: Contract}},
		{"the contract is broken", []Result{{Contract, false, nil, at(1)}, boot}, both, Proof{}},
		{"it boots, but was never held against the contract", []Result{boot}, both, Proof{}},
		{"it boots", []Result{contract, boot}, both, Proof{Level: Boot}},
		{"it boots on one firmware of two", []Result{contract, {Boot, true, []string{"bios"}, at(2)}}, both, Proof{Level: Contract}},
		{"it boots on each, one after the other", []Result{contract, {Boot, true, []string{"uefi"}, at(2)}, {Boot, true, []string{"bios"}, at(3)}}, both, Proof{Level: Boot}},
		{"it boots with Secure Boot on, which is UEFI", []Result{contract, {Boot, true, []string{"bios", Secure}, at(2)}}, both, Proof{Boot, true}},
		{"it failed with Secure Boot on", []Result{contract, boot, {Boot, false, []string{Secure}, at(4)}}, both, Proof{Level: Contract}},
		{"it failed, then it passed", []Result{boot, contract, {Boot, false, both, at(1)}}, both, Proof{Level: Boot}},
		{"it passed, then it failed", []Result{contract, boot, {Boot, false, both, at(4)}}, both, Proof{Level: Contract}},
		{"nobody says what it boots on", []Result{contract, {Boot, true, []string{"bios"}, at(2)}}, nil, Proof{Level: Boot}},
		{"a cluster formed", []Result{contract, boot, cluster}, both, Proof{Level: Cluster}},
		{"a cluster formed of what does not boot on all", []Result{contract, cluster}, both, Proof{Level: Contract}},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := Of(test.results, test.firmware); got != test.want {
				t.Errorf("%+v, want %+v", got, test.want)
			}
		})
	}
}

func TestLevelsHaveNames(t *testing.T) {
	for level := Unverified; level <= Cluster; level++ {
		if got, ok := Parse(level.String()); !ok || got != level {
			t.Errorf("%d is %q, which is %d, %v", level, level, got, ok)
		}
	}
	if _, ok := Parse("blessed"); ok {
		t.Error("blessed is a level")
	}
	if Level(-1).String() != "unverified" || Level(9).String() != "unverified" {
		t.Error("a level that is none proves something")
	}
}
