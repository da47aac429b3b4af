package publish

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"nodesmith.dev/nodesmith/internal/fault"
)

// quick waits as little as it can.
var quick = Options{Reporter: silent{}, Retry: Policy{Tries: 4, First: time.Microsecond, Longest: time.Millisecond}}

type silent struct{}

func (silent) Begin(*Step)                       {}
func (silent) End(*Step, error)                  {}
func (silent) Sent(*Step, int64)                 {}
func (silent) Retry(*Step, error, time.Duration) {}

func openTest(t *testing.T) (*Journal, string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "a", "journal")
	j, err := OpenJournal(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = j.Close() })
	return j, path
}

func TestStepsRunAfterThoseTheyNeed(t *testing.T) {
	j, path := openTest(t)
	var mu sync.Mutex
	var order []string
	step := func(id string, needs ...string) Step {
		return Step{ID: id, Needs: needs, Action: Create, Kind: "thing", Name: id, Do: func(_ context.Context, run *Run) error {
			mu.Lock()
			defer mu.Unlock()
			order = append(order, id)
			return run.Note("id", "i-"+id)
		}}
	}
	plan := &Plan{Place: "here", Steps: []Step{step("a"), {ID: "there", Action: Exists}, step("b", "a", "there"), step("c", "b")}}
	if err := Apply(t.Context(), plan, j, quick); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(order, []string{"a", "b", "c"}) {
		t.Errorf("order %v", order)
	}
	state, err := ReadState(path)
	if err != nil {
		t.Fatal(err)
	}
	entries := state.Entries()
	if len(entries) != 3 || entries[0].Kind != "thing" || !entries[2].Done || entries[1].Notes["id"] != "i-b" || len(entries[1].Notes) != 1 {
		t.Errorf("the journal says %+v", entries)
	}
}

func TestPlansThatCantBeCarriedOutAreRefused(t *testing.T) {
	j, _ := openTest(t)
	for _, steps := range [][]Step{{{ID: "a"}, {ID: "a"}}, {{ID: "a", Needs: []string{"b"}}, {ID: "b"}}} {
		if err := Apply(t.Context(), &Plan{Steps: steps}, j, quick); err == nil {
			t.Errorf("%+v was carried out", steps)
		}
	}
}

func TestWhatMayPassIsTriedAgain(t *testing.T) {
	for _, test := range []struct {
		err   error
		tries int
		kind  fault.Kind
	}{
		{io.ErrUnexpectedEOF, 4, fault.Remote},
		{fmt.Errorf("put: %w", syscall.ECONNRESET), 4, fault.Remote},
		{Temporary(errors.New("taken")), 4, fault.Remote},
		{context.DeadlineExceeded, 4, fault.Remote},
		{errors.New("no"), 1, fault.Internal},
		{fault.New(fault.Usage, "", "no"), 1, fault.Usage},
	} {
		j, path := openTest(t)
		tries := 0
		plan := &Plan{Steps: []Step{{ID: "a", Action: Create, Do: func(_ context.Context, run *Run) error {
			tries++
			return errors.Join(run.Note("id", "i-1"), test.err)
		}}}}
		err := Apply(t.Context(), plan, j, quick)
		if !errors.Is(err, test.err) || tries != test.tries || fault.KindOf(err) != test.kind {
			t.Errorf("%v: %d tries, %v (%v)", test.err, tries, err, fault.KindOf(err))
		}
		state, err := ReadState(path)
		if err != nil || len(state.Entries()) != 1 || state.Entries()[0].Done || state.Entries()[0].Notes["id"] != "i-1" {
			t.Errorf("what was left is %+v, %v", state.Entries(), err)
		}
	}
}

func TestOneThrottledPartHoldsAllBack(t *testing.T) {
	j, _ := openTest(t)
	throttled := errors.New("slow down")
	var mu sync.Mutex
	refusals := 3
	part := func(context.Context) error {
		mu.Lock()
		defer mu.Unlock()
		if refusals > 0 {
			refusals--
			return throttled
		}
		return nil
	}
	plan := &Plan{
		Classify: func(err error) Class {
			if errors.Is(err, throttled) {
				return Throttled
			}
			return Classify(err)
		},
	}
	for i := range 5 {
		plan.Steps = append(plan.Steps, Step{ID: fmt.Sprint(i), Action: Create, Do: func(ctx context.Context, run *Run) error { return run.Retry(ctx, part) }})
	}
	if err := Apply(t.Context(), plan, j, quick); err != nil {
		t.Fatal(err)
	}
	r := newRetrier(quick.Retry, nil)
	r.pace.hold(20 * time.Millisecond)
	before := time.Now()
	if err := r.run(t.Context(), func(context.Context) error { return nil }, nil); err != nil || time.Since(before) < 10*time.Millisecond {
		t.Errorf("%v after %v", err, time.Since(before))
	}
}

func TestATryWithoutASignOfLifeIsGivenUp(t *testing.T) {
	j, _ := openTest(t)
	tries := 0
	plan := &Plan{Steps: []Step{{ID: "a", Action: Create, Idle: 10 * time.Millisecond, Do: func(ctx context.Context, run *Run) error {
		if tries++; tries < 3 {
			<-ctx.Done()
			return ctx.Err()
		}
		return nil
	}}}}
	if err := Apply(t.Context(), plan, j, quick); err != nil || tries != 3 {
		t.Errorf("%d tries, %v", tries, err)
	}
}

func TestAfterAFailureNothingMoreBegins(t *testing.T) {
	j, _ := openTest(t)
	plan := &Plan{Steps: []Step{
		{ID: "a", Action: Create, Do: func(context.Context, *Run) error { return errors.New("no") }},
		{ID: "b", Needs: []string{"a"}, Action: Create, Do: func(context.Context, *Run) error { t.Error("b began"); return nil }},
	}}
	if err := Apply(t.Context(), plan, j, quick); err == nil {
		t.Error("no error")
	}
}

func TestWhatWasTakenAwayLeavesNoNotes(t *testing.T) {
	j, _ := openTest(t)
	for _, step := range []Step{
		{ID: "make", Action: Create, Do: func(_ context.Context, run *Run) error { return run.Note("id", "i-1") }},
		{ID: "remove", Action: Delete, Do: func(_ context.Context, run *Run) error { return run.Forget("make") }},
	} {
		if err := Apply(t.Context(), &Plan{Steps: []Step{step}}, j, quick); err != nil {
			t.Fatal(err)
		}
	}
	if entries := j.State().Entries(); len(entries) != 0 {
		t.Errorf("left: %+v", entries)
	}
}

func TestAJournalIsReadAfterAnyKill(t *testing.T) {
	j, path := openTest(t)
	for i := range 5 {
		if err := errors.Join(j.Note(fmt.Sprint("step", i), "id", "i\n"), j.Forget("step2")); err != nil {
			t.Fatal(err)
		}
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for n := range len(whole) + 1 {
		if err := os.WriteFile(path, whole[:n], 0o600); err != nil {
			t.Fatal(err)
		}
		j, err := OpenJournal(path)
		if err != nil {
			t.Fatalf("cut at %d: %v", n, err)
		}
		if err := errors.Join(j.Note("after", "id", "x"), j.Close()); err != nil {
			t.Fatal(err)
		}
		state, err := ReadState(path)
		lines := strings.Count(string(whole[:n]), "\n")
		if err != nil || state.Note("after", "id") != "x" || (lines > 0) != (state.Note("step0", "id") == "i\n") {
			t.Fatalf("cut at %d: %v, %v", n, state, err)
		}
	}
}

func TestASecondProcessWaitsItsTurn(t *testing.T) {
	_, path := openTest(t)
	if _, err := OpenJournal(path); fault.KindOf(err) != fault.Usage {
		t.Errorf("opened twice: %v", err)
	}
}

func TestADamagedJournalSaysWhatToDo(t *testing.T) {
	path := filepath.Join(t.TempDir(), "journal")
	if err := os.WriteFile(path, []byte("{}\n\x00\x00\x00\n{}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, read := range []func(string) error{
		func(p string) error { _, err := ReadState(p); return err },
		func(p string) error { _, err := OpenJournal(p); return err },
	} {
		if err := read(path); err == nil || !strings.Contains(err.Error(), "line 2") || fault.RemedyOf(err) == "" {
			t.Errorf("read: %v", err)
		}
	}
}

func FuzzJournal(f *testing.F) {
	f.Add([]byte(`{"step":"a","key":"id","value":"1"}` + "\n" + `{"step":"a","forget":true}` + "\n" + `{"st`))
	f.Add([]byte(`{"step":"a","key":"~about","value":"{\"action\":\"create\",\"kind\":\"AMI\"}"}` + "\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		state, whole, err := parseJournal(data)
		if err != nil {
			return
		}
		if whole > len(data) || whole > 0 && data[whole-1] != '\n' {
			t.Errorf("%d of %d bytes are whole", whole, len(data))
		}
		again, n, err := parseJournal(data[:whole])
		if err != nil || n != whole || fmt.Sprint(again) != fmt.Sprint(state) {
			t.Errorf("read again: %v, %v, want %v", again, err, state)
		}
		state.Entries()
		state.Header()
	})
}
