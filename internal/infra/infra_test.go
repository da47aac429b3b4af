package infra

import (
	"slices"
	"testing"
)

func TestFind(t *testing.T) {
	for _, name := range Names() {
		i, ok := Find(name)
		if !ok || i.Name != name || i.Format == "" {
			t.Errorf("%s: %+v, %v", name, i, ok)
		}
	}
	for _, name := range []string{"", "QEMU", "moon"} {
		if i, ok := Find(name); ok {
			t.Errorf("%q is %+v", name, i)
		}
	}
}

func TestNamesAreUnique(t *testing.T) {
	names := slices.Sorted(slices.Values(Names()))
	if len(names) == 0 || len(slices.Compact(names)) != len(Names()) {
		t.Errorf("names %q", Names())
	}
}

// The last console is /dev/console, and tools read the serial port.
func TestQEMUTalksOnTheSerialPort(t *testing.T) {
	qemu, ok := Find("qemu")
	if n := len(qemu.KernelArguments); !ok || n == 0 || qemu.KernelArguments[n-1] != "console=ttyS0,115200n8" {
		t.Errorf("kernel arguments %q", qemu.KernelArguments)
	}
}
