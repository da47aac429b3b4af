package v1alpha1

import (
	"unicode/utf8"

	"nodesmith.dev/nodesmith/internal/lazyregexp"
)

// syntax is the form of a string: what it is called, a description of what is
// allowed for people, the pattern, and its greatest length in bytes (0: any).
type syntax struct {
	what, allowed string
	pattern       *lazyregexp.Regexp
	maxLength     int
}

// ok says whether a value has the form. Patterns take broken UTF-8 for U+FFFD,
// which they allow.
func (s syntax) ok(value string) bool {
	return utf8.ValidString(value) && (s.maxLength == 0 || len(value) <= s.maxLength) && s.pattern.MatchString(value)
}

// control is what no single line of text contains, for patterns: control and
// format characters, and the code points that Unicode keeps from being any.
const control = `\pC\x{fffe}\x{ffff}`

var (
	// A DNS-1123 subdomain, so that it is a Kubernetes object name, no longer
	// than a label's value may be.
	nameSyntax = syntax{
		"a name",
		"at most 63 of a-z, 0-9, - and ., each part between dots beginning and ending with a letter or digit",
		lazyregexp.New(`^[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*$`), 63,
	}
	// Debian Policy 5.6.1 (Package) and 5.6.12 (Version).
	packageSyntax = syntax{
		"a Debian package",
		"NAME or NAME=VERSION, such as htop or curl=7.88.1-10+deb12u14",
		lazyregexp.New(`^[a-z0-9][a-z0-9+.-]+(=([0-9]+:)?[0-9][A-Za-z0-9.+~-]*)?$`), 0,
	}
	// RFC 3986 without user information, query and fragment; no space, which
	// sources.list(5) separates by.
	archiveURLSyntax = syntax{
		"the address of a package archive", "http://HOST/PATH or https://HOST/PATH without a slash at its end",
		lazyregexp.New(`^https?://([A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?(/[A-Za-z0-9_~:+%=,-][A-Za-z0-9._~:+%=,-]*)*$`), 1024,
	}
	// The path below dists: bookworm, noble-updates.
	suiteSyntax = syntax{
		"a suite", "the name of a directory below dists, such as noble-updates",
		lazyregexp.New(`^[A-Za-z0-9][A-Za-z0-9._+~-]*$`), 255,
	}
	// Or, of a flat repository, the directory of its indices.
	repositorySuiteSyntax = syntax{
		"a suite", "the name of a directory below dists, such as bookworm, or / for a flat repository",
		lazyregexp.New(`^([A-Za-z0-9][A-Za-z0-9._+~-]*|(\./|/)?([A-Za-z0-9][A-Za-z0-9._+~-]*/)*)$`), 255,
	}
	componentSyntax = syntax{
		"a component", "a name such as main or universe",
		lazyregexp.New(`^[A-Za-z0-9][A-Za-z0-9._+-]*$`), 255,
	}
	// What apt reads of sources.list.d (sources.list(5)).
	repositoryNameSyntax = syntax{
		"the name of a repository", "letters, digits, _, - and ., such as docker",
		lazyregexp.New(`^[A-Za-z0-9_][A-Za-z0-9_.-]*$`), 200,
	}
	// Absolute and clean, of printable characters: no empty part, "." or "..".
	pathSyntax = syntax{
		"the path of a file",
		"an absolute path without . and .. and without / at its end",
		lazyregexp.New(`^(/([^/.` + control + `]|\.[^/.` + control + `]|\.\.[^/` + control + `])[^/` + control + `]*)+$`), 4095,
	}
	// Whatever symlink(2) takes, of printable characters.
	targetSyntax = syntax{
		"the target of a link", "an absolute path, or one relative to the link's directory",
		lazyregexp.New(`^[^` + control + `]+$`), 4095,
	}
	// Beside these characters fs.ValidPath decides.
	sourceSyntax = syntax{
		"a path in the build context",
		"a path relative to the build context, without . and .. and with / between names",
		lazyregexp.New(`^[^` + control + `]+$`), 4095,
	}
	// Any text. On the controls that are left out YAML's readers and writers
	// differ: some refuse them, some turn them into spaces.
	contentSyntax = syntax{
		"text", "UTF-8 text without control characters U+0000 and U+007F to U+009F; source takes any file",
		lazyregexp.New(`^[^\x00\x7f-\x{9f}\x{fffe}\x{ffff}]*$`), 0,
	}
	textSyntax = syntax{"text", "UTF-8 text without control characters U+0000 and U+007F to U+009F", contentSyntax.pattern, 0}
	// Octal digits with a quarter for setuid, setgid and sticky.
	modeSyntax = syntax{
		"a file mode", `three or four octal digits in quotes, such as "0644"`,
		lazyregexp.New(`^[0-7]{3,4}$`), 0,
	}
	ownerSyntax = syntax{
		"an owner", "USER:GROUP, each a name or a number, such as root:root or 1000:1000",
		lazyregexp.New(`^([a-z_][a-z0-9_-]{0,31}|0|[1-9][0-9]{0,8}):([a-z_][a-z0-9_-]{0,31}|0|[1-9][0-9]{0,8})$`), 0,
	}
	// What useradd(8) of the shadow suite accepts, without the "$" at the end
	// that is for Samba.
	userSyntax = syntax{
		"a user name", "at most 32 of a-z, 0-9, _ and -, beginning with a letter or _",
		lazyregexp.New(`^[a-z_][a-z0-9_-]*$`), 32,
	}
	groupSyntax = syntax{"a group name", userSyntax.allowed, userSyntax.pattern, userSyntax.maxLength}
	// Debian Policy 9.2.2: what packages do not take, as far as systemd leaves it
	// to accounts of people (from 60001 on are its dynamic users).
	idSyntax = syntax{
		"a number of an account", "a whole number from 1000 to 60000",
		lazyregexp.New(`^([1-9][0-9]{3}|[1-5][0-9]{4}|60000)$`), 0,
	}
	// passwd(5) separates its fields by colons.
	shellSyntax = syntax{
		"the path of a shell", "an absolute path such as /bin/bash",
		lazyregexp.New(`^(/[A-Za-z0-9_+-][A-Za-z0-9_.+-]*)+$`), 4095,
	}
	// Printable ASCII without white space, quotes, backslash and backquote: see
	// Spec.KernelArguments. x86's command line has 2048 bytes (COMMAND_LINE_SIZE).
	kernelArgumentSyntax = syntax{
		"a kernel argument",
		"one argument of printable ASCII characters without spaces, quotes and backslashes, such as console=ttyS0",
		lazyregexp.New(`^[!#-&(-\[\]-_a-~]+$`), 1024,
	}
	// A path below /proc/sys, as sysctl.d(5) has it; no patterns.
	sysctlKeySyntax = syntax{
		"the name of a kernel parameter", "names with dots, such as net.ipv4.ip_forward",
		lazyregexp.New(`^[A-Za-z0-9_][A-Za-z0-9_:@-]*([./][A-Za-z0-9_][A-Za-z0-9_:@-]*)+$`), 255,
	}
	sysctlValueSyntax = syntax{
		"the value of a kernel parameter", "one line",
		lazyregexp.New(`^[^` + control + `]*$`), 4095,
	}
	// A host as images name it, in lower case, with a port if it is not the
	// usual one; containerd's docs/hosts.md has _default.
	registrySyntax = syntax{
		"the name of a registry", "a host name, perhaps with a port, such as docker.io or registry.example.com:5000; or _default",
		lazyregexp.New(`^(_default|[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*(:[1-9][0-9]{0,4})?)$`), 253,
	}
	// What stands between the quotes of TOML and of a unit file as it is.
	urlSyntax = syntax{
		"a URL", "printable ASCII characters",
		lazyregexp.New(`^[A-Za-z0-9._~:/?#@!&'()*+,;=\[\]-]+$`), 2000,
	}
	tomlNameSyntax = syntax{
		"the name of a file in TOML", "a file name that ends in .toml, such as 10-metrics.toml",
		lazyregexp.New(`^[A-Za-z0-9_][A-Za-z0-9:_.@-]*\.toml$`), 255,
	}
	// A word that systemd's EnvironmentFile= and the splitting of a variable
	// leave as it is.
	kubeletFlagSyntax = syntax{
		"a flag of kubelet", "--NAME=VALUE of printable ASCII characters without spaces, quotes and backslashes, such as --v=4",
		lazyregexp.New(`^--[a-z0-9][a-z0-9-]*(=[!#-&(-\[\]-_a-~]*)?$`), 4095,
	}
	// As Go's programs read NO_PROXY (golang.org/x/net/http/httpproxy).
	noProxySyntax = syntax{
		"what is reached without a proxy", "a host, a domain, an address or a network, such as .example.com or 10.0.0.0/8",
		lazyregexp.New(`^(\*|[A-Za-z0-9.:\[\]_-]+(/[0-9]{1,3})?)$`), 253,
	}
	// Part of a file's and of a unit's name.
	scriptNameSyntax = syntax{
		"the name of a script", "a-z, 0-9 and -, beginning and ending with a letter or digit, such as harden-ssh",
		lazyregexp.New(`^[a-z0-9]([a-z0-9-]*[a-z0-9])?$`), 63,
	}
	// As modprobe(8) takes them: - and _ are the same.
	moduleSyntax = syntax{
		"the name of a kernel module", "letters, digits, _ and -, such as nvme_tcp",
		lazyregexp.New(`^[A-Za-z0-9_][A-Za-z0-9_-]*$`), 55, // MODULE_NAME_LEN of linux/moduleparam.h
	}
	// systemd.unit(5): a prefix, perhaps @ and an instance, and a type.
	unitSyntax = syntax{
		"the name of a systemd unit", "a full name such as backup.timer or tunnel@west.service",
		lazyregexp.New(`^[A-Za-z0-9:_.\\-]+(@[A-Za-z0-9:_.\\-]*)?\.(service|socket|timer|target|path|mount|automount|swap|slice)$`), 255,
	}
	dropInSyntax = syntax{
		"the name of a drop-in", "a file name that ends in .conf, such as 10-limits.conf",
		lazyregexp.New(`^[A-Za-z0-9_][A-Za-z0-9:_.@-]*\.conf$`), 255,
	}
	// RFC 1123 host names and IP addresses; chrony.conf(5) separates by spaces.
	serverSyntax = syntax{
		"a time server", "a host name or an IP address, such as ntp.example.org or 2001:db8::123",
		lazyregexp.New(`^([A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?(\.[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?)*|[0-9A-Fa-f:]*:[0-9A-Fa-f:.]*)$`), 253,
	}
	// Printable ASCII that neither fstab(5) nor the file operations of the build
	// give a meaning of their own.
	mountPointSyntax = syntax{
		"a mount point", "an absolute path of letters, digits, _, - and ., without . and .. and without / at its end",
		lazyregexp.New(`^(/([A-Za-z0-9_-]|\.[A-Za-z0-9_-]|\.\.[A-Za-z0-9_.-])[A-Za-z0-9_.-]*)+$`), 255,
	}
	// s_volume_name of ext4 has 16 bytes.
	labelSyntax = syntax{
		"a label", "at most 16 letters, digits, _, - and .",
		lazyregexp.New(`^[A-Za-z0-9_][A-Za-z0-9_.-]*$`), 16,
	}
	// fstab(5) separates options by commas and fields by white space.
	mountOptionSyntax = syntax{
		"a mount option", "one option such as noatime or commit=30",
		lazyregexp.New(`^[A-Za-z0-9_][A-Za-z0-9_.-]*(=[A-Za-z0-9_.:/+%@-]+)?$`), 255,
	}
	// Names of the IANA time zone database ("theory.html", Names of timezones).
	timeZoneSyntax = syntax{
		"a time zone", "a name of the IANA database, such as Etc/UTC or Europe/Berlin",
		lazyregexp.New(`^[A-Za-z0-9_+-]+(/[A-Za-z0-9_+-]+)*$`), 255,
	}
	// A file name; update-ca-certificates(8) has shell scripts read it.
	certificateNameSyntax = syntax{
		"the name of a certificate", "letters, digits, _, - and ., such as example-root",
		lazyregexp.New(`^[A-Za-z0-9_][A-Za-z0-9_.-]*$`), 200,
	}
	// A Go module path, a package or an address.
	inputSyntax = syntax{
		"the name of an input", "a name without spaces, such as a Go module's path",
		lazyregexp.New(`^[!-~]+$`), 1024,
	}
)
