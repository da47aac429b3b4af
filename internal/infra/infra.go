// Package infra is what differs between infrastructures, as data.
package infra

// Infrastructure is a place where nodes run.
type Infrastructure struct {
	Name   string
	Format string // of the file that nodes are made from: the artifact's suffix
	// KernelArguments are what its consoles need.
	KernelArguments []string
}

var all = []Infrastructure{
	// QEMU/KVM: the kernel's messages on the screen and, last and so as
	// /dev/console, on the serial port.
	{Name: "qemu", Format: "raw", KernelArguments: []string{"console=tty0", "console=ttyS0,115200n8"}},
}

// Find returns the infrastructure of that name.
func Find(name string) (Infrastructure, bool) {
	for _, i := range all {
		if i.Name == name {
			return i, true
		}
	}
	return Infrastructure{}, false
}

// Names lists every infrastructure.
func Names() []string {
	var names []string
	for _, i := range all {
		names = append(names, i.Name)
	}
	return names
}
