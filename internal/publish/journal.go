package publish

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"nodesmith.dev/nodesmith/internal/fault"
)

// State is what earlier runs noted, by step and key: the snapshot's ID, the
// blocks that were sent. Notes of a step that was undone are gone.
type State map[string]map[string]string

// Note returns a note of a step, "" for none.
func (s State) Note(step, key string) string { return s[step][key] }

// The keys under which Apply itself writes down what a step is about, and that
// it is done.
const (
	aboutKey = "~about"
	doneKey  = "~done"
)

// Entry is what a journal knows of one step that was begun.
type Entry struct {
	Step               string
	Action             Action
	Region, Kind, Name string
	// Done says that the step was carried out.
	Done bool
	// Notes are the step's own: what was made.
	Notes map[string]string
}

// Entries returns the steps that were begun, by ID.
func (s State) Entries() []Entry {
	var entries []Entry
	for _, step := range slices.Sorted(maps.Keys(s)) {
		if step == headerStep {
			continue
		}
		e := Entry{Step: step, Done: s[step][doneKey] != "", Notes: maps.Clone(s[step])}
		// A journal of another version may have other fields: its notes still count.
		_ = json.Unmarshal([]byte(e.Notes[aboutKey]), &about{&e.Action, &e.Region, &e.Kind, &e.Name})
		delete(e.Notes, aboutKey)
		delete(e.Notes, doneKey)
		entries = append(entries, e)
	}
	return entries
}

// about is the value of aboutKey.
type about struct {
	Action *Action `json:"action"`
	Region *string `json:"region"`
	Kind   *string `json:"kind"`
	Name   *string `json:"name"`
}

// begin writes down what a step is about.
func (j *Journal) begin(s *Step) error {
	value, err := json.Marshal(about{&s.Action, &s.Region, &s.Kind, &s.Name})
	if err != nil {
		return err
	}
	if err := j.Note(s.ID, aboutKey, string(value)); err != nil || j.Get(s.ID, doneKey) == "" {
		return err
	}
	return j.Note(s.ID, doneKey, "") // what it made must have gone
}

// end writes down that a step is done; of one that took something away nothing
// is left.
func (j *Journal) end(s *Step) error {
	if s.Action == Delete {
		return j.Forget(s.ID)
	}
	return j.Note(s.ID, doneKey, "true")
}

// note is one line of a journal.
type note struct {
	Step  string `json:"step"`
	Key   string `json:"key,omitempty"`
	Value string `json:"value,omitempty"`
	// Forget takes all notes of the step back.
	Forget bool `json:"forget,omitempty"`
}

// Journal is the file in which a run notes what it is about to make, before it
// makes it, and what it made: a line a note, each on the disk before Note
// returns. It is safe for concurrent use.
type Journal struct {
	mu    sync.Mutex
	file  *os.File
	state State
	watch func(written bool)
}

// Watch has fn called before and after each note is written, for tests that end
// the process there. It is set before the journal is used.
func (j *Journal) Watch(fn func(written bool)) { j.watch = fn }

// OpenJournal opens the journal at path, makes it if it is not there, and reads
// what earlier runs noted. A last line that a killed run did not finish is cut
// off. The file is locked: a second process gets an error.
func OpenJournal(path string) (*Journal, error) {
	for {
		file, err := openLocked(path)
		if err != nil {
			return nil, fmt.Errorf("journal %s: %w", path, err)
		}
		if !named(file) { // housekeeping removed it before the lock was ours
			_ = file.Close()
			continue
		}
		j := &Journal{file: file, watch: func(bool) {}}
		if err := j.read(); err != nil {
			return nil, errors.Join(fmt.Errorf("journal %s: %w", path, err), file.Close())
		}
		return j, nil
	}
}

// openLocked opens the file at path, which it makes if needed, and locks it.
func openLocked(path string) (*os.File, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, err
	}
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if err := lockFile(file); err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return file, nil
}

// named says whether an open file still has the name that it was opened by.
func named(file *os.File) bool {
	now, err := os.Stat(file.Name())
	if err != nil {
		return false
	}
	mine, err := file.Stat()
	return err == nil && os.SameFile(now, mine)
}

// ReadState returns what is noted in the journal at path; nothing if there is
// none.
func ReadState(path string) (State, error) {
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return State{}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("journal: %w", err)
	}
	state, _, err := parseJournal(data)
	if err != nil {
		return nil, fmt.Errorf("journal %s: %w", path, err)
	}
	return state, nil
}

func (j *Journal) read() error {
	data, err := os.ReadFile(j.file.Name())
	if err != nil {
		return err
	}
	state, whole, err := parseJournal(data)
	if err != nil {
		return err
	}
	j.state = state
	if err := j.file.Truncate(int64(whole)); err != nil {
		return err
	}
	_, err = j.file.Seek(int64(whole), 0)
	return err
}

// parseJournal returns the notes, and how many bytes are whole lines.
func parseJournal(data []byte) (State, int, error) {
	state, whole := State{}, bytes.LastIndexByte(data, '\n')+1
	lines := bufio.NewScanner(bytes.NewReader(data[:whole]))
	lines.Buffer(nil, whole+1)
	for number := 1; lines.Scan(); number++ {
		var n note
		if err := json.Unmarshal(lines.Bytes(), &n); err != nil {
			return nil, 0, fault.New(fault.BadSpec, "move the file away and run this again: what it knew of is found by its tags", "line %d: %w", number, err)
		}
		state.take(n)
	}
	return state, whole, lines.Err()
}

func (s State) clone() State {
	clone := make(State, len(s))
	for step, notes := range s {
		clone[step] = maps.Clone(notes)
	}
	return clone
}

func (s State) take(n note) {
	if n.Forget {
		delete(s, n.Step)
		return
	}
	if s[n.Step] == nil {
		s[n.Step] = map[string]string{}
	}
	s[n.Step][n.Key] = n.Value
}

// Note writes one note down.
func (j *Journal) Note(step, key, value string) error {
	return j.write(note{Step: step, Key: key, Value: value})
}

// Forget takes all notes of a step back: what it made is gone.
func (j *Journal) Forget(step string) error { return j.write(note{Step: step, Forget: true}) }

// Get returns a note, "" for none.
func (j *Journal) Get(step, key string) string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.state.Note(step, key)
}

func (j *Journal) write(n note) error {
	line, err := json.Marshal(n)
	if err != nil {
		return err
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	j.watch(false)
	if _, err := j.file.Write(append(line, '\n')); err != nil {
		return fmt.Errorf("journal: %w", err)
	}
	if err := j.file.Sync(); err != nil {
		return fmt.Errorf("journal: %w", err)
	}
	j.state.take(n)
	j.watch(true)
	return nil
}

// Close ends the use of the file.
func (j *Journal) Close() error { return j.file.Close() }
