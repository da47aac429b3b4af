package cli

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"nodesmith.dev/nodesmith/internal/contract"
	"nodesmith.dev/nodesmith/internal/fault"
	"nodesmith.dev/nodesmith/internal/infra"
	"nodesmith.dev/nodesmith/internal/proof"
	"nodesmith.dev/nodesmith/internal/report"
	"nodesmith.dev/nodesmith/internal/vmtest"
)

// boot boots one image and prints what the guest reported.
func (v verification) boot(ctx context.Context, s streams, subject subject) (err error) {
	if err := v.lesser(ctx, s, subject); err != nil {
		return err
	}
	image, disk, err := openForQEMU(ctx, subject, v.from)
	if err != nil {
		return err
	}
	defer closing(&err, image)
	if err := bootable(subject.name, image); err != nil {
		return err
	}
	firmware := v.firmware
	if len(firmware) == 0 {
		firmware = contract.Firmware(image.Source, image.Source.Size())
	}
	var options vmtest.BootOptions
	options.Disk, options.Deadline, options.Cluster = disk, v.deadline, v.level == proof.Cluster.String()
	for _, f := range firmware {
		options.Firmwares = append(options.Firmwares, vmtest.Firmware(f))
	}
	if options.Hardware, err = hardwareOf(subject, v.infrastructure); err != nil {
		return err
	}
	options.Notify = func(line string) { fmt.Fprintln(s.err, line) }
	if v.console {
		options.Console = s.err
	}
	result, failure := vmtest.Boot(ctx, options)
	if result != nil {
		kept := error(nil)
		if failure == nil || fault.KindOf(failure) == fault.Guest { // else the host's fault, or interrupted
			kept = subject.attachBoots(ctx, result)
		}
		if err := errors.Join(kept, printBoot(s.out, result, v.asJSON)); err != nil {
			return err
		}
	}
	// A guest's failure stands in the report, at length.
	if result != nil && result.Verdict != vmtest.Pass && (failure == nil || fault.KindOf(failure) == fault.Guest) {
		return fault.New(fault.Guest, "the report above says what the guest saw; --console shows its serial console", "%s failed the level %s", subject.name, v.level)
	}
	return failure
}

// lesser holds an image in the store against the contract, if that was not done: a
// level includes the lesser ones.
func (v verification) lesser(ctx context.Context, s streams, image subject) error {
	if image.disk == nil {
		return nil
	}
	if proven, err := image.proven(ctx); err != nil || proven.Level >= proof.Contract {
		return err
	}
	result, err := v.check(ctx, image)
	if err != nil {
		return err
	}
	if err := result.Err(false); err != nil {
		fmt.Fprintf(s.err, "%s: %v: booting will not prove it (nodesmith verify %s --level contract)\n", image.name, err, image.name)
	}
	return nil
}

// attachBoots keeps the report of boots with a disk of the store. A report of the
// level cluster is one of the level boot, too, and its control plane belongs to
// the first firmware alone.
func (s subject) attachBoots(ctx context.Context, result *vmtest.Report) error {
	var firmware []string
	for _, boot := range result.Boots {
		firmware = append(firmware, string(boot.Firmware))
	}
	if err := s.attachBoot(ctx, proof.Boot, firmware, result.Boot()); err != nil || !result.Cluster {
		return err
	}
	return s.attachBoot(ctx, proof.Cluster, firmware[:1], result)
}

func (s subject) attachBoot(ctx context.Context, level proof.Level, firmware []string, result *vmtest.Report) error {
	text, err := json.Marshal(report.OfBoot(result))
	if err != nil {
		return err
	}
	return s.attach(ctx, level, result.Verdict == vmtest.Pass, firmware, text)
}

// hardwareOf returns the devices of the infrastructure that is named, or else of
// the one that the image is for; none in particular for others' images.
func hardwareOf(image subject, infrastructure string) (infra.Hardware, error) {
	place, ok := infra.Find(cmp.Or(infrastructure, image.infrastructure()))
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
