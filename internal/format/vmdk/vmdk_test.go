package vmdk_test

import (
	"testing"

	"nodesmith.dev/nodesmith/internal/format/formattest"
	"nodesmith.dev/nodesmith/internal/format/vmdk"
)

func TestVMDKConforms(t *testing.T) {
	formattest.Run(t, formattest.Suite{Format: vmdk.Format, Judge: formattest.QEMUCompares("vmdk"), EmptySize: 128 << 10})
}
