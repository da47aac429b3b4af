package display

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tonistiigi/vt100"

	"nodesmith.dev/nodesmith/internal/build/tree"
	"nodesmith.dev/nodesmith/internal/progress"
	"nodesmith.dev/nodesmith/internal/report"
	"nodesmith.dev/nodesmith/internal/report/reporttest"
)

// record says that the files of what is expected are written anew. The run then
// fails: somebody has to look at them.
var record = os.Getenv("NODESMITH_RECORD") != ""

// recorded returns the events of a build that testdata/README.md names.
func recorded(t *testing.T, name string) (events []progress.Event) {
	t.Helper()
	file, err := os.Open(filepath.Join("testdata", name+".jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	for lines := bufio.NewScanner(file); lines.Scan(); {
		var document report.Progress
		if err := json.Unmarshal(lines.Bytes(), &document); err != nil {
			t.Fatal(err)
		}
		events = append(events, document.Event)
	}
	return events
}

// golden compares got with a file of testdata.
func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if record {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		t.Errorf("%s is written: look at it", path)
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s:\n%s\nwant:\n%s", path, got, want)
	}
}

// at is the model of a recorded build after some time.
func at(t *testing.T, name string, after time.Duration) (*Model, time.Time) {
	t.Helper()
	events := recorded(t, name)
	m := NewModel("debian-12: debian 12, Kubernetes v1.34.0, amd64", events[0].Time, tree.Stages())
	now := events[0].Time.Add(after)
	for _, e := range events {
		if !e.Time.After(now) {
			m.Apply(e)
		}
	}
	return m, now
}

var frames = []struct {
	name, build   string
	after         time.Duration
	columns, rows int
	ending        bool
}{
	{"reading inputs", "cold", 20 * time.Second, 100, 40, false},
	{"reading inputs, few rows", "cold", 20 * time.Second, 80, 10, false},
	{"installing packages", "cold", 155 * time.Second, 100, 30, false},
	{"installing packages, few columns", "cold", 155 * time.Second, 50, 30, false},
	{"installing packages, fewest rows", "cold", 155 * time.Second, 80, 4, false},
	{"interrupted", "cold", 160 * time.Second, 100, 30, true},
	{"one file of the user's changed", "user-file", time.Hour, 100, 30, false},
	{"a failed script", "failing-script", time.Hour, 100, 30, false},
	{"no room", "cold", 20 * time.Second, 1, 1, false},
}

func TestFramesOfRecordedBuilds(t *testing.T) {
	var text strings.Builder
	for _, f := range frames {
		m, now := at(t, f.build, f.after)
		if f.after == time.Hour { // once all is done
			events := recorded(t, f.build)
			now = events[len(events)-1].Time
		}
		m.Ending = f.ending
		size := Size{f.columns, f.rows}
		frame := m.Frame(now, size, false)
		fmt.Fprintf(&text, "== %s: %d columns, %d rows\n%s\n\n", f.name, f.columns, f.rows, strings.Join(frame, "\n"))
		if len(frame) >= f.rows && f.rows > 1 {
			t.Errorf("%s: %d lines", f.name, len(frame))
		}
		for _, l := range frame {
			if wide := columnsOf([]piece{{text: l}}); wide >= f.columns {
				t.Errorf("%s: %d columns: %s", f.name, wide, l)
			}
		}
		if again := m.Frame(now, size, false); !slices.Equal(frame, again) {
			t.Errorf("%s: another frame of the same model", f.name)
		}
		coloured := m.Frame(now, size, true)
		for i := range coloured {
			if colours.ReplaceAllString(coloured[i], "") != frame[i] {
				t.Errorf("%s: colours change %q to %q", f.name, frame[i], coloured[i])
			}
		}
	}
	golden(t, "frames.txt", text.String())
}

func TestPlainLinesOfRecordedBuilds(t *testing.T) {
	for _, build := range []string{"user-file", "failing-script", "interrupted"} {
		var text bytes.Buffer
		events := recorded(t, build)
		p := Plain(&text, events[0].Time)
		for _, e := range events {
			p.Event(e)
		}
		golden(t, build+".plain.txt", text.String())
	}
}

func TestEachEventIsOneLineOfJSONThatFitsTheSchema(t *testing.T) {
	var text bytes.Buffer
	j := JSON(&text)
	var types []progress.Type
	for _, build := range []string{"cold", "user-file", "failing-script", "interrupted"} {
		for _, e := range recorded(t, build) {
			if !slices.Contains(types, e.Type) { // one of each: a schema takes its time
				types = append(types, e.Type)
				if e.Type != report.Errored && e.Type != report.Succeeded {
					j.Event(e)
				}
			}
		}
	}
	j.Event(progress.Event{Time: time.Now(), Type: progress.Message, Text: "two\nlines"})
	for line := range strings.Lines(text.String()) {
		reporttest.Validate(t, report.ProgressKind, []byte(line))
	}
	for _, known := range append(progress.Types(), report.Succeeded, report.Errored) {
		if !slices.Contains(types, known) && known != progress.Message {
			t.Errorf("no event %q was recorded", known)
		}
	}
}

// emulator is a terminal that remembers what was written to it.
type emulator struct {
	mu     sync.Mutex
	screen *vt100.VT100
	writes int
}

func newEmulator(size Size) *emulator {
	return &emulator{screen: vt100.NewVT100(size.Rows, size.Columns)}
}

func (e *emulator) Write(p []byte) (int, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.writes++
	return e.screen.Write(p)
}

func (e *emulator) Size() (Size, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	return Size{Columns: e.screen.Width, Rows: e.screen.Height}, nil
}

// text is what a person sees on it.
func (e *emulator) text() string {
	e.mu.Lock()
	defer e.mu.Unlock()
	var rows []string
	for _, row := range e.screen.Content {
		rows = append(rows, strings.TrimRight(string(row), " "))
	}
	return strings.TrimRight(strings.Join(rows, "\n"), "\n")
}

func TestAFrameTakesThePlaceOfTheOneBefore(t *testing.T) {
	on := newEmulator(Size{40, 12})
	s := &screen{terminal: on}
	size := Size{40, 12}
	check := func(what, want string) {
		t.Helper()
		if got := on.text(); got != want {
			t.Errorf("%s:\n%s\nwant:\n%s", what, got, want)
		}
	}
	_, _ = on.Write([]byte("$ nodesmith build\r\n"))
	s.draw(nil, []string{"title", "a long line of a step", "c"}, size)
	check("the first", "$ nodesmith build\ntitle\na long line of a step\nc")
	s.draw([]string{"a message"}, []string{"title", "short"}, size)
	check("a shorter one, with a message", "$ nodesmith build\na message\ntitle\nshort")
	before := on.writes
	s.draw(nil, []string{"title", "short"}, size)
	if on.writes != before {
		t.Error("an unchanged frame was written")
	}
	_, _ = on.Write([]byte("^C")) // as the terminal echoes it
	s.draw(nil, nil, size)
	check("none", "$ nodesmith build\na message")
}

// A terminal that becomes narrower wraps what was drawn.
func TestWhatATerminalWrapsIsErasedToo(t *testing.T) {
	on := newEmulator(Size{20, 12})
	s := &screen{terminal: on}
	_, _ = on.Write([]byte("$ nodesmith build\r\n"))
	frame := []string{"title", "\x1b[1m123456789012345678901234567890\x1b[0m", "c"}
	s.draw(nil, frame, Size{40, 12}) // of 40 columns: the emulator shows it as one of 20 does
	s.draw(nil, []string{"title"}, Size{20, 12})
	if got, want := on.text(), "$ nodesmith build\ntitle"; got != want {
		t.Errorf("%s\nwant:\n%s", got, want)
	}
}

func TestALiveDisplayLeavesNothingButMessages(t *testing.T) {
	on := newEmulator(Size{100, 30})
	events := recorded(t, "cold")
	began := time.Now()
	l := Live(t.Context(), on, NewModel("debian-12", events[0].Time, tree.Stages()), true)
	for i, e := range events {
		l.Event(e)
		if i%200 == 0 { // several frames
			time.Sleep(refresh)
		}
	}
	l.Event(progress.Event{Time: time.Now(), Type: progress.Message, Text: "an important thing"})
	for !strings.Contains(on.text(), "os: configure") && time.Since(began) < time.Minute {
		time.Sleep(refresh)
	}
	l.Close()
	l.Close()
	if on.writes < 2 || on.writes > int(time.Since(began)/refresh)+2 {
		t.Errorf("%d frames in %s", on.writes, time.Since(began))
	}
	if got := on.text(); got != "an important thing" {
		t.Errorf("left behind:\n%s", got)
	}
	if x, y := on.screen.Cursor.X, on.screen.Cursor.Y; x != 0 || y != 1 {
		t.Errorf("the cursor is at %d, %d", x, y)
	}
}

func TestALineIsAsWideAsItsCharacters(t *testing.T) {
	for text, want := range map[string]int{"abc": 3, "naïve": 5, "日本": 4, "e\u0301": 1, "✓": 1, "👍": 2, "": 0} {
		if got := columnsOf([]piece{{text: text}}); got != want {
			t.Errorf("%q: %d columns, want %d", text, got, want)
		}
	}
	for _, test := range []struct {
		left    string
		columns int
		want    string
	}{{"short", 12, "short    end"}, {"much too long", 12, "much to… end"}, {"日本日本日本", 12, "日本日…  end"}, {"x", 2, "…"}} {
		got := line{left: []piece{{text: test.left}}, right: []piece{{text: "end"}}}.render(test.columns, false)
		if test.columns > 4 && got != test.want {
			t.Errorf("%q in %d columns: %q, want %q", test.left, test.columns, got, test.want)
		}
	}
}
