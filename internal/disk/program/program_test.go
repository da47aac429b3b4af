package program

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"nodesmith.dev/nodesmith/internal/fault"
)

func TestErrorsCarryTheProgramsLastWords(t *testing.T) {
	err := Run(t.Context(), []string{"WORDS=no such luck"}, "sh", "-c", `echo "$WORDS" >&2; exit 3`)
	if err == nil || !strings.Contains(err.Error(), "no such luck") || !strings.Contains(err.Error(), "exit status 3") {
		t.Errorf("got %v", err)
	}
}

func TestTheHostsEnvironmentStaysOutside(t *testing.T) {
	t.Setenv("NODESMITH_LEAK", "1")
	if err := Run(t.Context(), nil, "sh", "-c", `test -z "$NODESMITH_LEAK" && test "$TZ" = UTC`); err != nil {
		t.Error(err)
	}
}

func TestMissingProgramsAreNamed(t *testing.T) {
	err := Run(t.Context(), nil, "nodesmith-no-such-program")
	if fault.KindOf(err) != fault.MissingHost || !strings.Contains(err.Error(), "nodesmith-no-such-program") {
		t.Errorf("got %v", err)
	}
}

func TestTheProgramEndsWithTheContext(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	begun := time.Now()
	err := Run(ctx, nil, "sh", "-c", "sleep 60 & sleep 60")
	if !errors.Is(err, context.DeadlineExceeded) || time.Since(begun) > 10*time.Second {
		t.Errorf("after %v: %v", time.Since(begun), err)
	}
}
