package ova_test

import (
	"testing"

	"nodesmith.dev/nodesmith/internal/format/formattest"
	"nodesmith.dev/nodesmith/internal/format/ova"
)

func TestOVAConforms(t *testing.T) {
	formattest.Run(t, formattest.Suite{Format: ova.Format, EmptySize: 128 << 10})
}
