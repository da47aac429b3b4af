package grub

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"nodesmith.dev/nodesmith/internal/disk/gpt"
	"nodesmith.dev/nodesmith/internal/fault"
	"nodesmith.dev/nodesmith/internal/testenv"
)

var rootUUID = gpt.MustGUID("11111111-2222-8333-8444-555555555555")

func menu(arguments ...string) Menu {
	return Menu{Title: "Debian 12", RootUUID: rootUUID, Kernel: "/vmlinuz", Initrd: "/initrd.img", Arguments: arguments}
}

var awkward = []string{"console=ttyS0,115200", "memmap=64M$0x18000000", "dyndbg=file drivers/usb/* +p", "x=a;b|c&{d}<e>#f`g`"}

func TestConfigBootsTheRootWithItsArguments(t *testing.T) {
	text, err := Config(menu(awkward...))
	if err != nil {
		t.Fatal(err)
	}
	want := "linux /vmlinuz root=UUID=11111111-2222-8333-8444-555555555555 ro console=ttyS0,115200 " +
		"'memmap=64M$0x18000000' 'dyndbg=file drivers/usb/* +p' 'x=a;b|c&{d}<e>#f`g`'\n"
	if !strings.Contains(string(text), want) {
		t.Errorf("no %q in\n%s", want, text)
	}
}

func TestGRUBAcceptsTheConfiguration(t *testing.T) {
	testenv.Need(t, "grub-script-check")
	config, err := Config(menu(awkward...))
	if err != nil {
		t.Fatal(err)
	}
	esp, err := ESPConfig(rootUUID)
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string][]byte{"grub.cfg": config, "esp.cfg": esp} {
		path := filepath.Join(t.TempDir(), name)
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
		if out, err := exec.Command("grub-script-check", path).CombinedOutput(); err != nil {
			t.Errorf("%s: %v\n%s", name, err, out)
		}
	}
}

func TestTheShellReadsTheDefaultsAsGRUBNeedsThem(t *testing.T) {
	text, err := Defaults(awkward)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "50-nodesmith.cfg")
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command("sh", "-euc", `. "$1"; printf %s "$GRUB_CMDLINE_LINUX"`, "sh", path).CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	want := "console=ttyS0,115200 'memmap=64M$0x18000000' 'dyndbg=file drivers/usb/* +p' 'x=a;b|c&{d}<e>#f`g`'"
	if string(out) != want {
		t.Errorf("got  %s\nwant %s", out, want)
	}
}

func TestArgumentsThatGRUBCannotCarryAreRefused(t *testing.T) {
	for _, bad := range []string{"", `a="b c"`, "it's", `back\slash`, "new\nline", "tab\t", "ü", "root=/dev/sda1", "initrd=/x", "BOOT_IMAGE=/x"} {
		for name, err := range map[string]error{
			"ValidateArgument": ValidateArgument(bad),
			"Config":           second(Config(menu(bad))),
			"Defaults":         second(Defaults([]string{bad})),
		} {
			if fault.KindOf(err) != fault.BadSpec {
				t.Errorf("%s(%q): %v", name, bad, err)
			}
		}
	}
	for _, good := range []string{"quiet", "rootwait", "rootfstype=ext4", "systemd.unified_cgroup_hierarchy=1"} {
		if err := ValidateArgument(good); err != nil {
			t.Error(err)
		}
	}
}

func second(_ []byte, err error) error { return err }

func TestTitlesAndPathsThatGRUBCannotCarryAreRefused(t *testing.T) {
	for name, spoil := range map[string]func(*Menu){
		"quote in the title": func(m *Menu) { m.Title = "it's" },
		"relative kernel":    func(m *Menu) { m.Kernel = "vmlinuz" },
		"variable in a path": func(m *Menu) { m.Initrd = "/$x" },
		"line end in a path": func(m *Menu) { m.Initrd = "/x\ny" },
	} {
		m := menu()
		spoil(&m)
		if _, err := Config(m); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func FuzzQuotedArguments(f *testing.F) {
	for _, a := range awkward {
		f.Add(a)
	}
	f.Fuzz(func(t *testing.T, argument string) {
		text, err := Config(menu(argument))
		if err != nil {
			return
		}
		// The argument is one line's last word: plain, or between single quotes.
		line, _, _ := strings.Cut(string(text[strings.Index(string(text), " ro ")+4:]), "\n")
		if line != argument && line != "'"+argument+"'" {
			t.Errorf("%q became %q", argument, line)
		}
	})
}

func TestTheBootSectorPointsToTheCoreImage(t *testing.T) {
	dir := t.TempDir()
	image := make([]byte, 512)
	image[driveCheckOffset], image[510], image[511] = shortJump, 0x55, 0xAA
	if err := os.WriteFile(filepath.Join(dir, "boot.img"), image, 0o600); err != nil {
		t.Fatal(err)
	}
	boot, err := BootSector(dir, 0x0102030405)
	if err != nil {
		t.Fatal(err)
	}
	if got := boot[kernelSectorOffset : kernelSectorOffset+8]; string(got) != "\x05\x04\x03\x02\x01\x00\x00\x00" {
		t.Errorf("kernel sector is %x", got)
	}
	if boot[driveCheckOffset] != noOperation || boot[driveCheckOffset+1] != noOperation || len(boot) != gpt.BootCodeSize {
		t.Errorf("drive check %x, %d bytes", boot[driveCheckOffset:driveCheckOffset+2], len(boot))
	}
	for name, content := range map[string][]byte{"short": image[:100], "no jump": make([]byte, 512)} {
		if err := os.WriteFile(filepath.Join(dir, "boot.img"), content, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := BootSector(dir, 1); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func TestCoreImagesThatCannotBePlacedAreErrors(t *testing.T) {
	good := make([]byte, 1000)
	good[blockListOffset+10], good[blockListOffset+11] = 0x20, 0x08
	core := Core{Start: 2048, Room: 2}
	image, err := core.locate(good)
	if err != nil || len(image) != 1024 {
		t.Fatalf("%d bytes, %v", len(image), err)
	}
	if got := string(image[blockListOffset:512]); got != "\x01\x08\x00\x00\x00\x00\x00\x00\x01\x00\x20\x08" {
		t.Errorf("block list %x", got)
	}
	for name, image := range map[string][]byte{
		"too small": good[:512], "too large": append(good, make([]byte, 100)...), "no block list": make([]byte, 1000),
	} {
		if _, err := core.locate(image); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}
