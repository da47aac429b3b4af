package vmtest

import (
	"encoding/json"
	"regexp"
	"slices"
	"strings"
	"testing"

	"nodesmith.dev/nodesmith/internal/fault"
)

func TestReportReadsAsATable(t *testing.T) {
	r := Report{ReportVersion, ReportKind, false, Fail, []BootResult{
		{BIOS, TCG, "as asked", "virtio_blk", "virtio_net", 41.2, Pass, []Check{{"user-data", Pass, "uid 0"}, {"swap.off", Pass, "none"}}, ""},
		{UEFI, KVM, "a test guest ran on KVM", "nvme", "virtio_net", 180, Fail, []Check{{"user-data", Fail, "not reported: cloud-init ran"}}, "guest on uefi firmware:\n    line"},
	}}
	var text strings.Builder
	if err := r.WriteText(&text); err != nil {
		t.Fatal(err)
	}
	want := `pass  boot on bios with virtio_blk and virtio_net in 41 s under tcg (as asked)
      pass  user-data  uid 0
      pass  swap.off   none
FAIL  boot on uefi with nvme and virtio_net in 180 s under kvm (a test guest ran on KVM)
      FAIL  user-data  not reported: cloud-init ran
      guest on uefi firmware:
          line
FAIL  verdict
`
	if text.String() != want {
		t.Errorf("got\n%s\nwant\n%s", text.String(), want)
	}
	data, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	if want := `{"apiVersion":"nodesmith.dev/v1alpha1","kind":"BootReport","cluster":false,"verdict":"fail","boots":[{"firmware":"bios","accelerator":"tcg",` +
		`"acceleratorReason":"as asked","disk":"virtio_blk","network":"virtio_net","seconds":41.2,"verdict":"pass","checks":[{"id":"user-data","status":"pass","evidence":"uid 0"},`; !strings.HasPrefix(string(data), want) {
		t.Errorf("JSON %s\nwant   %s...", data, want)
	}
}

// A control plane that did not form takes nothing from what the boots proved.
func TestBootsOfAClusterAreJudgedAlone(t *testing.T) {
	booted, kubeadm := Check{"boot.finished", Pass, ""}, Check{"kubeadm.init", Fail, "no etcd"}
	for name, c := range map[string]struct {
		boots []BootResult
		want  Status
	}{
		"no control plane": {[]BootResult{{Firmware: BIOS, Verdict: Fail, Checks: []Check{booted, kubeadm}}, {Firmware: UEFI, Verdict: Pass, Checks: []Check{booted}}}, Pass},
		"a failed boot":    {[]BootResult{{Firmware: BIOS, Verdict: Fail, Checks: []Check{{"boot.finished", Fail, "starting"}, kubeadm}}}, Fail},
		"no end":           {[]BootResult{{Firmware: BIOS, Verdict: Fail, Checks: []Check{booted, kubeadm}, Error: "no report in time"}}, Fail},
	} {
		r := Report{Cluster: true, Verdict: Fail, Boots: c.boots}
		alone := r.Boot()
		if alone.Verdict != c.want || alone.Cluster || len(alone.Boots) != len(c.boots) || len(alone.Boots[0].Checks) != 1 {
			t.Errorf("%s: %+v", name, alone)
		}
		if len(r.Boots[0].Checks) != 2 {
			t.Errorf("%s: the report itself lost checks", name)
		}
	}
}

func TestCheckThatWasNotReportedFails(t *testing.T) {
	expected := []CheckInfo{{"a", "A holds"}, {"b", "B holds"}, {"c", "C holds"}}
	got := complete([]Check{{"extra", Pass, ""}, {"c", Pass, "seen"}, {"a", Pass, ""}}, expected)
	want := []Check{{"a", Pass, ""}, {"b", Fail, "not reported: B holds"}, {"c", Pass, "seen"}, {"extra", Pass, ""}}
	if !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	if verdict(got) != Fail || verdict(nil) != Fail || verdict([]Check{{"a", Pass, ""}}) != Pass {
		t.Error("a verdict is wrong")
	}
}

// A script and the table of its checks name the same ones, in the same order.
func TestScriptsReportTheChecksOfTheirTable(t *testing.T) {
	reported := regexp.MustCompile(`(?m)^(?:check|report) ([a-z0-9.-]+) `)
	for _, s := range []Script{bootScript(1 << 30), clusterScript()} {
		var got, want []string
		for _, m := range reported.FindAllSubmatch(s.Files[s.Name], -1) {
			got = append(got, string(m[1]))
		}
		for _, c := range s.Checks {
			want = append(want, c.ID)
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s reports %v\nits table has %v", s.Name, got, want)
		}
		for _, id := range got {
			if !checkID.MatchString(id) {
				t.Errorf("%s: %q is no check id", s.Name, id)
			}
		}
		if !strings.Contains(string(s.Files["report.sh"]), "/dev/virtio-ports/"+ChannelName) {
			t.Error("report.sh writes to another port")
		}
	}
}

func TestGuestFailureHoldsTheConsole(t *testing.T) {
	err := guestFailure(UEFI, TCG, "it did not end its report within 10m0s (0 checks came)", []string{"[ OK ] one", "login:"})
	want := "guest on uefi firmware under tcg: it did not end its report within 10m0s (0 checks came); the console's last lines:\n    [ OK ] one\n    login:"
	if err.Error() != want || fault.KindOf(err) != fault.Guest {
		t.Errorf("%v: %q\nwant %q", fault.KindOf(err), err, want)
	}
	if err := guestFailure(BIOS, KVM, "the kernel panicked", nil); !strings.HasSuffix(err.Error(), "the kernel panicked; its console is empty") {
		t.Error(err)
	}
}
