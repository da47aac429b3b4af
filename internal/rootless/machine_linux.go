package rootless

import (
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"golang.org/x/sys/unix"

	"nodesmith.dev/nodesmith/internal/fault"
)

// wantedIDs is how many subordinate ids it takes: those of every user and group
// that an image has, up to nobody's 65534.
const wantedIDs = 65535

// machine is what a host allows its users.
type machine struct {
	root string // "/" but in tests
	user *user.User
	find func(program string) (string, error) // exec.LookPath if nil
	try  func() trial                         // try if nil
}

// lack is one thing that a host does not have, and what to do about it.
type lack struct{ what, remedy string }

// lacks names everything that stands in the way of a user namespace.
func (m machine) lacks() error {
	lacks := append(m.programs(), m.subordinateIDs()...)
	lacks = append(lacks, m.privileges()...)
	lacks = append(lacks, m.kernel()...)
	if len(lacks) == 0 {
		return nil
	}
	var text strings.Builder
	for _, l := range lacks {
		fmt.Fprintf(&text, "\n  - %s\n    %s", l.what, l.remedy)
	}
	return fault.New(fault.MissingHost, "or build as root, or on another engine (--engine)",
		"building without root: for the user %s this host lacks%s", m.user.Username, text.String())
}

func (m machine) programs() (lacks []lack) {
	find := m.find
	if find == nil {
		find = exec.LookPath
	}
	for _, p := range []struct{ name, install string }{
		{"newuidmap", "apt-get install uidmap (shadow-utils elsewhere)"},
		{"newgidmap", "apt-get install uidmap (shadow-utils elsewhere)"},
		{"runc", "apt-get install runc"},
	} {
		if _, err := find(p.name); err != nil {
			lacks = append(lacks, lack{"the program " + p.name, p.install})
		}
	}
	return lacks
}

// subordinateIDs looks into subuid(5) and subgid(5). What a directory service
// gives (subid in nsswitch.conf) it does not see.
func (m machine) subordinateIDs() (lacks []lack) {
	for _, f := range []struct{ name, here, flag string }{
		{"subuid", "uid_map", "--add-subuids"},
		{"subgid", "gid_map", "--add-subgids"},
	} {
		given, here := subordinate(filepath.Join(m.root, "etc", f.name), m.user), mapped(filepath.Join(m.root, "proc/self", f.here))
		switch has := count(given); {
		case has < wantedIDs:
			lacks = append(lacks, lack{
				fmt.Sprintf("subordinate ids in /etc/%s: it gives %d, and %d are needed", f.name, has, wantedIDs),
				fmt.Sprintf("as root: usermod %s 100000-165535 %s (a range that nobody else has)", f.flag, m.user.Username),
			})
		case count(common(given, here)) < has:
			lacks = append(lacks, lack{
				fmt.Sprintf("subordinate ids: not all that /etc/%s gives exist in this user namespace (/proc/self/%s)", f.name, f.here),
				"in a container of rootless Podman or Docker: as its root and --privileged, which is no more than its user may",
			})
		}
	}
	return lacks
}

// ids are the user or group ids from first up to, but not including, end.
type ids struct{ first, end uint64 }

func count(ranges []ids) (total uint64) {
	for _, r := range ranges {
		total += r.end - r.first
	}
	return total
}

// common are the ids that both have.
func common(a, b []ids) (both []ids) {
	for _, x := range a {
		for _, y := range b {
			if r := (ids{max(x.first, y.first), min(x.end, y.end)}); r.first < r.end {
				both = append(both, r)
			}
		}
	}
	return both
}

// subordinate reads the ranges that the file gives to the user, whom it calls by
// name or number.
func subordinate(path string, who *user.User) []ids { return ranges(path, 1, who.Username, who.Uid) }

// mapped reads which ids there are in this process's user namespace: all, where that
// can't be read.
func mapped(path string) []ids {
	if here := ranges(path, 0); len(here) > 0 {
		return here
	}
	return []ids{{0, 1 << 32}}
}

// ranges reads a file of lines of three fields: one of them is a first id, and the
// last how many there are. Lines that begin with none of the names don't count.
func ranges(path string, first int, names ...string) (all []ids) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil
	}
	for line := range strings.Lines(string(data)) {
		fields := strings.FieldsFunc(line, func(r rune) bool { return r == ':' || unicode.IsSpace(r) })
		if len(fields) != 3 || len(names) > 0 && !slices.Contains(names, fields[0]) {
			continue
		}
		from, badFrom := strconv.ParseUint(fields[first], 10, 32)
		number, badNumber := strconv.ParseUint(fields[2], 10, 32)
		if badFrom == nil && badNumber == nil {
			all = append(all, ids{from, from + number})
		}
	}
	return all
}

// switches are the kernel's settings that forbid user namespaces to users. A
// kernel without the switch forbids nothing.
var switches = []struct{ name, forbids, what, remedy string }{
	{
		"user/max_user_namespaces", "0", "user namespaces: the kernel's limit is 0",
		"as root: sysctl -w user.max_user_namespaces=28633",
	},
	{
		"kernel/unprivileged_userns_clone", "0", "user namespaces for users: Debian's kernel.unprivileged_userns_clone is 0",
		"as root: sysctl -w kernel.unprivileged_userns_clone=1",
	},
	{
		"kernel/apparmor_restrict_unprivileged_userns", "1",
		"user namespaces for users: AppArmor forbids them (Ubuntu 23.10 and newer)",
		"as root: an AppArmor profile for nodesmith with `userns,` (docs/engines.md), or sysctl -w kernel.apparmor_restrict_unprivileged_userns=0",
	},
}

// kernel asks the switches first: a trial does not say which of them it was.
func (m machine) kernel() (lacks []lack) {
	for _, s := range switches {
		data, err := os.ReadFile(filepath.Join(m.root, "proc/sys", s.name))
		if err != nil || strings.TrimSpace(string(data)) != s.forbids {
			continue
		}
		if s.forbids == "1" && m.confined() {
			continue // its own profile decides
		}
		lacks = append(lacks, lack{s.what, s.remedy})
	}
	if len(lacks) > 0 {
		return lacks
	}
	if m.try == nil {
		return try().lacks()
	}
	return m.try().lacks()
}

// privileges looks for what newuidmap and newgidmap gain, and a container may have
// taken from all its processes (proc_pid_status(5)).
func (m machine) privileges() (lacks []lack) {
	data, err := os.ReadFile(filepath.Join(m.root, "proc/self/status"))
	if err != nil {
		return nil
	}
	for line := range strings.Lines(string(data)) {
		name, value, _ := strings.Cut(line, ":")
		value = strings.TrimSpace(value)
		switch name {
		case "NoNewPrivs":
			if value == "1" {
				lacks = append(lacks, lack{
					"privileges for newuidmap and newgidmap: this process and its children may gain none (no_new_privs)",
					"a container without --security-opt no-new-privileges (Kubernetes: allowPrivilegeEscalation: true)",
				})
			}
		case "CapBnd":
			const wanted = 1<<unix.CAP_SETUID | 1<<unix.CAP_SETGID
			if has, err := strconv.ParseUint(value, 16, 64); err == nil && has&wanted != wanted {
				lacks = append(lacks, lack{
					"the capabilities SETUID and SETGID, which newuidmap and newgidmap use",
					"in a container: --cap-add=SETUID --cap-add=SETGID",
				})
			}
		}
	}
	return lacks
}

// confined says whether this program runs under an AppArmor profile.
func (m machine) confined() bool {
	data, err := os.ReadFile(filepath.Join(m.root, "proc/self/attr/current"))
	label := strings.TrimRight(string(data), "\x00\n ")
	return err == nil && label != "" && label != "unconfined"
}
