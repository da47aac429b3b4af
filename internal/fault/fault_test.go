package fault

import (
	"context"
	"errors"
	"fmt"
	"os"
	"syscall"
	"testing"
)

func TestKindsHaveTheirOwnNameAndExitCode(t *testing.T) {
	names, codes := map[string]Kind{}, map[int]Kind{}
	for k := Internal; k <= Interrupted; k++ {
		if k.String() == "" || k.ExitCode() <= 0 || k.ExitCode() > 255 {
			t.Errorf("kind %d is %q with exit code %d", k, k, k.ExitCode())
		}
		if other, ok := names[k.String()]; ok {
			t.Errorf("kinds %d and %d are both %q", k, other, k)
		}
		if other, ok := codes[k.ExitCode()]; ok {
			t.Errorf("%q and %q both exit with %d", k, other, k.ExitCode())
		}
		names[k.String()], codes[k.ExitCode()] = k, k
	}
	if len(kinds) != int(Interrupted)+1 {
		t.Errorf("%d kinds in the table, %d declared", len(kinds), int(Interrupted)+1)
	}
}

func TestKindAndRemedyOf(t *testing.T) {
	cause := errors.New("connection refused")
	network := New(Network, "check the network", "download: %w", cause)
	tests := map[string]struct {
		err    error
		kind   Kind
		remedy string
	}{
		"nothing":                {nil, Internal, ""},
		"a plain error":          {cause, Internal, ""},
		"a fault":                {network, Network, "check the network"},
		"a wrapped fault":        {fmt.Errorf("lock: %w", network), Network, "check the network"},
		"the outer of two":       {New(Engine, "look above", "step: %w", network), Engine, "look above"},
		"the inner one's remedy": {New(Engine, "", "step: %w", network), Engine, "check the network"},
		"one of several":         {errors.Join(cause, network), Network, "check the network"},
		"without remedy":         {New(Usage, "", "no such flag"), Usage, ""},
		"a full disk":            {NoSpaceOr(&os.PathError{Op: "write", Path: "x", Err: syscall.ENOSPC}), NoSpace, "free some space, or set XDG_CACHE_HOME to a larger file system"},
		"a full quota":           {NoSpaceOr(fmt.Errorf("x: %w", syscall.EDQUOT)), NoSpace, "free some space, or set XDG_CACHE_HOME to a larger file system"},
		"no full disk":           {NoSpaceOr(network), Network, "check the network"},
		"no error, no full disk": {NoSpaceOr(nil), Internal, ""},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			if got := KindOf(test.err); got != test.kind {
				t.Errorf("kind %q, want %q", got, test.kind)
			}
			if got := RemedyOf(test.err); got != test.remedy {
				t.Errorf("remedy %q, want %q", got, test.remedy)
			}
		})
	}
}

func TestAFaultKeepsItsMessageAndCause(t *testing.T) {
	err := New(Interrupted, "", "build of %s: %w", "debian-12", context.Canceled)
	if err.Error() != "build of debian-12: context canceled" || !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
	if NoSpaceOr(nil) != nil {
		t.Error("no error became one")
	}
}
