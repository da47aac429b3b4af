package diff

import (
	"fmt"
	"io"
	"strconv"
	"strings"
	"unicode"
)

// TextOptions say how much WriteText writes.
type TextOptions struct {
	// All lists every file; without it those below a directory that only one
	// image has are counted, and those that differ in times alone.
	All bool
	// Blocks writes what is known of the blocks, and nothing else.
	Blocks bool
	// Size writes a number of bytes for people.
	Size func(int64) string
}

// signs stand before what differs.
var signs = map[Kind]string{Added: "+", Removed: "-", Changed: "~"}

// WriteText writes the report for people.
func (r *Report) WriteText(w io.Writer, o TextOptions) error {
	var b strings.Builder
	if o.Blocks {
		r.blocksText(&b, o)
	} else {
		r.sectionsText(&b)
		r.filesText(&b, o)
		r.summaryText(&b, o)
	}
	for _, note := range r.Notes {
		fmt.Fprintf(&b, "note: %s\n", printable(note))
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func (r *Report) sectionsText(b *strings.Builder) {
	for _, s := range r.Sections {
		fmt.Fprintf(b, "%s: %s\n", s.Name, countText(s.Changes))
		for _, c := range s.Changes {
			fmt.Fprintf(b, "  %s %s\n", signs[c.Kind], changeText(c))
		}
	}
}

func countText(changes []Change) string {
	counts := map[Kind]int{}
	for _, c := range changes {
		counts[c.Kind]++
	}
	var parts []string
	for _, k := range []Kind{Added, Removed, Changed} {
		if counts[k] > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", counts[k], k))
		}
	}
	return strings.Join(parts, ", ")
}

// changeText writes a fact with what it was and is.
func changeText(c Change) string {
	text := printable(c.Name)
	switch {
	case c.Kind == Changed:
		text += ": " + quoted(c.A) + " -> " + quoted(c.B)
	case c.A+c.B != "":
		text += " " + printable(c.A+c.B)
	}
	return text
}

// quoted makes an empty value visible.
func quoted(s string) string {
	if s == "" {
		return `""`
	}
	return printable(s)
}

// filesText lists files; a directory that only one image has stands for all in it.
func (r *Report) filesText(b *strings.Builder, o TextOptions) {
	c := r.FileCounts
	if c == (FileCounts{}) {
		return
	}
	fmt.Fprintf(b, "files: %d added, %d removed, %d changed, %d with another time only\n", c.Added, c.Removed, c.Changed, c.TimesOnly)
	for i := 0; i < len(r.Files); i++ {
		f := r.Files[i]
		if f.TimesOnly() && !o.All {
			continue
		}
		line := printable(f.Path)
		switch {
		case f.Kind == Changed:
			line += attributesText(f, o)
		case f.Type == "directory" && !o.All:
			files, bytes := 0, int64(0)
			for i+1 < len(r.Files) && r.Files[i+1].Kind == f.Kind && strings.HasPrefix(r.Files[i+1].Path, strings.TrimSuffix(f.Path, "/")+"/") {
				i++
				files++
				bytes += r.Files[i].SizeA + r.Files[i].SizeB
			}
			line += fmt.Sprintf("/ (%d files, %s)", files, o.Size(bytes))
		case f.Type == "file":
			line += fmt.Sprintf(" (%s)", o.Size(f.SizeA+f.SizeB))
		default:
			line += fmt.Sprintf(" (%s)", f.Type)
		}
		fmt.Fprintf(b, "  %s %s\n", signs[f.Kind], line)
	}
	if listed := int64(len(r.Files)); listed < c.Added+c.Removed+c.Changed+c.TimesOnly {
		fmt.Fprintf(b, "  and more: only the first %d are listed\n", listed)
	}
}

// attributesText writes what differs of a file.
func attributesText(f File, o TextOptions) string {
	var parts []string
	for _, c := range f.Attributes {
		switch {
		case c.Name == contentAttribute && f.SizeA == f.SizeB:
			parts = append(parts, fmt.Sprintf("content (%s)", o.Size(f.SizeB)))
		case c.Name == contentAttribute:
			parts = append(parts, fmt.Sprintf("content (%s -> %s)", o.Size(f.SizeA), o.Size(f.SizeB)))
		case c.Name == timeAttribute && !o.All:
		case c.Kind == Changed:
			parts = append(parts, fmt.Sprintf("%s %s -> %s", printable(c.Name), quoted(c.A), quoted(c.B)))
		default:
			parts = append(parts, signs[c.Kind]+changeText(c))
		}
	}
	return ": " + strings.Join(parts, ", ")
}

func (r *Report) summaryText(b *strings.Builder, o TextOptions) {
	switch {
	case r.Equal && r.Blocks != nil:
		b.WriteString("The disks are equal, byte by byte.\n")
	case r.Equal:
		b.WriteString("The manifests say the same.\n")
	case r.Blocks != nil:
		fmt.Fprintf(b, "disk: %d blocks of 512 KiB differ, %s in them (nodesmith diff --blocks says what lies there)\n",
			r.Blocks.Differing, o.Size(r.Blocks.DifferingPages*r.Blocks.PageSize))
	}
}

func (r *Report) blocksText(b *strings.Builder, o TextOptions) {
	if r.Blocks == nil {
		return
	}
	k := r.Blocks
	verdict := "within the bound"
	if k.Differing > k.Bound {
		verdict = "more than the bound"
	}
	fmt.Fprintf(b, "changed bytes of files (S): %d (%s)\n", k.ChangedBytes, o.Size(k.ChangedBytes))
	fmt.Fprintf(b, "differing blocks of 512 KiB: %d, %s of %d (ceil(1.2 x S / 512 KiB) + 24)\n", k.Differing, verdict, k.Bound)
	fmt.Fprintf(b, "differing pages of 4 KiB: %d (%s)\n", k.DifferingPages, o.Size(k.DifferingPages*k.PageSize))
	for _, c := range k.Classes {
		fmt.Fprintf(b, "%6d blocks %8d pages  %s\n", c.Blocks, c.Pages, printable(c.Name))
		shown := c.Paths
		const few = 3
		if !o.All {
			shown = shown[:min(len(shown), few)]
		}
		for _, p := range shown {
			fmt.Fprintf(b, "              %8d pages    %s\n", p.Pages, printable(p.Path))
		}
	}
}

// printable makes text from an image safe for a terminal.
func printable(s string) string {
	const longest = 1000
	if len(s) > longest {
		s = s[:longest] + "..."
	}
	if strings.IndexFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }) < 0 {
		return s
	}
	text := strconv.Quote(s)
	return strings.ReplaceAll(text[1:len(text)-1], `\"`, `"`)
}
