package stepmain

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"nodesmith.dev/nodesmith/internal/fault"
)

type config struct {
	Out  string `json:"out"`
	Size int    `json:"size"`
}

// write makes a configuration file.
func write(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "config.json")
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestRunCallsTheVerbWithItsConfigurationAndEpoch(t *testing.T) {
	var got config
	var at time.Time
	failed := errors.New("disk full")
	verbs := map[string]Verb{
		"pack": Of(func(_ context.Context, c config, epoch time.Time) error { got, at = c, epoch; return nil }),
		"fail": Of(func(context.Context, config, time.Time) error { return failed }),
	}
	path := write(t, `{"out":"/out","size":3}`)
	if err := Run(t.Context(), "step-x", verbs, []string{"pack", path}, "1700000000"); err != nil {
		t.Fatal(err)
	}
	if got != (config{"/out", 3}) || !at.Equal(time.Unix(1_700_000_000, 0)) || at.Location() != time.UTC {
		t.Errorf("ran with %+v at %v", got, at)
	}
	if err := Run(t.Context(), "step-x", verbs, []string{"fail", path}, "0"); !errors.Is(err, failed) {
		t.Errorf("error %v, want the verb's", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	verbs["wait"] = Of(func(ctx context.Context, _ config, _ time.Time) error { return ctx.Err() })
	if err := Run(ctx, "step-x", verbs, []string{"wait", path}, "0"); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v, want the context's", err)
	}
}

func TestRunRefuses(t *testing.T) {
	verbs := map[string]Verb{
		"unpack": Of(func(context.Context, config, time.Time) error { t.Error("the verb ran"); return nil }),
		"solve":  nil,
	}
	good := write(t, `{}`)
	tests := map[string]struct {
		args  []string
		epoch string
		want  string
	}{
		"no verb":             {nil, "0", "usage: step-x solve|unpack CONFIG.json"},
		"an unknown verb":     {[]string{"fly", good}, "0", "usage: step-x"},
		"a verb of nothing":   {[]string{"solve", good}, "0", "usage: step-x"},
		"no configuration":    {[]string{"unpack"}, "0", "usage: step-x"},
		"an argument more":    {[]string{"unpack", good, "x"}, "0", "usage: step-x"},
		"no epoch":            {[]string{"unpack", good}, "", "SOURCE_DATE_EPOCH"},
		"an epoch of text":    {[]string{"unpack", good}, "now", "SOURCE_DATE_EPOCH"},
		"an epoch before all": {[]string{"unpack", good}, "-1", "SOURCE_DATE_EPOCH"},
		"an unknown field":    {[]string{"unpack", write(t, `{"outt":"/out"}`)}, "0", `unknown field "outt"`},
		"another type":        {[]string{"unpack", write(t, `{"size":"big"}`)}, "0", "configuration: "},
		"half of it":          {[]string{"unpack", write(t, `{"out":`)}, "0", "configuration: "},
		"nothing in it":       {[]string{"unpack", write(t, ``)}, "0", "configuration: "},
		"something after it":  {[]string{"unpack", write(t, `{} {"out":"x"}`)}, "0", "configuration: "},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			err := Run(t.Context(), "step-x", verbs, test.args, test.epoch)
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("error %v, want %q", err, test.want)
			}
		})
	}
	if err := Run(t.Context(), "step-x", verbs, []string{"unpack", filepath.Join(t.TempDir(), "none")}, "0"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("error %v, want fs.ErrNotExist", err)
	}
}

func TestAdviceIsTheFirstInTheChain(t *testing.T) {
	inner := fault.New(fault.NoSpace, "free some space", "disk full")
	for _, test := range []struct {
		err  error
		want string
	}{
		{inner, "free some space"},
		{fmt.Errorf("write: %w", inner), "free some space"},
		{fault.New(fault.Engine, "", "write: %w", inner), "free some space"},
		{fault.New(fault.Engine, "look there", "write: %w", inner), "look there"},
		{errors.New("disk full"), ""},
	} {
		if got := adviceIn(test.err); got != test.want {
			t.Errorf("%v: %q, want %q", test.err, got, test.want)
		}
	}
}
