//go:build ignore

// terminal-svg runs commands on a pseudo-terminal, one after the other, and draws
// what a person would have seen as an animated SVG. A viewer that does not animate
// shows the end.
//
//	go run scripts/terminal-svg.go -o docs/terminal.svg 'nodesmith build -f node.yaml' ...
package main

import (
	"bytes"
	"flag"
	"fmt"
	"html"
	"image/color"
	"io"
	"log"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/containerd/console"
	"github.com/google/renameio/v2"
	"github.com/tonistiigi/vt100"
)

const (
	sample = 200 * time.Millisecond // between two looks at the screen
	pause  = time.Second            // the longest time without a change that is shown
	rest   = 6 * time.Second        // how long the end is shown
	most   = 32                     // frames that are kept
	// Of the drawing, in pixels.
	fontSize, cell, row, margin = 13.0, 7.8, 17.0, 14.0
)

// palette has the colours of the emulator on a dark ground.
var palette = map[color.RGBA]string{
	vt100.Red: "#ff6b68", vt100.Green: "#5fd787", vt100.Yellow: "#e5c07b", vt100.Blue: "#61afef",
	vt100.Magenta: "#c678dd", vt100.Cyan: "#56c8d8", vt100.White: "#ffffff", vt100.DefaultColor: "#d8dee9",
}

// terminal is the emulated screen, and what was seen on it.
type terminal struct {
	mu     sync.Mutex
	screen *vt100.VT100
	frames []frame
}

type frame struct {
	at   time.Duration
	text string
}

func (t *terminal) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.screen.Write(p)
}

// look keeps what the screen shows now, if it changed.
func (t *terminal) look(now time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	text := t.draw()
	if n := len(t.frames); n > 0 {
		if t.frames[n-1].text == text {
			return
		}
		now = min(now, t.frames[n-1].at+pause)
	}
	t.frames = append(t.frames, frame{now, text})
}

// draw returns the screen as SVG text elements.
func (t *terminal) draw() string {
	var b strings.Builder
	for y, line := range t.screen.Content {
		end := len(strings.TrimRight(string(line), " "))
		if end == 0 {
			continue
		}
		fmt.Fprintf(&b, `<text x="%g" y="%g">`, margin, margin+row*float64(y+1))
		for x := 0; x < len(line); {
			format, from := t.screen.Format[y][x], x
			for x < len(line) && t.screen.Format[y][x] == format {
				x++
			}
			piece := string(line[from:x])
			if strings.TrimSpace(string(line[from:])) == "" {
				break
			}
			fmt.Fprintf(&b, `<tspan x="%g"%s>%s</tspan>`, margin+cell*float64(from), style(format), html.EscapeString(strings.TrimRight(piece, " ")))
		}
		b.WriteString("</text>\n")
	}
	return b.String()
}

func style(f vt100.Format) string {
	attributes := ""
	if f.Fg != vt100.DefaultColor {
		attributes += fmt.Sprintf(` fill="%s"`, palette[f.Fg])
	}
	switch f.Intensity {
	case vt100.Bright:
		attributes += ` font-weight="bold"`
	case vt100.Dim:
		attributes += ` opacity="0.6"`
	}
	return attributes
}

// run runs a command line on the terminal and looks at it meanwhile.
func (t *terminal) run(line string, columns, rows int, begin time.Time) error {
	master, name, err := console.NewPty()
	if err != nil {
		return err
	}
	defer master.Close()
	if err := master.Resize(console.WinSize{Width: uint16(columns), Height: uint16(rows)}); err != nil {
		return err
	}
	slave, err := os.OpenFile(name, os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		return err
	}
	cmd := exec.Command("sh", "-c", line)
	cmd.Env = append(os.Environ(), "TERM=xterm", "LC_ALL=C.UTF-8", "NO_COLOR=")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = slave, slave, slave
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	fmt.Fprintf(t, "\x1b[1m$ %s\x1b[0m\r\n", line)
	t.look(time.Since(begin))
	err = cmd.Start()
	slave.Close()
	if err != nil {
		return err
	}
	read := make(chan struct{})
	go func() {
		defer close(read)
		_, _ = io.Copy(t, master) // ends with EIO when the command has closed the terminal
	}()
	for ticker := time.NewTicker(sample); ; {
		select {
		case <-read:
			ticker.Stop()
			fmt.Fprint(t, "\r\n")
			t.look(time.Since(begin))
			return cmd.Wait()
		case <-ticker.C:
			t.look(time.Since(begin))
		}
	}
}

// thin keeps most frames, evenly, and the last one.
func (t *terminal) thin() {
	all := t.frames
	if len(all) <= most {
		return
	}
	t.frames = nil
	for i := range most {
		t.frames = append(t.frames, all[i*(len(all)-1)/(most-1)])
	}
}

// svg returns the frames as one drawing.
func (t *terminal) svg(columns, rows int) []byte {
	var b bytes.Buffer
	width, height := 2*margin+cell*float64(columns), 2*margin+row*float64(rows)
	last := t.frames[len(t.frames)-1]
	total := (last.at + rest).Seconds()
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" xml:space="preserve" viewBox="0 0 %g %g" width="%g" height="%g" font-family="ui-monospace,SFMono-Regular,Menlo,Consolas,'DejaVu Sans Mono',monospace" font-size="%gpx" fill="%s">
<title>A terminal session, recorded by scripts/terminal-svg.sh</title>
<style>
text{white-space:pre}
g{visibility:hidden;animation:%gs step-end infinite}
#f%d{visibility:visible}
@media (prefers-reduced-motion:reduce){g{animation:none!important}}
`, width, height, width, height, fontSize, palette[vt100.DefaultColor], total, len(t.frames)-1)
	for i, f := range t.frames {
		from, to := 100*f.at.Seconds()/total, 100.0
		if i+1 < len(t.frames) {
			to = 100 * t.frames[i+1].at.Seconds() / total
		}
		fmt.Fprintf(&b, "#f%d{animation-name:k%d}@keyframes k%d{0%%{visibility:hidden}%.2f%%{visibility:visible}", i, i, i, from)
		if to < 100 {
			fmt.Fprintf(&b, "%.2f%%{visibility:hidden}", to)
		}
		b.WriteString("}\n")
	}
	fmt.Fprintf(&b, `</style>
<rect width="100%%" height="100%%" rx="8" fill="#1e222a"/>
`)
	for i, f := range t.frames {
		fmt.Fprintf(&b, "<g id=\"f%d\">\n%s</g>\n", i, f.text)
	}
	b.WriteString("</svg>\n")
	return b.Bytes()
}

func main() {
	out := flag.String("o", "", "the `FILE` to write")
	columns := flag.Int("columns", 100, "of the terminal")
	rows := flag.Int("rows", 36, "of the terminal")
	flag.Parse()
	t := &terminal{screen: vt100.NewVT100(*rows, *columns)}
	begin := time.Now()
	for _, line := range flag.Args() {
		if err := t.run(line, *columns, *rows, begin); err != nil {
			log.Fatalf("%s: %v", line, err)
		}
	}
	t.thin()
	if err := renameio.WriteFile(*out, t.svg(*columns, *rows), 0o644); err != nil {
		log.Fatal(err)
	}
}
