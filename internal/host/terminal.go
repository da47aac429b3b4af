package host

import (
	"cmp"
	"os"
	"runtime"
	"strings"
)

// Terminal is what the environment says of the user's terminal.
type Terminal struct {
	// Dumb says that it can't move its cursor.
	Dumb bool
	// UTF8 says that the locale's characters are Unicode's.
	UTF8 bool
	// Colour says that the user has nothing against colours (no-color.org).
	Colour bool
}

// ReadTerminal reads TERM, the locale (POSIX, section 8.2) and NO_COLOR.
func ReadTerminal() Terminal {
	locale := strings.ToLower(cmp.Or(os.Getenv("LC_ALL"), os.Getenv("LC_CTYPE"), os.Getenv("LANG")))
	term := os.Getenv("TERM")
	windows := runtime.GOOS == "windows" // has neither variable
	return Terminal{
		Dumb:   term == "dumb" || term == "" && !windows,
		UTF8:   windows || strings.Contains(locale, "utf-8") || strings.Contains(locale, "utf8"),
		Colour: os.Getenv("NO_COLOR") == "",
	}
}
