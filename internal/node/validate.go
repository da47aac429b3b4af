package node

import (
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"

	"nodesmith.dev/nodesmith/internal/fault"
)

var (
	// accountName is what useradd(8) takes as a name of a user or group.
	accountName = regexp.MustCompile(`^[a-z_][a-z0-9_-]{0,31}$`)
	accountID   = regexp.MustCompile(`^[0-9]{1,9}$`)
	// sysctlName is a key of sysctl.d(5), with dots or slashes between elements.
	sysctlName = regexp.MustCompile(`^[a-z0-9_]+([./][A-Za-z0-9_@:*-]+)+$`)
	// unitName is a unit of systemd.unit(5): prefix, perhaps @instance, and a type.
	// moduleName is what modules-load.d(5) lists, timeZone a path below
	// /usr/share/zoneinfo.
	moduleName      = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_-]*$`)
	timeZone        = regexp.MustCompile(`^[A-Za-z0-9_+-]+(/[A-Za-z0-9_+-]+)*$`)
	certificateName = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_.-]*$`)
	subjectHash     = regexp.MustCompile(`^[0-9a-f]{8}$`)
	unitName        = regexp.MustCompile(
		`^[A-Za-z0-9:_.\\-]+(@[A-Za-z0-9:_.\\-]*)?\.(service|socket|timer|target|path|mount|automount|swap|slice)$`)
)

// accountFiles hold the accounts. Only Config.Users changes them: a file that
// replaced one would undo what packages and users added to it.
var accountFiles = []string{
	"/etc/passwd", "/etc/group", "/etc/shadow", "/etc/gshadow",
}

// identities are globs of what makes two nodes one when an image holds it; no
// Config may write it.
var identities = []string{
	"/etc/ssh/ssh_host_*",
	"/var/lib/dbus/machine-id",
	"/var/lib/systemd/random-seed",
	"/var/lib/systemd/credential.secret",
	"/etc/nvme/hostid", "/etc/nvme/hostnqn",
	"/var/lib/cloud/*",
}

// Identities returns globs of what no image may hold because each node makes
// its own: host keys, machine ids, seeds, cloud-init's state.
func Identities() []string { return slices.Clone(identities) }

// Validate returns every defect of c at once, each with the JSON path of the
// field, what it holds and what is allowed; nil when c can be applied.
func (c Config) Validate() error {
	v := &validator{seen: map[string]string{}}
	for i, p := range c.Removals {
		v.removal(fmt.Sprintf("removals[%d]", i), p)
	}
	for i, d := range c.Directories {
		at := fmt.Sprintf("directories[%d]", i)
		v.target(at, d.Path)
		v.owner(at, d.Owner)
		v.mode(at, d.Mode)
	}
	for i, f := range c.Files {
		v.file(fmt.Sprintf("files[%d]", i), f)
	}
	for i, l := range c.Links {
		at := fmt.Sprintf("links[%d]", i)
		v.target(at, l.Path)
		if l.Target == "" || strings.ContainsRune(l.Target, 0) {
			v.errorf(at+".target", "%q is not a path", l.Target)
		}
	}
	for i, g := range c.Groups {
		at := fmt.Sprintf("groups[%d]", i)
		if !accountName.MatchString(g.Name) {
			v.errorf(at+".name", "%q does not match %s", g.Name, accountName)
		}
		v.once(at+".name", "group", g.Name)
		v.id(at, g.ID)
	}
	for i, u := range c.Users {
		v.user(fmt.Sprintf("users[%d]", i), u)
	}
	for _, k := range sortedKeys(c.Sysctls) {
		v.sysctl(fmt.Sprintf("sysctls[%s]", k), k, c.Sysctls[k])
	}
	v.units(c.Units)
	v.settings(c)
	return v.err()
}

// validator collects defects and where each path and name was first given.
type validator struct {
	errs []error
	seen map[string]string
}

func (v *validator) err() error {
	if len(v.errs) == 0 {
		return nil
	}
	return fault.New(fault.BadSpec, "", "node configuration: %w", errors.Join(v.errs...))
}

func (v *validator) errorf(at, format string, args ...any) {
	v.errs = append(v.errs, fmt.Errorf("%s: %w", at, fmt.Errorf(format, args...)))
}

// once reports a key (a path, a user) that was given before.
func (v *validator) once(at, what, key string) {
	if first, ok := v.seen[what+key]; ok {
		v.errorf(at, "%s %q is given at %s already", what, key, first)
		return
	}
	v.seen[what+key] = at
}

// absolute reports whether p is a clean absolute path below the root.
func (v *validator) absolute(at, p string) bool {
	if !path.IsAbs(p) || p == "/" || path.Clean(p) != p || strings.ContainsRune(p, 0) {
		v.errorf(at, "%q is not an absolute path without \".\", \"..\" and doubled slashes", p)
		return false
	}
	return true
}

// target checks a path that is written.
func (v *validator) target(at, p string) {
	if !v.absolute(at+".path", p) {
		return
	}
	v.once(at+".path", "path", p)
	if slices.Contains(accountFiles, p) {
		v.errorf(at+".path", "%s is written from users, not from files", p)
	}
	switch p {
	case UserSysctls:
		v.errorf(at+".path", "%s is written from sysctls, not from files", p)
	case UserModules:
		v.errorf(at+".path", "%s is written from kernelModules, not from files", p)
	case "/etc/localtime":
		v.errorf(at+".path", "%s is written from timeZone, not from files", p)
	}
	for above := p; above != "/"; above = path.Dir(above) {
		if matchesAny(identities, above) {
			v.errorf(at+".path", "%s has to be made by each node for itself; an image must not hold it", p)
		}
	}
}

func matchesAny(globs []string, p string) bool {
	return slices.ContainsFunc(globs, func(glob string) bool {
		ok, err := path.Match(glob, p)
		return ok && err == nil
	})
}

func (v *validator) removal(at, p string) {
	if !v.absolute(at, p) {
		return
	}
	if _, err := path.Match(p, ""); err != nil {
		v.errorf(at, "%q is not a glob: %w", p, err)
		return
	}
	first, _, _ := strings.Cut(p[1:], "/")
	if strings.ContainsAny(first, `*?[\`) {
		v.errorf(at, "%q would match the top directories of the node; its first element has to be a name", p)
	}
}

func (v *validator) owner(at string, o Owner) {
	for _, f := range []struct{ field, value string }{{".user", o.User}, {".group", o.Group}} {
		if f.value != "" && !accountName.MatchString(f.value) && !accountID.MatchString(f.value) {
			v.errorf(at+f.field, "%q is neither a name nor a decimal id", f.value)
		}
	}
}

func (v *validator) mode(at string, m Mode) {
	if m > 0o7777 {
		v.errorf(at+".mode", "%s is more than 7777", m)
	}
}

func (v *validator) file(at string, f File) {
	v.target(at, f.Path)
	v.owner(at, f.Owner)
	v.mode(at, f.Mode)
	if f.Source != "" && !fs.ValidPath(f.Source) {
		v.errorf(at+".source", "%q is not a relative path without \".\" and \"..\"", f.Source)
	}
	if f.Source != "" && f.Content != "" {
		v.errorf(at, "has both content and source; give one")
	}
	if !utf8.ValidString(f.Content) {
		v.errorf(at+".content", "is not UTF-8, which JSON would change; give the file as source")
	}
	if f.Path == "/etc/machine-id" && (f.Content != "" || f.Source != "") {
		v.errorf(at, "/etc/machine-id has to be empty: each node makes its own")
	}
}

// id checks the number of an account of a person, or of a group.
func (v *validator) id(at string, id int) {
	if id != 0 && (id < MinID || id > MaxID) {
		v.errorf(at+".id", "%d is not from %d to %d", id, MinID, MaxID)
	}
}

func (v *validator) user(at string, u User) {
	if !accountName.MatchString(u.Name) {
		v.errorf(at+".name", "%q does not match %s", u.Name, accountName)
	}
	v.once(at+".name", "user", u.Name)
	v.id(at, u.ID)
	for i, g := range u.Groups {
		if !accountName.MatchString(g) {
			v.errorf(fmt.Sprintf("%s.groups[%d]", at, i), "%q does not match %s", g, accountName)
		}
	}
	if u.Shell != "" && v.absolute(at+".shell", u.Shell) && strings.ContainsAny(u.Shell, ":\n") {
		v.errorf(at+".shell", "%q can't be written to /etc/passwd", u.Shell)
	}
	for i, k := range u.SSHAuthorizedKeys {
		if err := checkKey(k); err != nil {
			v.errorf(fmt.Sprintf("%s.sshAuthorizedKeys[%d]", at, i), "%w", err)
		}
	}
}

func (v *validator) sysctl(at, name, value string) {
	if !sysctlName.MatchString(name) {
		v.errorf(at, "%q is not a kernel parameter such as net.ipv4.ip_forward", name)
	}
	if value == "" || strings.ContainsAny(value, "\n\r\x00") {
		v.errorf(at, "%q is not one line of text", value)
	}
}

// settings checks what is neither a path nor a unit.
func (v *validator) settings(c Config) {
	for i, m := range c.KernelModules {
		at := fmt.Sprintf("kernelModules[%d]", i)
		if !moduleName.MatchString(m) {
			v.errorf(at, "%q is not the name of a kernel module", m)
		}
		v.once(at, "module", m)
	}
	if c.TimeZone != "" && !timeZone.MatchString(c.TimeZone) {
		v.errorf("timeZone", "%q is not a time zone such as Etc/UTC", c.TimeZone)
	}
	if !c.Trust.IsZero() {
		v.trust(c.Trust)
	}
	for i, cut := range c.Cuts {
		at := fmt.Sprintf("cuts[%d]", i)
		v.absolute(at+".path", cut.Path)
		if _, err := regexp.Compile(cut.Lines); err != nil || cut.Lines == "" {
			v.errorf(at+".lines", "%q is not a regular expression", cut.Lines)
		}
		if strings.ContainsAny(cut.Instead, "\r\n") {
			v.errorf(at+".instead", "%q is more than a line", cut.Instead)
		}
	}
}

func (v *validator) trust(t Trust) {
	for _, p := range []struct{ field, path string }{
		{"anchors", t.Anchors}, {"directory", t.Directory}, {"bundle", t.Bundle},
	} {
		v.absolute("trust."+p.field, p.path)
	}
	for i, c := range t.Certificates {
		at := fmt.Sprintf("trust.certificates[%d]", i)
		if !certificateName.MatchString(c.Name) {
			v.errorf(at+".name", "%q does not match %s", c.Name, certificateName)
		}
		v.once(at+".name", "certificate", c.Name)
		if !subjectHash.MatchString(c.SubjectHash) {
			v.errorf(at+".subjectHash", "%q does not match %s", c.SubjectHash, subjectHash)
		}
		if strings.Count(c.PEM, "-----BEGIN ") != 1 || !strings.HasPrefix(c.PEM, "-----BEGIN CERTIFICATE-----\n") ||
			!strings.HasSuffix(c.PEM, "\n-----END CERTIFICATE-----\n") {
			v.errorf(at+".pem", "is not exactly one certificate")
		}
	}
}

func (v *validator) units(u Units) {
	for _, l := range []struct {
		at    string
		names []string
	}{{"units.enable", u.Enable}, {"units.disable", u.Disable}, {"units.mask", u.Mask}} {
		for i, n := range l.names {
			at := fmt.Sprintf("%s[%d]", l.at, i)
			if !unitName.MatchString(n) {
				v.errorf(at, "%q is not the full name of a unit, such as kubelet.service", n)
			}
			v.once(at, "unit", n)
		}
	}
}

// checkKey reports whether line is one public key in the form of sshd(8),
// AUTHORIZED_KEYS FILE FORMAT: [options] type base64 [comment]. The blob names
// its type in itself (RFC 4253, section 6.6), so a cut or mixed-up key is found.
func checkKey(line string) error {
	if strings.ContainsAny(line, "\n\r\x00") {
		return errors.New("is more than one line")
	}
	if strings.Contains(line, "PRIVATE KEY") {
		return errors.New("is a private key; give the public one")
	}
	fields := strings.Fields(line)
	for i := 0; i+1 < len(fields); i++ {
		blob, err := base64.StdEncoding.DecodeString(fields[i+1])
		if err != nil || len(blob) < 4 {
			continue
		}
		n := uint64(binary.BigEndian.Uint32(blob))
		if n > 0 && n < uint64(len(blob)-4) && string(blob[4:4+n]) == fields[i] {
			return nil
		}
	}
	return fmt.Errorf("%.40q is not a public key such as \"ssh-ed25519 AAAA... name\"", line)
}
