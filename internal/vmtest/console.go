package vmtest

import (
	"bytes"
	"io"
	"regexp"
	"strings"
	"sync"
)

const (
	// consoleSize bounds what is kept of a console, in bytes: some hundred lines.
	consoleSize = 64 << 10
	// watchSize bounds the line that is searched for signs of trouble, in bytes.
	watchSize = 1 << 10
)

// troubles are the lines after which a guest boots no further by itself.
// Prompts have no line end.
var troubles = []struct{ sign, meaning string }{
	{"Kernel panic - not syncing", "the kernel panicked"},
	{"grub rescue>", "GRUB did not find its files and stands at its rescue prompt"},
	{"grub>", "GRUB found no configuration and stands at its prompt"},
	{"(initramfs) ", "the initramfs did not find the root file system"},
	{"No bootable device.", "the BIOS found nothing to boot"},
	{"BdsDxe: No bootable option or device was found", "the UEFI firmware found nothing to boot"},
	{"UEFI Interactive Shell", "the UEFI firmware found nothing to boot and started its shell"},
	{"Verification failed: (0x1A) Security Violation", "Secure Boot refused a program"},
	{"You are in emergency mode", "systemd went into emergency mode"},
	{"Cannot open access to console, the root account is locked", "systemd went into emergency mode"},
}

// Console keeps the last 64 KiB that a guest wrote on its serial console and
// recognises the signs of a boot that has failed. Safe for concurrent use.
type Console struct {
	mu      sync.Mutex
	kept    []byte
	line    []byte // the current line, at most watchSize
	also    io.Writer
	trouble chan string // gets one meaning of troubles, once
	found   bool
}

// NewConsole returns an empty console that copies what it gets to also, unless
// that is nil. Errors of also are ignored: a boot does not fail for its log.
func NewConsole(also io.Writer) *Console {
	return &Console{also: also, trouble: make(chan string, 1)}
}

// Write takes the guest's output. It never fails.
func (c *Console) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.also != nil {
		_, _ = c.also.Write(p)
	}
	c.kept = append(c.kept, p...)
	if extra := len(c.kept) - consoleSize; extra > 0 {
		c.kept = append(c.kept[:0], c.kept[extra:]...)
	}
	for rest := p; len(rest) > 0; {
		part := rest
		end := bytes.IndexByte(rest, '\n')
		if end >= 0 {
			part = rest[:end]
		}
		c.watch(part)
		if end < 0 {
			break
		}
		c.line = c.line[:0]
		rest = rest[end+1:]
	}
	return len(p), nil
}

// watch appends part to the current line and looks for trouble in it.
func (c *Console) watch(part []byte) {
	c.line = append(c.line, part...)
	defer func() {
		if extra := len(c.line) - watchSize; extra > 0 {
			c.line = append(c.line[:0], c.line[extra:]...)
		}
	}()
	if c.found {
		return
	}
	for _, t := range troubles {
		if bytes.Contains(c.line, []byte(t.sign)) {
			c.found = true
			c.trouble <- t.meaning
			return
		}
	}
}

// terminal matches what a terminal would not show: ANSI sequences (ECMA-48).
var terminal = regexp.MustCompile(`\x1b(\[[0-?]*[ -/]*[@-~]|[()][0-9A-Za-z]|[@-Z\\-_=>78])`)

// Tail returns the last n lines that are not empty, without terminal sequences
// and other characters that do not print.
func (c *Console) Tail(n int) []string {
	c.mu.Lock()
	text := string(c.kept)
	c.mu.Unlock()

	var lines []string
	for line := range strings.SplitSeq(terminal.ReplaceAllString(text, ""), "\n") {
		if line = strings.TrimSpace(printable(line, watchSize)); line != "" {
			lines = append(lines, line)
		}
	}
	return lines[max(0, len(lines)-n):]
}
