package grub

import (
	"bytes"
	"embed"
	"fmt"
	"strings"
	"text/template"

	"nodesmith.dev/nodesmith/internal/disk/gpt"
	"nodesmith.dev/nodesmith/internal/fault"
)

//go:embed assets
var assets embed.FS

var templates = template.Must(template.New("").Funcs(template.FuncMap{"quote": quote}).ParseFS(assets, "assets/*.cfg"))

// render fills in an asset.
func render(name string, data any) ([]byte, error) {
	var b bytes.Buffer
	if err := templates.ExecuteTemplate(&b, name, data); err != nil {
		return nil, fmt.Errorf("GRUB configuration: %w", err)
	}
	return b.Bytes(), nil
}

// Menu is what GRUB boots, on BIOS and UEFI alike.
type Menu struct {
	// Title is what the menu shows.
	Title string
	// RootUUID is the UUID of the root file system.
	RootUUID gpt.GUID
	// Kernel and Initrd are absolute paths in the root file system: the links
	// that the distribution keeps on its newest kernel (/vmlinuz, /initrd.img).
	Kernel, Initrd string
	// Arguments are appended to root= and ro; see ValidateArgument.
	Arguments []string
}

// Config returns the content of /boot/grub/grub.cfg.
func Config(m Menu) ([]byte, error) {
	if err := ValidateArguments(m.Arguments); err != nil {
		return nil, err
	}
	if why := unquotable(m.Title); why != "" {
		return nil, fmt.Errorf("menu title %q: %s", m.Title, why)
	}
	for _, path := range []string{m.Kernel, m.Initrd} {
		if !strings.HasPrefix(path, "/") || quote(path) != path {
			return nil, fmt.Errorf("boot file %q: want an absolute path of letters, digits and - _ . /", path)
		}
	}
	return render("grub.cfg", m)
}

// ESPConfig returns the content of EFI/<vendor>/grub.cfg on the EFI system
// partition, where the distribution's signed GRUB looks first: it hands over to
// /boot/grub/grub.cfg on the root file system.
func ESPConfig(rootUUID gpt.GUID) ([]byte, error) { return render("esp.cfg", rootUUID) }

// Defaults returns the content of /etc/default/grub.d/50-nodesmith.cfg, so that
// update-grub on the node keeps the kernel arguments.
func Defaults(arguments []string) ([]byte, error) {
	if err := ValidateArguments(arguments); err != nil {
		return nil, err
	}
	quoted := make([]string, len(arguments))
	for i, a := range arguments {
		quoted[i] = quote(a)
	}
	// Two readers: the shell that sources the file, and GRUB, which reads the
	// value as update-grub copies it into grub.cfg.
	shell := strings.NewReplacer(`\`, `\\`, `"`, `\"`, `$`, `\$`, "`", "\\`").Replace(strings.Join(quoted, " "))
	return render("50-nodesmith.cfg", `"`+shell+`"`)
}

// ValidateArguments returns the first error of ValidateArgument, with its index.
func ValidateArguments(arguments []string) error {
	for i, a := range arguments {
		if err := ValidateArgument(a); err != nil {
			return fmt.Errorf("argument %d: %w", i+1, err)
		}
	}
	return nil
}

// ValidateArgument says whether GRUB can pass a kernel argument on unchanged and
// whether it is the user's to give. Blanks are possible: GRUB puts double quotes
// around such an argument, which the kernel takes off.
func ValidateArgument(argument string) error {
	remedy := "give each argument as one item: name or name=value"
	if argument == "" {
		return fault.New(fault.BadSpec, remedy, "a kernel argument is empty")
	}
	if why := unquotable(argument); why != "" {
		return fault.New(fault.BadSpec, remedy, "kernel argument %q: %s", argument, why)
	}
	name, _, _ := strings.Cut(argument, "=")
	switch name {
	case "root", "initrd", "BOOT_IMAGE":
		return fault.New(fault.BadSpec, "leave it out", "kernel argument %q: %s= is set by the boot loader", argument, name)
	}
	return nil
}

// unquotable says why GRUB can't carry a text, or "". GRUB's loader puts a
// backslash before quotes and backslashes (grub-core/lib/cmdline.c), and the
// kernel does not take it off again.
func unquotable(text string) string {
	for _, r := range text {
		switch {
		case r < 0x20 || r == 0x7f:
			return "it has a control character"
		case r > 0x7e:
			return "it has a character outside ASCII"
		case strings.ContainsRune(`'"\`, r):
			return fmt.Sprintf("it has the character %c, which GRUB does not pass on unchanged", r)
		}
	}
	return ""
}

// quote makes text one word of GRUB's shell. text has no single quote.
func quote(text string) string {
	const plain = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.,:/=@%+"
	if text != "" && strings.Trim(text, plain) == "" {
		return text
	}
	return "'" + text + "'"
}
