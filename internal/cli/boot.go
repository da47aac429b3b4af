package cli

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"slices"
	"strings"

	"nodesmith.dev/nodesmith/internal/contract"
	"nodesmith.dev/nodesmith/internal/fault"
	"nodesmith.dev/nodesmith/internal/infra"
	"nodesmith.dev/nodesmith/internal/report"
	"nodesmith.dev/nodesmith/internal/vmtest"
)

// boot boots one image file and prints what the guest reported.
func (v verification) boot(ctx context.Context, s streams, path string) (err error) {
	options, err := bootOptions(v.firmware)
	if err != nil {
		return err
	}
	image, disk, err := openForQEMU(ctx, path, v.from)
	if err != nil {
		return err
	}
	defer closing(&err, image)
	if err := bootable(path, image); err != nil {
		return err
	}
	if len(v.firmware) == 0 {
		for _, f := range contract.Firmware(image.Source, image.Source.Size()) {
			options.Firmwares = append(options.Firmwares, vmtest.Firmware(f))
		}
	}
	options.Disk, options.Deadline = disk, v.deadline
	if options.Hardware, err = hardwareOf(path, v.infrastructure); err != nil {
		return err
	}
	options.Notify = func(line string) { fmt.Fprintln(s.err, line) }
	if v.console {
		options.Console = s.err
	}
	result, failure := vmtest.Boot(ctx, options)
	if result != nil {
		if err := printBoot(s.out, result, v.asJSON); err != nil {
			return err
		}
	}
	// A guest's failure stands in the report, at length.
	if result != nil && result.Verdict != vmtest.Pass && (failure == nil || fault.KindOf(failure) == fault.Guest) {
		return fault.New(fault.Guest, "the report above says what the guest saw; --console shows its serial console", "%s failed the level %s", path, v.level)
	}
	return failure
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

func printBoot(w io.Writer, result *vmtest.Report, asJSON bool) error {
	if !asJSON {
		return result.WriteText(w)
	}
	return printJSON(w, report.OfBoot(result))
}
