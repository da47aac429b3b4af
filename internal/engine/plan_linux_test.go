package engine

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/moby/buildkit/client"
	"github.com/moby/buildkit/client/llb"
	"github.com/moby/buildkit/solver/pb"

	"nodesmith.dev/nodesmith/internal/bundle"
	"nodesmith.dev/nodesmith/internal/engine/enginetest"
)

// text returns a bundle with one file of two lines, of which steps read the first.
func (f *fixture) text(t *testing.T, first, second string) llb.State {
	t.Helper()
	state, err := f.inputs.Content(t.Context(), "text", bundle.File{Name: "text", Mode: 0o644, Data: []byte(first + "\n" + second + "\n")})
	if err != nil {
		t.Fatal(err)
	}
	return state
}

// first returns what a step makes of states that it reads; it adds that to base.
func (f *fixture) first(t *testing.T, name string, base llb.State, read ...llb.State) llb.State {
	t.Helper()
	program, err := f.inputs.Content(t.Context(), "guest", bundle.File{Name: "guest", Mode: 0o755, Path: f.guest})
	if err != nil {
		t.Fatal(err)
	}
	options := []llb.RunOption{
		llb.Args([]string{"/program/guest", "first", name}), llb.Network(pb.NetMode_NONE),
		llb.AddMount("/program", program, llb.Readonly), llb.WithCustomName("step " + name),
	}
	for i, state := range read {
		options = append(options, llb.AddMount(fmt.Sprintf("/in/%d", i), state, llb.Readonly))
	}
	return llb.Scratch().Run(options...).AddMount("/out", base)
}

// steps collects how steps ended.
type steps struct {
	mu  sync.Mutex
	ran map[string]bool // false for those whose results were found, wherever
}

func (s *steps) observe(event *client.SolveStatus) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, v := range event.Vertexes {
		// To bring a result from elsewhere looks like running it, after that.
		if _, known := s.ran[v.Name]; !known && v.Started != nil && (v.Cached || v.Completed != nil && v.Error == "") {
			s.ran[v.Name] = !v.Cached
		}
	}
}

// planned is an engine that tells how steps ended.
func (f *fixture) planned(t *testing.T) (*Engine, *steps) {
	t.Helper()
	return f.sharing(t, f.root(), Cache{})
}

// sharing is such an engine on root that shares a cache.
func (f *fixture) sharing(t *testing.T, root string, c Cache) (*Engine, *steps) {
	t.Helper()
	s := &steps{ran: map[string]bool{}}
	e, err := Open(t.Context(), Options{Root: root, Inputs: f.inputs.Blobs, Observe: s.observe, Cache: c})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := e.Close(); err != nil {
			t.Error("closing:", err)
		}
	})
	return e, s
}

// compare plans the state, builds it, and fails where the plan was wrong. It
// returns the plan: a line for each step.
func compare(t *testing.T, e *Engine, s *steps, state llb.State) string {
	t.Helper()
	plan, err := e.Plan(t.Context(), "plan", []llb.State{state}, nil)
	if err != nil {
		t.Fatal(err)
	}
	clear(s.ran)
	if err := e.Solve(t.Context(), "build", state); err != nil {
		t.Fatal(err)
	}
	var lines []string
	for _, step := range plan {
		line := fmt.Sprintf("%s: %s", strings.TrimPrefix(step.Name, "step "), step.State)
		if len(step.DependsOn) > 0 {
			line += " on " + strings.ReplaceAll(strings.Join(step.DependsOn, ", "), "step ", "")
		}
		lines = append(lines, line)
		ran := s.ran[step.Name]
		if ran && step.State != Runs && step.State != Depends || !ran && step.State == Runs {
			t.Errorf("%s: planned %q, ran %v", step.Name, step.State, ran)
		}
		delete(s.ran, step.Name)
	}
	for name, ran := range s.ran {
		if ran && strings.HasPrefix(name, "step ") {
			t.Errorf("%s ran, and is not in the plan", name)
		}
	}
	return strings.Join(lines, "; ")
}

func TestAPlanSaysWhatTheBuildThenDoes(t *testing.T) {
	f := newFixture(t)
	e, s := f.planned(t)
	other := f.first(t, "other", llb.Scratch(), f.text(t, "other", ""))
	graph := func(first, second string) llb.State {
		read := f.first(t, "read", llb.Scratch(), f.text(t, first, second))
		again := f.first(t, "again", llb.Scratch(), read)
		merged := llb.Merge([]llb.State{other, again}, llb.WithCustomName("step merge"))
		return f.first(t, "onto", merged)
	}
	for _, test := range []struct{ name, first, second, want string }{
		{"nothing is there", "a", "1", "other: runs; read: runs; again: runs; merge: runs; onto: runs"},
		{"nothing changed", "a", "1", "other: cached; read: cached; again: cached; merge: cached; onto: cached"},
		{"what a step reads of an input did not change", "a", "2", "other: cached; read: runs; again: depends on read; merge: depends on again; onto: depends on merge"},
		{"what it reads changed", "b", "2", "other: cached; read: runs; again: depends on read; merge: depends on again; onto: depends on merge"},
		{"as it was before", "a", "2", "other: cached; read: cached; again: cached; merge: cached; onto: cached"},
	} {
		if got := compare(t, e, s, graph(test.first, test.second)); got != test.want {
			t.Errorf("%s: %s\nwant %s", test.name, got, test.want)
		}
	}
}

// prune removes everything from the engine's cache that may go and has that
// description; "" for all.
func prune(t *testing.T, e *Engine, description string) {
	t.Helper()
	gone := make(chan client.UsageInfo)
	go func() {
		for range gone {
		}
	}()
	options := []client.PruneOption{client.PruneAll}
	if description != "" {
		options = []client.PruneOption{client.WithFilter([]string{`description~="` + description + `"`})}
	}
	conn, err := e.connection(t.Context())
	if err == nil {
		err = conn.client.Prune(t.Context(), gone, options...)
	}
	close(gone)
	if err != nil {
		t.Fatal(err)
	}
}

// graphs makes random graphs that have steps in common.
type graphs struct {
	f      *fixture
	r      *rand.Rand
	inputs [][2]string // two lines of each
	nodes  []node
}

// node is a step that reads some of the nodes before it, or inputs.
type node struct {
	base   int // a node, or none
	read   []int
	inputs []int
	merge  bool
}

func newGraphs(f *fixture, r *rand.Rand) *graphs {
	g := &graphs{f: f, r: r, inputs: make([][2]string, 3)}
	for i := range 8 {
		n := node{base: -1, merge: i > 2 && r.IntN(4) == 0}
		if i > 0 && r.IntN(3) == 0 {
			n.base = r.IntN(i)
		}
		for range 1 + r.IntN(2) {
			if i > 0 && r.IntN(3) > 0 {
				n.read = append(n.read, r.IntN(i))
			} else {
				n.inputs = append(n.inputs, r.IntN(len(g.inputs)))
			}
		}
		g.nodes = append(g.nodes, n)
	}
	return g
}

// state returns the graph with the inputs of now.
func (g *graphs) state(t *testing.T) llb.State {
	var made []llb.State
	for i, n := range g.nodes {
		name := strconv.Itoa(i)
		base := llb.Scratch()
		if n.base >= 0 {
			base = made[n.base]
		}
		var read []llb.State
		for _, j := range n.read {
			read = append(read, made[j])
		}
		for _, j := range n.inputs {
			read = append(read, g.f.text(t, g.inputs[j][0], g.inputs[j][1]))
		}
		if n.merge {
			made = append(made, llb.Merge([]llb.State{made[i-1], made[i-2], made[i-3]}, llb.WithCustomName("step merge "+name)))
			continue
		}
		made = append(made, g.f.first(t, name, base, read...))
	}
	return llb.Merge(made[len(made)-2:], llb.WithCustomName("step target"))
}

// Whatever is asked for, changed, pruned, and exported by another engine: what a
// plan is sure of happens.
func TestPlansOfRandomGraphsAreExact(t *testing.T) {
	f := newFixture(t)
	shared := filepath.Join(f.dir, "shared")
	e, s := f.sharing(t, f.root(), Cache{From: []string{"type=local,src=" + shared}})
	other, _ := f.sharing(t, filepath.Join(f.dir, "other"), Cache{To: []string{"type=local,dest=" + shared}})
	seed := uint64(1)
	if text := os.Getenv("NODESMITH_TEST_SEED"); text != "" {
		seed, _ = strconv.ParseUint(text, 10, 64)
	}
	rounds := 8
	if text := os.Getenv("NODESMITH_TEST_ROUNDS"); text != "" {
		rounds, _ = strconv.Atoi(text)
	}
	r := rand.New(rand.NewPCG(seed, 0))
	g := newGraphs(f, r)
	states := map[string]int{}
	for round := range rounds {
		if round%12 == 11 {
			g = newGraphs(f, r)
		}
		what := "nothing changed"
		switch r.IntN(5) {
		case 0, 1:
			i, line := r.IntN(len(g.inputs)), r.IntN(2)
			g.inputs[i][line] = strconv.Itoa(r.IntN(3))
			what = fmt.Sprintf("line %d of input %d is %s", line, i, g.inputs[i][line])
		case 2:
			step := "first " + strconv.Itoa(r.IntN(len(g.nodes)))
			prune(t, e, step)
			what = "pruned " + step
		case 3:
			i := r.IntN(len(g.inputs))
			g.inputs[i][0] = strconv.Itoa(r.IntN(3))
			if err := other.ExportCache(t.Context(), "export", g.state(t)); err != nil {
				t.Fatal(err)
			}
			what = fmt.Sprintf("line 0 of input %d is %s, and another engine exported that", i, g.inputs[i][0])
		}
		plan := compare(t, e, s, g.state(t))
		t.Logf("round %d: %s: %s", round, what, plan)
		for _, state := range []StepState{Cached, Runs, Depends, Unneeded} {
			states[string(state)] += strings.Count(plan, ": "+string(state))
		}
		if t.Failed() {
			t.FailNow()
		}
	}
	t.Log(states)
}

func TestAPlanKnowsWhatACacheOfOthersHolds(t *testing.T) {
	f := newFixture(t)
	shared := filepath.Join(f.dir, "shared")
	other, _ := f.sharing(t, filepath.Join(f.dir, "other"), Cache{To: []string{"type=local,dest=" + shared}})
	graph := func(first, second string) llb.State {
		read := f.first(t, "read", llb.Scratch(), f.text(t, first, second))
		return f.first(t, "onto", f.first(t, "again", llb.Scratch(), read))
	}
	if err := other.ExportCache(t.Context(), "export", graph("a", "1")); err != nil {
		t.Fatal(err)
	}
	e, s := f.sharing(t, f.root(), Cache{From: []string{"type=local,src=" + shared}})
	for _, test := range []struct{ name, first, second, want string }{
		{"it holds all", "a", "1", "read: cached; again: cached; onto: cached"},
		{"it holds what would be read", "a", "2", "read: runs; again: depends on read; onto: depends on again"},
		{"it holds another", "b", "2", "read: runs; again: depends on read; onto: depends on again"},
	} {
		if got := compare(t, e, s, graph(test.first, test.second)); got != test.want {
			t.Errorf("%s: %s\nwant %s", test.name, got, test.want)
		}
	}
}

func TestAFileIsReadFromWhatACacheOfOthersHolds(t *testing.T) {
	f := newFixture(t)
	shared := filepath.Join(f.dir, "shared")
	state := f.first(t, "read", llb.Scratch(), f.text(t, "a", "1"))
	other, _ := f.sharing(t, filepath.Join(f.dir, "other"), Cache{To: []string{"type=local,dest=" + shared}})
	if err := other.ExportCache(t.Context(), "export", state); err != nil {
		t.Fatal(err)
	}
	e, s := f.sharing(t, f.root(), Cache{From: []string{"type=local,src=" + shared}})
	if _, err := e.ReadFile(t.Context(), "read", state, "read"); err != nil {
		t.Fatal(err)
	}
	if s.ran["step read"] {
		t.Error("the step ran, and its result is in the folder")
	}
}

func TestAPlanSaysWhichCacheCannotBeRead(t *testing.T) {
	f := newFixture(t)
	var said []string
	e, err := Open(t.Context(), Options{
		Root: f.root(), Inputs: f.inputs.Blobs, Cache: Cache{From: []string{"type=registry,ref=127.0.0.1:1/cache:none"}},
		Log: func(format string, args ...any) { said = append(said, fmt.Sprintf(format, args...)) },
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = e.Close() })
	plan, err := e.Plan(t.Context(), "plan", []llb.State{f.step("sparse")}, nil)
	if err != nil || len(plan) != 1 || plan[0].State != Runs {
		t.Fatalf("%+v, %v", plan, err)
	}
	if text := strings.Join(said, "\n"); !strings.Contains(text, "no cache to import from 127.0.0.1:1/cache:none: ") {
		t.Errorf("said: %s", text)
	}
}

// Another nodesmith's engine answers also where it is called by its address, and a
// buildkitd does not.
func TestOnlyAnEngineOfNodesmithsCanPlan(t *testing.T) {
	f := newFixture(t)
	own, _ := f.planned(t)
	state := f.first(t, "read", llb.Scratch(), f.text(t, "a", "1"))
	if err := own.Solve(t.Context(), "build", state); err != nil {
		t.Fatal(err)
	}
	daemon := enginetest.Start(t, filepath.Join(f.dir, "daemon"))
	for address, want := range map[string]StepState{
		"unix://" + filepath.Join(f.root(), "engine.sock"): Cached,
		daemon.Address(): Unknown,
	} {
		e, err := f.remote(t, Remote{Address: address}, nil)
		if err != nil {
			t.Fatal(err)
		}
		plan, err := e.Plan(t.Context(), "plan", []llb.State{state}, nil)
		if err != nil || len(plan) != 1 || plan[0].State != want {
			t.Errorf("%s: %+v, %v; want %s", address, plan, err, want)
		}
	}
}

func TestAPlanRunsNothing(t *testing.T) {
	f := newFixture(t)
	e, s := f.planned(t)
	state := f.first(t, "read", llb.Scratch(), f.text(t, "a", "1"))
	for range 2 {
		plan, err := e.Plan(t.Context(), "plan", []llb.State{state}, nil)
		if err != nil || len(plan) != 1 || plan[0].State != Runs {
			t.Fatalf("%+v, %v", plan, err)
		}
	}
	if s.ran["step read"] {
		t.Error("the plan ran a step")
	}
	conn, err := e.connection(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	usage, err := conn.client.DiskUsage(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if len(usage) > 0 {
		t.Errorf("the plan left %d results in the cache", len(usage))
	}
}

func TestAnInputThatWasNotFetchedMayMakeAStepRun(t *testing.T) {
	f := newFixture(t)
	e, s := f.planned(t)
	known := f.text(t, "a", "1")
	missing, err := f.inputs.Plan().Lazy(t.Context(), "far", bundle.Source{Key: "far"})
	if err != nil {
		t.Fatal(err)
	}
	if err := e.Solve(t.Context(), "build", f.first(t, "reads", llb.Scratch(), known, f.text(t, "b", "1"))); err != nil {
		t.Fatal(err)
	}
	clear(s.ran)
	for want, state := range map[string]llb.State{
		"depends [input: far]": f.first(t, "reads", llb.Scratch(), known, missing),
		"runs []":              f.first(t, "reads", llb.Scratch(), f.text(t, "new", "1"), missing),
	} {
		plan, err := e.Plan(t.Context(), "plan", []llb.State{state}, nil)
		if err != nil {
			t.Fatal(err)
		}
		i := slices.IndexFunc(plan, func(s PlannedStep) bool { return s.Name == "step reads" })
		if got := fmt.Sprint(plan[i].State, " ", plan[i].DependsOn); got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
}
