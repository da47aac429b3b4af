package cli

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"nodesmith.dev/nodesmith/internal/contract"
	"nodesmith.dev/nodesmith/internal/fault"
	"nodesmith.dev/nodesmith/internal/format/known"
	"nodesmith.dev/nodesmith/internal/infra"
	"nodesmith.dev/nodesmith/internal/vmtest"
)

// levels are the values of verify --level.
var levels = []string{"boot", "contract"}

func verifyCommand(s streams) *cobra.Command {
	var level, from string
	var firmware []string
	var asJSON, console bool
	var statically contractOptions
	var deadline time.Duration
	c := &cobra.Command{
		Use: "verify FILE", Short: "Prove an image by booting it or by looking into it",
		Long: `Level boot proves an image by booting it in QEMU, on BIOS and on UEFI if it is made for
both, with bootstrap data for cloud-init. The guest itself reports what it found. The image is not changed.
KVM is used where it works, else QEMU's own emulation, several times slower. The
machine has the infrastructure's own disk controller and network card where QEMU
has them: pvscsi (on BIOS) and vmxnet3 for vSphere, NVMe for AWS; else virtio's.

Level contract looks into any image, also one that nodesmith did not build, and
checks what Cluster API expects of a node: seconds, without root, mount or boot,
and nothing of the image is run. nodesmith contract list shows the checks.

FILE is of any format that nodesmith reads: ` + strings.Join(known.Names(), ", ") + `.
Its content says which. QEMU boots it as it is; a gce archive, which QEMU can't
read, is unpacked into a temporary file first.`,
		Example: "  nodesmith verify out/debian-12-qemu.qcow2 --level boot\n  nodesmith verify out/debian-12-vsphere.ova --level contract",
		Args:    oneArgument("FILE"),
		RunE: func(c *cobra.Command, args []string) (err error) {
			if !slices.Contains(levels, level) {
				return fault.New(fault.Usage, "", "--level %q is not one of %s", level, strings.Join(levels, ", "))
			}
			if level == "contract" {
				statically.firmware, statically.asJSON = firmware, asJSON
				return verifyContract(c.Context(), s, args[0], from, statically)
			}
			options, err := bootOptions(firmware)
			if err != nil {
				return err
			}
			image, disk, err := openForQEMU(c.Context(), args[0], from)
			if err != nil {
				return err
			}
			defer closing(&err, image)
			if err := bootable(args[0], image); err != nil {
				return err
			}
			if len(firmware) == 0 {
				for _, f := range contract.Firmware(image.Source, image.Source.Size()) {
					options.Firmwares = append(options.Firmwares, vmtest.Firmware(f))
				}
			}
			options.Disk, options.Deadline = disk, deadline
			if options.Hardware, err = hardwareOf(args[0], statically.infrastructure); err != nil {
				return err
			}
			options.Notify = func(line string) { fmt.Fprintln(s.err, line) }
			if console {
				options.Console = s.err
			}
			report, failure := vmtest.Boot(c.Context(), options)
			if report != nil {
				if err := printReport(s.out, report, asJSON); err != nil {
					return err
				}
			}
			// A guest's failure stands in the report, at length.
			if report != nil && report.Verdict != vmtest.Pass && (failure == nil || fault.KindOf(failure) == fault.Guest) {
				return fault.New(fault.Guest, "the report above says what the guest saw; --console shows its serial console", "%s failed the level %s", args[0], level)
			}
			return failure
		},
	}
	c.Flags().StringVar(&level, "level", levels[0], "what to prove: `"+strings.Join(levels, "|")+"`")
	c.Flags().StringVar(&from, "from", "", "FILE's format, if its content should not decide (a guest can make a raw disk look like another format)")
	c.Flags().StringSliceVar(&firmware, "firmware", nil, "boot on each of these: bios, uefi, uefi-secure (default: those that the image says it is made for, else bios and uefi)")
	c.Flags().DurationVar(&deadline, "deadline", 0, "time for one boot (default: 3m on KVM, 10m without)")
	c.Flags().BoolVar(&asJSON, "json", false, "print the report as JSON")
	c.Flags().StringVar(&statically.infrastructure, "infrastructure", "", "where the image will run (default: by the file's name): its checks, or the disk and network to boot with")
	c.Flags().StringSliceVar(&statically.accounts, "account", nil, "contract: a person's account that the image is meant to have (default: those of the manifest beside it)")
	c.Flags().BoolVar(&statically.strict, "strict", false, "contract: fail on recommended checks too")
	c.Flags().BoolVar(&statically.all, "all", false, "contract: show the checks that passed as well")
	c.Flags().BoolVar(&console, "console", false, "show the guest's serial console on standard error")
	return c
}

func oneArgument(name string) cobra.PositionalArgs {
	return func(c *cobra.Command, args []string) error {
		if len(args) != 1 {
			return fault.New(fault.Usage, fmt.Sprintf("%s --help shows how it is called", c.CommandPath()), "give exactly one %s, not %d", name, len(args))
		}
		return nil
	}
}

func bootOptions(firmware []string) (vmtest.BootOptions, error) {
	var options vmtest.BootOptions
	for _, f := range firmware {
		known := []vmtest.Firmware{vmtest.BIOS, vmtest.UEFI, vmtest.UEFISecure}
		if !slices.Contains(known, vmtest.Firmware(f)) {
			return options, fault.New(fault.Usage, "", "--firmware %q is not one of %v", f, known)
		}
		options.Firmwares = append(options.Firmwares, vmtest.Firmware(f))
	}
	return options, nil
}

// hardwareOf returns the devices of the infrastructure that is named, or else of
// the one in the image's name; none in particular for others' images.
func hardwareOf(path, infrastructure string) (infra.Hardware, error) {
	place, ok := infra.Find(cmp.Or(infrastructure, infrastructureOf(path)))
	if infrastructure != "" && !ok {
		return infra.Hardware{}, fault.New(fault.Usage, "", "--infrastructure %q is not one of %s", infrastructure, strings.Join(infra.Names(), ", "))
	}
	return place.Hardware, nil
}

func printReport(w io.Writer, report *vmtest.Report, asJSON bool) error {
	if !asJSON {
		return report.WriteText(w)
	}
	return printJSON(w, report)
}
