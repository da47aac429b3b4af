package raw_test

import (
	"testing"

	"nodesmith.dev/nodesmith/internal/format/formattest"
	"nodesmith.dev/nodesmith/internal/format/raw"
)

func TestRawConforms(t *testing.T) {
	formattest.Run(t, formattest.Suite{Format: raw.Format, EmptySize: 4096})
}
