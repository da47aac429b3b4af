// Package publishtest is the suite that every Publisher passes.
//
// What comes in is a server that others wrote, behind a Proxy of this package,
// and how to open the publisher and an image; what goes out is whether
// publishing there is idempotent, goes on after a kill, a cut connection or a
// storm of refusals, and leaves one right image or none. A killed run is a
// process of its own that ends itself with SIGKILL between two notes of its
// journal.
package publishtest

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"testing"

	"nodesmith.dev/nodesmith/internal/publish"
)

// Server is a place on a server.
type Server interface {
	// Args is what Open gets to reach the place, through the proxy.
	Args() []string
	// Proxy is what all requests pass through.
	Proxy() *Proxy
	// Check fails the test unless the image is there once, whole, and nothing else
	// of this project's is; or, if it should not be present, nothing at all. It
	// looks itself, past the publisher and the proxy.
	Check(t testing.TB, image publish.Image, present bool)
	// Use has something use the published image until undo is called.
	Use(t testing.TB, image publish.Image) (undo func())
}

// Throttled is a fault as the server's API throttles; most answer so.
var Throttled = Fault{Status: http.StatusServiceUnavailable, Header: http.Header{"Retry-After": {"0"}}, Body: "slow down"}

// Suite is how the suite is run.
type Suite struct {
	Open Open
	// Start starts the server; it ends with the test.
	Start func(t testing.TB) Server
	// Throttled is how the API throttles; the package's if it is zero.
	Throttled Fault
	// Kills and Faults are how many places of a kill and how many random faults
	// are tried; 0 means 6 and 10. NODESMITH_FAULTS stands in for both.
	Kills, Faults int
}

// Run runs the suite.
func Run(t *testing.T, s Suite) {
	if s.Throttled.Status == 0 {
		s.Throttled = Throttled
	}
	set := func(n *int, fallback int) {
		if many, err := strconv.Atoi(os.Getenv("NODESMITH_FAULTS")); err == nil {
			*n = many
		} else if *n == 0 {
			*n = fallback
		}
	}
	set(&s.Kills, 6)
	set(&s.Faults, 10)
	server := s.Start(t)
	publisher, image, err := s.Open(t.Context(), server.Args())
	if err != nil {
		t.Fatal(err)
	}
	c := &suite{Suite: s, server: server, publisher: publisher, image: image}
	t.Run("PublishingTwiceDoesNothingTheSecondTime", c.twice)
	t.Run("WhatAKillLeftIsFinished", c.kills)
	t.Run("WhatAKillLeftCanBeRetracted", c.retractAfterKill)
	t.Run("WhatIsInUseIsKept", c.inUse)
	t.Run("ThrottlingPasses", c.throttling)
	t.Run("CutConnectionsPass", c.cuts)
	t.Run("RandomFaultsPass", c.faults)
}

type suite struct {
	Suite
	server    Server
	publisher publish.Publisher
	image     publish.Image
}

func journalPath(t testing.TB) string { return filepath.Join(t.TempDir(), "journal") }

func (s *suite) publish(t testing.TB, journal string, watch func(bool)) {
	t.Helper()
	if err := run(t.Context(), s.publisher, s.image, journal, watch); err != nil {
		t.Fatalf("publish: %v", err)
	}
}

// retract takes the image away, and holds that nothing is left.
func (s *suite) retract(t testing.TB, journal string) *publish.Plan {
	t.Helper()
	j, err := publish.OpenJournal(journal)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = j.Close() }()
	plan, err := publish.MakeRetract(t.Context(), s.publisher, s.image.Digest, j.State(), policy)
	if err != nil {
		t.Fatalf("retract: %v", err)
	}
	if err := publish.Apply(t.Context(), plan, j, publish.Options{Reporter: Silent{}, Retry: policy}); err != nil {
		t.Fatalf("retract: %v", err)
	}
	return plan
}

// nothingToDo holds that a plan made now has nothing to do.
func (s *suite) nothingToDo(t testing.TB, journal string) {
	t.Helper()
	state, err := publish.ReadState(journal)
	if err != nil {
		t.Fatal(err)
	}
	for _, earlier := range []publish.State{state, {}} { // also for who has no journal
		plan, err := publish.MakePlan(t.Context(), s.publisher, s.image, earlier, policy)
		if err != nil {
			t.Fatalf("plan: %v", err)
		}
		for _, step := range plan.Steps {
			if step.Do != nil || step.Action != publish.Exists && step.Action != publish.Keep {
				t.Errorf("%d notes: published already, and the plan has %s %s %s", len(earlier), step.Action, step.Kind, step.Name)
			}
		}
		if plan.Bytes() != 0 {
			t.Errorf("published already, and the plan sends %d bytes", plan.Bytes())
		}
	}
}

func (s *suite) twice(t *testing.T) {
	journal := journalPath(t)
	plan, err := publish.MakePlan(t.Context(), s.publisher, s.image, publish.State{}, policy)
	if err != nil {
		t.Fatal(err)
	}
	if len(plan.Steps) == 0 || plan.Bytes() == 0 || plan.Place != s.publisher.Place() || plan.Image != s.image.Digest {
		t.Errorf("the plan is %+v", plan)
	}
	s.server.Check(t, s.image, false) // a plan changes nothing
	s.publish(t, journal, nil)
	s.server.Check(t, s.image, true)
	s.nothingToDo(t, journal)
	s.publish(t, journal, nil)
	s.server.Check(t, s.image, true)
	s.listed(t)
	state, err := publish.ReadState(journal)
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range state.Entries() {
		if !entry.Done {
			t.Errorf("the journal says that %s is not done", entry.Step)
		}
	}
	s.retract(t, journal)
	s.server.Check(t, s.image, false)
	if plan := s.retract(t, journal); slices.ContainsFunc(plan.Steps, func(s publish.Step) bool { return s.Do != nil }) {
		t.Errorf("retracted already, and the plan has %+v", plan.Steps)
	}
}

// listed holds that the published image is in the list.
func (s *suite) listed(t testing.TB) {
	t.Helper()
	all, err := publish.ListAll(t.Context(), s.publisher, policy)
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(all, func(p publish.Published) bool { return p.Digest == s.image.Digest })
	if i < 0 {
		t.Fatalf("the list has %+v", all)
	}
	if p := all[i]; p.Place != s.publisher.Place() || p.ID == "" || p.Name == "" || p.Kubernetes != s.image.Kubernetes || p.Level != s.image.Level.String() || len(p.UsedBy) > 0 {
		t.Errorf("listed as %+v", p)
	}
}

// notes counts the notes of a run that nothing disturbs.
func (s *suite) notes(t testing.TB) int {
	t.Helper()
	journal, count := journalPath(t), 0
	s.publish(t, journal, func(written bool) {
		if written {
			count++
		}
	})
	s.retract(t, journal)
	return count
}

// points chooses at most n of the moments before and after each note.
func points(notes, n int) []int {
	all := rand.New(rand.NewPCG(1, 2)).Perm(2 * notes)
	return all[:min(n, len(all))]
}

func (s *suite) kills(t *testing.T) {
	for _, point := range points(s.notes(t), s.Kills) {
		kill := child{Args: s.server.Args(), Journal: journalPath(t), Kill: point/2 + 1, Written: point%2 == 1}
		t.Run(fmt.Sprintf("note %d, written %v", kill.Kill, kill.Written), func(t *testing.T) {
			kill.start(t) // it may be done before, where notes come in another order
			s.publish(t, kill.Journal, nil)
			s.server.Check(t, s.image, true)
			s.nothingToDo(t, kill.Journal)
			s.retract(t, kill.Journal)
			s.server.Check(t, s.image, false)
		})
	}
}

func (s *suite) retractAfterKill(t *testing.T) {
	for _, point := range points(s.notes(t), max(2, s.Kills/3)) {
		kill := child{Args: s.server.Args(), Journal: journalPath(t), Kill: point/2 + 1, Written: point%2 == 1}
		t.Run(fmt.Sprintf("note %d, written %v", kill.Kill, kill.Written), func(t *testing.T) {
			kill.start(t)
			s.retract(t, kill.Journal)
			s.server.Check(t, s.image, false)
		})
	}
}

func (s *suite) inUse(t *testing.T) {
	journal := journalPath(t)
	s.publish(t, journal, nil)
	undo := s.server.Use(t, s.image)
	plan := s.retract(t, journal)
	if !slices.ContainsFunc(plan.Steps, func(s publish.Step) bool { return s.Action == publish.Keep && s.Why != "" }) {
		t.Errorf("what is in use is not kept: %+v", plan.Steps)
	}
	all, err := publish.ListAll(t.Context(), s.publisher, policy)
	if err != nil || !slices.ContainsFunc(all, func(p publish.Published) bool { return p.Digest == s.image.Digest && len(p.UsedBy) > 0 }) {
		t.Errorf("the list does not say what uses the image: %+v, %v", all, err)
	}
	undo()
	s.server.Check(t, s.image, true)
	s.retract(t, journal)
	s.server.Check(t, s.image, false)
}

// undisturbed publishes with faults, then holds the result without.
func (s *suite) undisturbed(t *testing.T, faults ...Fault) {
	t.Helper()
	journal := journalPath(t)
	for _, f := range faults {
		s.server.Proxy().Spoil(f)
	}
	s.publish(t, journal, nil)
	s.server.Proxy().Heal()
	s.server.Check(t, s.image, true)
	s.nothingToDo(t, journal)
	s.retract(t, journal)
	s.server.Check(t, s.image, false)
}

func (s *suite) throttling(t *testing.T) {
	var storm []Fault
	for skip := range 10 { // three in a row, then a pause
		f := s.Throttled
		f.Skip, f.Times = 3*skip, 3
		storm = append(storm, f)
	}
	s.undisturbed(t, storm...)
}

func (s *suite) cuts(t *testing.T) {
	var cuts []Fault
	for skip := range 8 {
		cuts = append(cuts, Fault{Skip: 4 * skip, Cut: -1}, Fault{Skip: 4*skip + 2, LoseAnswer: true}, Fault{Skip: 4 * skip, Cut: 700})
	}
	s.undisturbed(t, cuts...)
}

func (s *suite) faults(t *testing.T) {
	before := s.server.Proxy().Requests()
	notes := s.notes(t)
	requests := max(1, s.server.Proxy().Requests()-before)
	for i := range s.Faults {
		random := rand.New(rand.NewPCG(uint64(i), 8))
		t.Run(strconv.Itoa(i), func(t *testing.T) {
			if random.IntN(2) == 0 {
				kill := child{Args: s.server.Args(), Journal: journalPath(t), Kill: 1 + random.IntN(notes), Written: random.IntN(2) == 0}
				kill.start(t)
				s.publish(t, kill.Journal, nil)
				s.server.Check(t, s.image, true)
				s.retract(t, kill.Journal)
				s.server.Check(t, s.image, false)
				return
			}
			f := []Fault{s.Throttled, {Cut: -1}, {LoseAnswer: true}, {Cut: 1 + random.Int64N(1<<20)}}[random.IntN(4)]
			f.Skip, f.Times = random.IntN(requests), 1+random.IntN(3)
			s.undisturbed(t, f)
		})
	}
}
