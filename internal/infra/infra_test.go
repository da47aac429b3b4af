package infra

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"nodesmith.dev/nodesmith/internal/distro"
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

func TestEveryInfrastructureSaysWhatItsNodesNeed(t *testing.T) {
	for _, name := range Names() {
		t.Run(name, func(t *testing.T) {
			i, _ := Find(name)
			config, err := i.Node(distro.Release{Family: "debian"})
			if err != nil {
				t.Fatal(err)
			}
			if err := config.Validate(); err != nil {
				t.Error(err)
			}
			for _, s := range i.Software {
				if !slices.Contains(distro.SoftwareNames(), s) {
					t.Errorf("software %q is unknown", s)
				}
			}
			if i.Hardware.Disk == "" || i.Hardware.Network == "" {
				t.Errorf("hardware %+v", i.Hardware)
			}
			var files []string
			for _, f := range config.Files {
				files = append(files, f.Path)
			}
			// ds-identify tries what this file lists; without a file the
			// distribution's own list counts, which is long and slow.
			source := "/etc/cloud/cloud.cfg.d/95_" + name + ".cfg"
			if name != "qemu" && !slices.Contains(files, source) {
				t.Errorf("%q has no %s", files, source)
			}
			for _, unit := range config.Units.Enable {
				if strings.HasPrefix(unit, name) && !slices.Contains(files, "/etc/systemd/system/"+unit) {
					t.Errorf("%s is enabled and not there", unit)
				}
			}
		})
	}
}

func TestEveryLayerOfFilesBelongsToAnInfrastructure(t *testing.T) {
	entries, err := assets.ReadDir("assets")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if !slices.Contains(Names(), e.Name()) {
			t.Errorf("assets/%s belongs to none of %q", e.Name(), Names())
		}
	}
}

func TestEveryInfrastructureIsDocumented(t *testing.T) {
	text, err := os.ReadFile("../../docs/infrastructures.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range Names() {
		row := regexp.MustCompile("(?m)^\\| `" + name + "` \\|.*$").FindString(string(text))
		i, _ := Find(name)
		for _, s := range i.Software {
			if !strings.Contains(row, string(s)) {
				t.Errorf("%s: %q does not name the %s", name, row, s)
			}
		}
		if row == "" {
			t.Errorf("%s has no row", name)
		}
	}
}

// The last console is /dev/console, and tools read the serial port.
func TestQEMUTalksOnTheSerialPort(t *testing.T) {
	qemu, ok := Find("qemu")
	if n := len(qemu.KernelArguments); !ok || n == 0 || qemu.KernelArguments[n-1] != "console=ttyS0,115200n8" {
		t.Errorf("kernel arguments %q", qemu.KernelArguments)
	}
}
