package engine

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	bolt "go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"
	"golang.org/x/sys/unix"

	"nodesmith.dev/nodesmith/internal/atomicfile"
)

// BuildKit keeps what it knows in bbolt databases, which have checksums of their
// first pages alone. A bit that flipped elsewhere ends the process, in whichever
// goroutine meets it, or makes solves fail for ever. So a process that runs an
// engine leaves its last words in the state directory if it crashes, and a note if a
// solve fails of the engine's own; the next one looks at both, and makes the cache
// anew when it has to. So it does where the machine stopped under an engine: of
// results it writes out what it knows, not what they hold. Nothing is lost by that
// but time.

const (
	// lastWords is what the runtime writes when this process crashes.
	lastWords = "crash.txt"
	// doubtful is there after a solve that no step failed.
	doubtful = "doubtful"
	// maxLastWords bounds what is read of them: the goroutine that crashed is first.
	maxLastWords = 64 << 10
	lockFile     = "engine.lock"
	// running is there while an engine runs, and says since which start of the
	// machine.
	running = "running"
	// bootID tells the starts of a machine apart (random(4)).
	bootID = "/proc/sys/kernel/random/boot_id"
)

var (
	errCrashed = errors.New("the last nodesmith crashed while it read them")
	errStopped = errors.New("the machine stopped while a nodesmith wrote them")
)

// stopped says whether the machine has stopped under the engine that was here last.
func stopped(root string) bool {
	since, err := os.ReadFile(filepath.Join(root, running))
	if err != nil {
		return false // it ended as it should
	}
	now, err := os.ReadFile(bootID)
	return err == nil && !bytes.Equal(since, now)
}

// keepRunning notes that an engine runs. The note goes with stop, when the disk has
// what the engine made; it stays if the user, who interrupts, does not wait for that.
func keepRunning(root string, interrupted <-chan struct{}) (stop func() error, err error) {
	now, err := os.ReadFile(bootID)
	if err != nil {
		return nil, fmt.Errorf("engine state: %w", err)
	}
	name := filepath.Join(root, running)
	if err := atomicfile.WriteFile(name, root, now, 0o600); err != nil {
		return nil, fmt.Errorf("engine state: %w", err)
	}
	return func() error {
		select {
		case <-interrupted:
			return nil
		default:
		}
		dir, err := os.Open(root)
		if err != nil {
			return fmt.Errorf("engine state: %w", err)
		}
		defer func() { _ = dir.Close() }() // only read
		if err := unix.Syncfs(int(dir.Fd())); err != nil {
			return fmt.Errorf("engine state: %w", err)
		}
		return os.Remove(name)
	}, nil
}

// keepLastWords has the runtime write a crash into root until stop is called.
func keepLastWords(root string) (stop func(), err error) {
	name := filepath.Join(root, lastWords)
	file, err := os.OpenFile(name, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, fmt.Errorf("engine state: %w", err)
	}
	defer func() { _ = file.Close() }() // the runtime has a descriptor of its own
	if err := debug.SetCrashOutput(file, debug.CrashOptions{}); err != nil {
		return nil, fmt.Errorf("engine state: %w", err)
	}
	return func() {
		_ = debug.SetCrashOutput(nil, debug.CrashOptions{})
		_ = os.Remove(name)
	}, nil
}

// crashedInDatabase says whether the process that ran the engine before crashed
// while it used a database.
func crashedInDatabase(root string) bool {
	file, err := os.Open(filepath.Join(root, lastWords))
	if err != nil {
		return false // it ended as it should, or was killed
	}
	defer func() { _ = file.Close() }() // only read
	text, err := io.ReadAll(io.LimitReader(file, maxLastWords))
	const goroutine = "\ngoroutine "
	before, after, _ := strings.Cut(string(text), goroutine)
	crashed, _, _ := strings.Cut(after, goroutine)
	return err == nil && strings.Contains(before+crashed, "go.etcd.io/bbolt")
}

// doubt notes that a solve failed for what no step did.
func doubt(root string, failure error) {
	if !strings.Contains(failure.Error(), "exit code: ") {
		_ = os.WriteFile(filepath.Join(root, doubtful), nil, 0o600) // a note only
	}
}

// damaged says what is wrong with the databases, if the last process had a reason
// to doubt them; it ends this process where one is so damaged that bbolt does not
// survive reading it, and the next one knows by that.
func damaged(root string) error {
	note := filepath.Join(root, doubtful)
	if _, err := os.Lstat(note); err != nil {
		return nil //nolint:nilerr // no doubt
	}
	for _, pattern := range []string{"*.db", "runc-*/*.db", "runc-*/snapshots/*.db"} {
		names, err := filepath.Glob(filepath.Join(root, pattern))
		if err != nil {
			return err
		}
		for _, name := range names {
			if err := checkDatabase(name); err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
		}
	}
	_ = os.Remove(note)
	return nil
}

// checkDatabase returns the first inconsistency of a database.
func checkDatabase(name string) error {
	db, err := bolt.Open(name, 0o600, &bolt.Options{ReadOnly: true, Timeout: time.Second})
	if err != nil {
		return err
	}
	defer func() { _ = db.Close() }() // only read
	return db.View(func(tx *bolt.Tx) (first error) {
		for err := range tx.Check() {
			if first == nil {
				first = err
			}
		}
		return first
	})
}

// noDatabase says whether a database has not even its first pages.
func noDatabase(err error) bool {
	return errors.Is(err, bolterrors.ErrInvalid) || errors.Is(err, bolterrors.ErrChecksum) || errors.Is(err, bolterrors.ErrVersionMismatch)
}

// forget removes the engine's state, all but what this process holds open.
func forget(root string) error {
	entries, err := os.ReadDir(root)
	if err != nil {
		return fmt.Errorf("engine state: %w", err)
	}
	for _, entry := range entries {
		if slices.Contains([]string{lockFile, lastWords, running}, entry.Name()) {
			continue
		}
		if err := os.RemoveAll(filepath.Join(root, entry.Name())); err != nil {
			return fmt.Errorf("engine state: %w", err)
		}
	}
	return nil
}
