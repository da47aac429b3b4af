package vmtest

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"
	"unicode"
)

// ChannelName is the virtio-serial port over which a guest reports; udev shows
// it as /dev/virtio-ports/org.nodesmith.report.0.
const ChannelName = "org.nodesmith.report.0"

// Limits of a report. A guest is not trusted with the host's memory or terminal.
const (
	maxLine     = 64 << 10 // bytes
	maxChecks   = 256
	maxEvidence = 2000 // characters
)

// Status is what became of a check.
type Status string

// The statuses that a guest may report.
const (
	Pass Status = "pass"
	Fail Status = "fail"
)

// Check is one thing that was proven or disproven, with what was seen.
type Check struct {
	ID       string `json:"id"` // words joined by dots and dashes: root.grown
	Status   Status `json:"status"`
	Evidence string `json:"evidence"` // one printable line
}

var checkID = regexp.MustCompile(`^[a-z0-9]+([.-][a-z0-9]+)*$`)

// errNoEnd means that a channel ended before the guest said that it is done.
var errNoEnd = errors.New("the report ends before its last line")

// readReport reads a guest's report, one JSON object a line, gives each check
// to emit and returns nil after {"done":true}. The guest is hostile: lines,
// their number and their text are bounded, and anything that is not a report
// is an error.
func readReport(r io.Reader, emit func(Check)) error {
	lines := bufio.NewScanner(r)
	lines.Buffer(make([]byte, 0, 4<<10), maxLine)
	lines.Split(wholeLines)
	seen := map[string]bool{}
	for lines.Scan() {
		check, done, err := parseLine(lines.Bytes())
		switch {
		case err != nil:
			return err
		case done:
			return nil
		case seen[check.ID]:
			return fmt.Errorf("the guest reported check %s twice", check.ID)
		case len(seen) == maxChecks:
			return fmt.Errorf("the guest reported more than %d checks", maxChecks)
		}
		seen[check.ID] = true
		emit(check)
	}
	if errors.Is(lines.Err(), bufio.ErrTooLong) {
		return fmt.Errorf("the guest reported a line of more than %d bytes", maxLine)
	}
	return errors.Join(errNoEnd, lines.Err())
}

// wholeLines is bufio.ScanLines, but drops a last line without its end: the
// guest died while it wrote it.
func wholeLines(data []byte, atEOF bool) (advance int, token []byte, err error) {
	if atEOF && bytes.IndexByte(data, '\n') < 0 {
		return len(data), nil, nil
	}
	return bufio.ScanLines(data, atEOF)
}

// parseLine reads one line of a report: a check, or the end.
func parseLine(line []byte) (check Check, done bool, err error) {
	var message struct {
		Check
		Done bool `json:"done"`
	}
	if err := json.Unmarshal(line, &message); err != nil {
		return Check{}, false, fmt.Errorf("the guest sent %q, which is no line of a report: %w", printable(string(line), 80), err)
	}
	if message.Done {
		return Check{}, true, nil
	}
	check = message.Check
	if len(check.ID) > 64 || !checkID.MatchString(check.ID) {
		return Check{}, false, fmt.Errorf("the guest reported check %q; want words of a-z and 0-9 joined by dots or dashes, at most 64 characters", printable(check.ID, 80))
	}
	if check.Status != Pass && check.Status != Fail {
		return Check{}, false, fmt.Errorf("the guest reported check %s with status %q; want %q or %q", check.ID, printable(string(check.Status), 80), Pass, Fail)
	}
	check.Evidence = printable(check.Evidence, maxEvidence)
	return check, false, nil
}

// printable returns s as one line that is safe to show on a terminal, of at
// most limit characters.
func printable(s string, limit int) string {
	var b strings.Builder
	n := 0
	for _, r := range s {
		if n++; n > limit {
			b.WriteString("...")
			break
		}
		switch {
		case unicode.IsSpace(r):
			b.WriteByte(' ')
		case unicode.IsPrint(r):
			b.WriteRune(r)
		}
	}
	return b.String()
}
