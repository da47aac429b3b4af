package vmtest

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"
)

func TestConsoleKeepsTheLastLinesAsTheyWouldShow(t *testing.T) {
	c := NewConsole(nil)
	for i := range 5000 {
		fmt.Fprintf(c, "line %d of a long boot\r\n", i)
	}
	fmt.Fprint(c, "\x1b[0m[\x1b[0;1;32m  OK  \x1b[0m] Started \x1b[0;1;39mssh\x1b[0m.\r\n\r\n\n\x1b7\x07login: ")
	if got, want := c.Tail(3), []string{"line 4999 of a long boot", "[  OK  ] Started ssh.", "login:"}; !slices.Equal(got, want) {
		t.Errorf("tail %q, want %q", got, want)
	}
	if len(c.kept) > consoleSize || len(c.line) > watchSize {
		t.Errorf("%d bytes kept, and a line of %d", len(c.kept), len(c.line))
	}
	if got := NewConsole(nil).Tail(30); len(got) != 0 {
		t.Errorf("an empty console's tail is %q", got)
	}
}

func TestConsoleCopiesWhatItGets(t *testing.T) {
	var log bytes.Buffer
	c := NewConsole(&log)
	fmt.Fprint(c, "a\r\n\x1b[0mb")
	if log.String() != "a\r\n\x1b[0mb" {
		t.Errorf("copied %q", log.String())
	}
}

func TestConsoleSeesTroubleInWhateverPiecesItComes(t *testing.T) {
	for _, trouble := range troubles {
		for _, piece := range []int{1, 7, 4096} {
			c := NewConsole(nil)
			text := []byte("Loading ...\r\n" + strings.Repeat("-", 3*watchSize) + trouble.sign + " ")
			for part := range slices.Chunk(text, piece) {
				_, _ = c.Write(part)
			}
			select {
			case got := <-c.trouble:
				if got != trouble.meaning {
					t.Errorf("%q means %q, want %q", trouble.sign, got, trouble.meaning)
				}
			default:
				t.Errorf("%q in pieces of %d went unseen", trouble.sign, piece)
			}
		}
	}
}

func TestConsoleSeesNoTroubleInAnOrdinaryBoot(t *testing.T) {
	c := NewConsole(nil)
	fmt.Fprint(c, "GRUB loading.\r\nWelcome to GRUB!\r\nKernel panic\n - not syncing\nBooting from Hard Disk...\r\n"+
		"[    0.5] Kernel command line: panic=10\r\nBegin: Loading essential drivers (initramfs)\r\n")
	if len(c.trouble) != 0 {
		t.Errorf("saw %q", <-c.trouble)
	}
}
