package raw_test

import (
	"testing"

	"nodesmith.dev/nodesmith/internal/format/formattest"
	"nodesmith.dev/nodesmith/internal/format/raw"
)

func TestRawConforms(t *testing.T) {
	formattest.Run(t, formattest.Suite{Format: raw.Format, EmptySize: 4096})
}

func FuzzOpen(f *testing.F) {
	formattest.Fuzz(f, raw.Format, nil, []byte("x"), make([]byte, 512), make([]byte, 1<<16+1))
}
