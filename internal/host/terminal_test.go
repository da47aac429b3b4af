package host_test

import (
	"runtime"
	"testing"

	"nodesmith.dev/nodesmith/internal/host"
)

func TestTheTerminalIsWhatTheEnvironmentSays(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("SKIPPED: Windows has no such variables")
	}
	for name, test := range map[string]struct {
		env  map[string]string
		want host.Terminal
	}{
		"nothing":             {nil, host.Terminal{Dumb: true, Colour: true}},
		"a usual one":         {map[string]string{"TERM": "xterm-256color", "LANG": "en_GB.UTF-8"}, host.Terminal{UTF8: true, Colour: true}},
		"utf8 by its alias":   {map[string]string{"TERM": "xterm", "LANG": "C.utf8"}, host.Terminal{UTF8: true, Colour: true}},
		"LC_ALL over LANG":    {map[string]string{"TERM": "xterm", "LANG": "C.UTF-8", "LC_ALL": "C"}, host.Terminal{Colour: true}},
		"LC_CTYPE over LANG":  {map[string]string{"TERM": "xterm", "LANG": "C", "LC_CTYPE": "de_DE.UTF-8"}, host.Terminal{UTF8: true, Colour: true}},
		"dumb":                {map[string]string{"TERM": "dumb", "LANG": "C.UTF-8"}, host.Terminal{Dumb: true, UTF8: true, Colour: true}},
		"without colours":     {map[string]string{"TERM": "xterm", "LANG": "C.UTF-8", "NO_COLOR": "1"}, host.Terminal{UTF8: true}},
		"NO_COLOR of nothing": {map[string]string{"TERM": "xterm", "LANG": "C.UTF-8", "NO_COLOR": ""}, host.Terminal{UTF8: true, Colour: true}},
	} {
		t.Run(name, func(t *testing.T) {
			for _, variable := range []string{"TERM", "LANG", "LC_ALL", "LC_CTYPE", "NO_COLOR"} {
				t.Setenv(variable, test.env[variable])
			}
			if got := host.ReadTerminal(); got != test.want {
				t.Errorf("%+v, want %+v", got, test.want)
			}
		})
	}
}
