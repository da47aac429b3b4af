// Package publishtest is the suite that every Publisher passes.
//
// What comes in is a server that others wrote, behind a proxy that spoils
// requests, and how to open the publisher and an image; what goes out is whether
// publishing there is idempotent, goes on after a kill, a cut connection or a
// storm of refusals, and leaves one right image or none. A killed run is a
// process of its own that gets SIGKILL between two notes of its journal, or
// within a request.
package publishtest

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"testing"

	"nodesmith.dev/nodesmith/internal/publish"
	"nodesmith.dev/nodesmith/internal/publish/publishtest/faultproxy"
)

// Server is a place on a server.
type Server interface {
	// Args is what Open gets to reach the place, through the proxy.
	Args() []string
	// Proxy is what all requests pass through.
	Proxy() *faultproxy.Proxy
	// Check fails the test unless the image is there once, whole, and nothing else
	// of this project's is; or, if it should not be present, nothing at all. It
	// looks itself, past the publisher and the proxy.
	Check(t testing.TB, image publish.Image, present bool)
	// Use has something use the published image until undo is called; nil where what
	// is made of an image is a copy that uses nothing.
	Use(t testing.TB, image publish.Image) (undo func())
}

// Throttled is how most APIs throttle.
var Throttled = faultproxy.Answer(http.StatusServiceUnavailable, http.Header{"Retry-After": {"0"}}, "slow down")

// Suite is how the suite is run.
type Suite struct {
	Open Open
	// Start starts the server; it ends with the test.
	Start func(t testing.TB) Server
	// Throttled is how the API throttles; the package's Throttled if it is nil.
	Throttled faultproxy.Effect
	// Kills and Faults are how many places of a kill and how many random faults
	// are tried; 0 means 6 and 10. NODESMITH_FAULTS stands in for both.
	Kills, Faults int
}

// Run runs the suite.
func Run(t *testing.T, s Suite) {
	if s.Throttled == nil {
		s.Throttled = Throttled
	}
	s.Kills, s.Faults = count(s.Kills, 6), count(s.Faults, 10)
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

// count is how many faults are tried.
func count(wanted, fallback int) int {
	if many, err := strconv.Atoi(os.Getenv("NODESMITH_FAULTS")); err == nil {
		return many
	}
	return cmp.Or(wanted, fallback)
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

// measure counts the notes and the requests of a run that nothing disturbs, and
// the requests of its retraction.
func (s *suite) measure(t testing.TB) (notes, publishing, retracting int) {
	t.Helper()
	journal, before := journalPath(t), s.server.Proxy().Requests()
	s.publish(t, journal, func(written bool) {
		if written {
			notes++
		}
	})
	between := s.server.Proxy().Requests()
	s.retract(t, journal)
	return notes, between - before, s.server.Proxy().Requests() - between
}

// points chooses at most n of the moments before and after each note.
func points(notes, n int) []int {
	all := rand.New(rand.NewPCG(1, 2)).Perm(2 * notes)
	return all[:min(n, len(all))]
}

func (s *suite) kills(t *testing.T) {
	notes, _, _ := s.measure(t)
	for _, point := range points(notes, s.Kills) {
		kill := child{Args: s.server.Args(), Journal: journalPath(t), Kill: point/2 + 1, Written: point%2 == 1}
		t.Run(fmt.Sprintf("note %d, written %v", kill.Kill, kill.Written), func(t *testing.T) {
			kill.start(t, s.server.Proxy()) // it may be done before, where notes come in another order
			s.finish(t, kill.Journal)
		})
	}
}

func (s *suite) retractAfterKill(t *testing.T) {
	notes, _, _ := s.measure(t)
	for _, point := range points(notes, max(2, s.Kills/3)) {
		kill := child{Args: s.server.Args(), Journal: journalPath(t), Kill: point/2 + 1, Written: point%2 == 1}
		t.Run(fmt.Sprintf("note %d, written %v", kill.Kill, kill.Written), func(t *testing.T) {
			kill.start(t, s.server.Proxy())
			s.retract(t, kill.Journal)
			s.server.Check(t, s.image, false)
		})
	}
}

func (s *suite) inUse(t *testing.T) {
	journal := journalPath(t)
	s.publish(t, journal, nil)
	undo := s.server.Use(t, s.image)
	if undo == nil {
		s.retract(t, journal)
		return
	}
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

// finish publishes to the end what a journal began, holds the result, and takes it
// away.
func (s *suite) finish(t *testing.T, journal string) {
	t.Helper()
	s.publish(t, journal, nil)
	s.server.Proxy().Clear()
	s.server.Check(t, s.image, true)
	s.nothingToDo(t, journal)
	s.retract(t, journal)
	s.server.Check(t, s.image, false)
}

// spoiled publishes with faults, then holds the result without.
func (s *suite) spoiled(t *testing.T, faults ...faultproxy.Fault) {
	t.Helper()
	for _, f := range faults {
		s.server.Proxy().Add(f)
	}
	s.finish(t, journalPath(t))
}

func (s *suite) throttling(t *testing.T) {
	var storm []faultproxy.Fault
	for skip := range 10 { // three in a row, then a pause
		storm = append(storm, faultproxy.Fault{Skip: 6 * skip, Times: 3, Do: s.Throttled})
	}
	s.spoiled(t, storm...)
}

func (s *suite) cuts(t *testing.T) {
	var cuts []faultproxy.Fault
	for skip := range 8 {
		cuts = append(cuts,
			faultproxy.Fault{Skip: 8 * skip, Do: faultproxy.CutRequest(0)}, faultproxy.Fault{Skip: 8*skip + 1, Do: faultproxy.CutMidway(700)},
			faultproxy.Fault{Skip: 8*skip + 5, Do: faultproxy.CutAnswer(0)})
	}
	s.spoiled(t, cuts...)
}

func (s *suite) faults(t *testing.T) {
	notes, publishing, retracting := s.measure(t)
	hits := 0
	for i := range s.Faults {
		random := rand.New(rand.NewPCG(uint64(i), 8))
		t.Run(strconv.Itoa(i), func(t *testing.T) {
			switch random.IntN(6) {
			case 0, 1:
				kill := child{Args: s.server.Args(), Journal: journalPath(t), Kill: 1 + random.IntN(notes), Written: random.IntN(2) == 0}
				if kill.start(t, s.server.Proxy()) {
					hits++
				}
				s.finish(t, kill.Journal)
			case 2:
				killed := child{Args: s.server.Args(), Journal: journalPath(t)}
				if killed.startAndKill(t, s.server.Proxy(), random.IntN(publishing), random.IntN(2) == 0) {
					hits++
				}
				s.finish(t, killed.Journal)
			case 3, 4:
				hits += s.hit(t, s.effect(random), random.IntN(publishing), 1+random.IntN(3), s.finish)
			default:
				journal := journalPath(t)
				s.publish(t, journal, nil)
				hits += s.hit(t, s.effect(random), random.IntN(retracting), 1+random.IntN(3), func(t *testing.T, _ string) {
					s.retract(t, journal)
					s.server.Proxy().Clear()
					s.server.Check(t, s.image, false)
				})
			}
		})
	}
	// Runs differ in how often they look whether something is done.
	t.Logf("of %d faults %d struck", s.Faults, hits)
	if 2*hits < s.Faults {
		t.Errorf("of %d faults only %d struck", s.Faults, hits)
	}
}

// effect chooses what happens to a request.
func (s *suite) effect(random *rand.Rand) faultproxy.Effect {
	return []faultproxy.Effect{
		s.Throttled, faultproxy.CutRequest(0), faultproxy.CutAnswer(0), faultproxy.CutMidway(1 + random.Int64N(1<<20)),
	}[random.IntN(4)]
}

// hit runs something while requests meet an effect, and returns 1 if one did.
func (s *suite) hit(t *testing.T, do faultproxy.Effect, skip, times int, run func(*testing.T, string)) int {
	t.Helper()
	fault := s.server.Proxy().Add(faultproxy.Fault{Skip: skip, Times: times, Do: do})
	run(t, journalPath(t))
	return min(1, s.server.Proxy().Hits(fault))
}
