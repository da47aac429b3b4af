package apply

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"regexp"
	"strings"

	"nodesmith.dev/nodesmith/internal/node"
)

// cutLines takes lines out of files that packages brought, or changes them.
func (r *run) cutLines() error {
	for _, cut := range r.config.Cuts {
		lines, err := regexp.Compile(cut.Lines)
		if err != nil {
			return fmt.Errorf("%s: %w", cut.Path, err)
		}
		text, err := r.tree.read(cut.Path)
		if err != nil {
			return fmt.Errorf("lines to cut: %w", err)
		}
		var kept strings.Builder
		matched := 0
		for line := range strings.Lines(string(text)) {
			if !lines.MatchString(strings.TrimSuffix(line, "\n")) {
				kept.WriteString(line)
				continue
			}
			if matched++; cut.Instead != "" {
				kept.WriteString(cut.Instead + "\n")
			}
		}
		if matched == 0 && cut.Instead != "" {
			return fmt.Errorf("%s: no line matches %s, which was to be %q", cut.Path, cut.Lines, cut.Instead)
		}
		if kept.String() == string(text) {
			continue
		}
		if err := r.tree.rewrite(cut.Path, []byte(kept.String())); err != nil {
			return fmt.Errorf("%s: %w", cut.Path, err)
		}
	}
	return nil
}

// zones is where tzdata keeps the time zones.
const zones = "/usr/share/zoneinfo"

// writeTimeZone points /etc/localtime to the zone (localtime(5)), and names the
// zone in /etc/timezone where the distribution still has that.
func (r *run) writeTimeZone() error {
	zone := r.config.TimeZone
	if zone == "" {
		return nil
	}
	at, err := r.tree.resolve(path.Join(zones, zone), true)
	if err != nil {
		return err
	}
	if info, err := r.tree.root.Lstat(at); err != nil || !info.Mode().IsRegular() {
		return fmt.Errorf("time zone %s: the image's tzdata has no such zone; older names are in the package tzdata-legacy", zone)
	}
	if err := r.tree.link("/etc/localtime", path.Join(zones, zone)); err != nil {
		return err
	}
	if _, err := r.tree.lstat("/etc/timezone"); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return r.tree.rewrite("/etc/timezone", []byte(zone+"\n"))
}

// writeModules lists the user's kernel modules for systemd-modules-load, after
// looking for them: a missing one would fail at every boot.
func (r *run) writeModules() error {
	modules := r.config.KernelModules
	if len(modules) == 0 {
		return nil
	}
	kernels, err := r.tree.glob("/lib/modules/*")
	if err != nil {
		return err
	}
	if len(kernels) == 0 {
		return errors.New("kernel modules: the image has no kernel")
	}
	for _, kernel := range kernels {
		have, err := r.modulesOf(kernel)
		if err != nil {
			return err
		}
		for _, module := range modules {
			if !have[strings.ReplaceAll(module, "-", "_")] {
				return fmt.Errorf("kernel module %s: the kernel %s has no such module", module, path.Base(kernel))
			}
		}
	}
	content := strings.Join(modules, "\n") + "\n"
	return r.tree.file(node.UserModules, strings.NewReader(content), 0, 0, 0o644)
}

// modulesOf returns the names of a kernel's modules, "-" written as "_": those
// that depmod(8) lists ("kernel/fs/overlayfs/overlay.ko.xz: ...") and those that
// are built in.
func (r *run) modulesOf(kernel string) (map[string]bool, error) {
	have := map[string]bool{}
	for _, list := range []string{"modules.dep", "modules.builtin"} {
		text, err := r.tree.read(path.Join("/", kernel, list))
		if err != nil {
			return nil, fmt.Errorf("modules of the kernel %s: %w", path.Base(kernel), err)
		}
		for line := range strings.Lines(string(text)) {
			file, _, _ := strings.Cut(strings.TrimSpace(line), ":")
			name, _, ok := strings.Cut(path.Base(file), ".ko")
			if ok {
				have[strings.ReplaceAll(name, "-", "_")] = true
			}
		}
	}
	return have, nil
}
