package cli

import (
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"nodesmith.dev/nodesmith/internal/fault"
	"nodesmith.dev/nodesmith/internal/format/known"
	"nodesmith.dev/nodesmith/internal/vmtest"
)

// levels are the values of verify --level, firmwares those of --firmware.
var (
	levels    = []string{"boot", "contract", "cluster"}
	firmwares = []string{string(vmtest.BIOS), string(vmtest.UEFI), string(vmtest.UEFISecure)}
)

// verification is what the flags of verify say.
type verification struct {
	level, from, infrastructure  string
	firmware, accounts           []string
	deadline                     time.Duration
	asJSON, all, strict, console bool
}

func verifyCommand(s streams) *cobra.Command {
	var v verification
	c := &cobra.Command{
		Use: "verify IMAGE", Short: "Prove an image by booting it or by looking into it",
		Long: `Level boot proves an image by booting it in QEMU, on BIOS and on UEFI if it is made
for both, with bootstrap data for cloud-init. The guest itself reports what it found.
The image is not changed.
KVM is used where it works, else QEMU's own emulation, several times slower. The
machine has the infrastructure's own disk controller and network card where QEMU
has them: pvscsi (on BIOS) and vmxnet3 for vSphere, NVMe for AWS; else virtio's.

Level cluster is level boot, and the first of these machines goes on to form a control
plane by kubeadm init, with no network: every image that it takes is in the image.

Level contract looks into any image, also one that nodesmith did not build, and
checks what Cluster API expects of a node: seconds, without root, mount or boot,
and nothing of the image is run. nodesmith contract list shows the checks.

` + imageArgument + ` The report
is kept with an image in the store; booting it holds it against the contract, too, if
that was not done: a level includes the lesser ones.

A file is of any format that nodesmith reads: ` + strings.Join(known.Names(), ", ") + `.
Its content says which. QEMU boots it as it is; a gce archive, which QEMU can't
read, is unpacked into a temporary file first.`,
		Example: "  nodesmith verify out/debian-12-qemu.qcow2 --level boot\n  nodesmith verify out/debian-12-vsphere.ova --level contract\n  nodesmith verify debian-12 --infrastructure vsphere --level boot",
		Args:    oneArgument("IMAGE"),
		RunE: func(c *cobra.Command, args []string) error {
			if err := v.known(); err != nil {
				return err
			}
			image, err := findSubject(c.Context(), args[0], v.infrastructure)
			if err != nil {
				return err
			}
			if v.level == "contract" {
				return v.contract(c.Context(), s, image)
			}
			return v.boot(c.Context(), s, image)
		},
	}
	f := c.Flags()
	f.StringVar(&v.level, "level", levels[0], "what to prove: `"+strings.Join(levels, "|")+"`")
	f.StringVar(&v.from, "from", "", "FILE's format, if its content should not decide (a guest can make a raw disk look like another format)")
	f.StringSliceVar(&v.firmware, "firmware", nil, "boot on each of these: "+strings.Join(firmwares, ", ")+" (default: those that the image says it is made for, else bios and uefi)")
	f.DurationVar(&v.deadline, "deadline", 0, "time for one boot (default: 3m on KVM, 10m without; for a control plane 7m and 25m more)")
	f.BoolVar(&v.asJSON, "json", false, "print one JSON document, a VerifyReport (nodesmith schema --kind VerifyReport), on standard output")
	f.StringVar(&v.infrastructure, "infrastructure", "", "where the image will run (default: by the file's name): its checks, or the disk and network to boot with")
	f.StringSliceVar(&v.accounts, "account", nil, "contract: a person's account that the image is meant to have (default: those of the manifest beside it)")
	f.BoolVar(&v.strict, "strict", false, "contract: fail on recommended checks too")
	f.BoolVar(&v.all, "all", false, "contract: show the checks that passed as well")
	f.BoolVar(&v.console, "console", false, "show the guest's serial console on standard error")
	return c
}

// known refuses levels and firmware that there are none of.
func (v verification) known() error {
	if !slices.Contains(levels, v.level) {
		return fault.New(fault.Usage, "", "--level %q is not one of %s", v.level, strings.Join(levels, ", "))
	}
	for _, f := range v.firmware {
		if !slices.Contains(firmwares, f) {
			return fault.New(fault.Usage, "", "--firmware %q is not one of %s", f, strings.Join(firmwares, ", "))
		}
	}
	return nil
}
