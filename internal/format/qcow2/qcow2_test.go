package qcow2_test

import (
	"testing"

	"nodesmith.dev/nodesmith/internal/format/formattest"
	"nodesmith.dev/nodesmith/internal/format/qcow2"
)

func TestQcow2Conforms(t *testing.T) {
	for name, compression := range map[string]qcow2.Compression{"zstd": qcow2.Zstd, "zlib": qcow2.Zlib, "plain": qcow2.Plain} {
		t.Run(name, func(t *testing.T) {
			formattest.Run(t, formattest.Suite{
				Format: qcow2.Format, New: qcow2.Options{Compression: compression}.New,
				Judge: formattest.QEMUChecks("qcow2"), EmptySize: 1 << 20,
			})
		})
	}
}
