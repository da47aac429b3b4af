// Package node says what a Kubernetes node is configured to be.
//
// What comes in is a node's parameters (Kubernetes version, containerd's config
// version, the image's name) and what a user asks for; what goes out is a
// Config: files, links, users and units as data. Package apply writes a Config
// into a tree. Nothing here reads a file, the clock or the environment, and the
// same input gives the same Config, byte by byte.
package node

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"

	"nodesmith.dev/nodesmith/internal/fault"
)

// Config is all that is applied to a node's tree. Paths are absolute paths of
// the node. In the JSON form unknown fields are errors.
type Config struct {
	// Removals are globs (path.Match for each element between slashes) of what
	// is removed, with all below it, before anything is written.
	Removals    []string    `json:"removals,omitempty"`
	Directories []Directory `json:"directories,omitempty"`
	Files       []File      `json:"files,omitempty"`
	Links       []Link      `json:"links,omitempty"`
	Groups      []Group     `json:"groups,omitempty"`
	Users       []User      `json:"users,omitempty"`
	// Sysctls are the user's kernel parameters by name; they are written to
	// UserSysctls and win over the node's own.
	Sysctls map[string]string `json:"sysctls,omitempty"`
	Units   Units             `json:"units,omitzero"`
	// KernelModules are further modules to load at boot; they are written to
	// UserModules, and the tree's kernels have to have them.
	KernelModules []string `json:"kernelModules,omitempty"`
	// TimeZone is a zone of the tree's /usr/share/zoneinfo; as the tree has it
	// when it is empty.
	TimeZone string `json:"timeZone,omitempty"`
	// Cuts take lines out of files that packages brought, or change them.
	Cuts []Cut `json:"cuts,omitempty"`
	// Trust adds certificates to those that the node's programs trust.
	Trust Trust `json:"trust,omitzero"`
}

// Trust is a distribution's store of CA certificates, and what is added to it.
type Trust struct {
	// Anchors is the directory from which the distribution's own tool takes
	// added certificates when it makes the store anew.
	Anchors string `json:"anchors,omitempty"`
	// Directory is where OpenSSL looks certificates up by their subject's hash.
	Directory string `json:"directory,omitempty"`
	// Bundle is the file of all certificates, which Go's programs read.
	Bundle       string        `json:"bundle,omitempty"`
	Certificates []Certificate `json:"certificates,omitempty"`
}

// IsZero reports whether nothing is added; omitzero asks it.
func (t Trust) IsZero() bool { return len(t.Certificates) == 0 }

// Certificate is one CA certificate.
type Certificate struct {
	// Name is its file's name, without an extension.
	Name string `json:"name"`
	// PEM is one PEM block.
	PEM string `json:"pem"`
	// SubjectHash is what "openssl x509 -subject_hash" prints of it.
	SubjectHash string `json:"subjectHash"`
}

// Cut takes the lines that match a regular expression out of a file of the tree,
// or puts another in the place of each.
type Cut struct {
	Path string `json:"path"`
	// Lines is matched against each line without its end (package regexp).
	Lines string `json:"lines"`
	// Instead is the line, without its end, that stands there afterwards; with
	// none the lines are gone, and there need not have been any.
	Instead string `json:"instead,omitempty"`
}

// UserModules is the file that Config.KernelModules is written to.
const UserModules = "/etc/modules-load.d/user.conf"

// UserSysctls is the file that Config.Sysctls is written to: its name sorts
// behind those of the node's own parameters and of the distribution.
const UserSysctls = "/etc/sysctl.d/99-z-user.conf"

// Owner is who a path belongs to. Each field is a name of the target's
// /etc/passwd or /etc/group, or a decimal id; empty is root.
type Owner struct {
	User  string `json:"user,omitempty"`
	Group string `json:"group,omitempty"`
}

// Directory is a directory that exists when the Config is applied; one that
// exists already gets the mode and the owner.
type Directory struct {
	Path string `json:"path"`
	// Mode is 0755 when it is zero.
	Mode Mode `json:"mode,omitzero"`
	Owner
}

// File is a regular file; it takes the place of a file or link at its path.
type File struct {
	Path string `json:"path"`
	// Mode is 0644 when it is zero.
	Mode Mode `json:"mode,omitzero"`
	Owner
	// Content is the text of the file, in UTF-8. At most one of Content and
	// Source is given; an empty file has neither.
	Content string `json:"content,omitempty"`
	// Source is a slash-separated path inside the directory of the user's files.
	Source string `json:"source,omitempty"`
}

// Link is a symbolic link; it takes the place of a file or link at its path.
type Link struct {
	Path string `json:"path"`
	// Target is what the link says, relative or absolute. It need not exist.
	Target string `json:"target"`
}

// People's accounts have ids in this range: login.defs' UID_MIN and UID_MAX.
const (
	MinID = 1000
	MaxID = 60000
)

// Group is a group that the node shall have, unless it has one of that name.
type Group struct {
	Name string `json:"name"`
	// ID is the group's number; 0 takes a free one.
	ID int `json:"id,omitempty"`
}

// User is an account that people log in to by key. Nobody has a password. An
// account that exists (root) keeps its ids, home and shell; it gets the keys,
// groups and sudo given here. A new one without an id of its own gets the first
// from 1000 on that is free as a user and as a group. Its home is /home/NAME, a copy of what
// packages put into /etc/skel; Config.Files may add to it.
type User struct {
	Name string `json:"name"`
	// ID is the number of the account and of its own group; 0 takes a free one.
	ID int `json:"id,omitempty"`
	// SSHAuthorizedKeys are lines of the account's authorized_keys.
	SSHAuthorizedKeys []string `json:"sshAuthorizedKeys,omitempty"`
	// Groups are the further groups of the account; each one has to exist.
	Groups []string `json:"groups,omitempty"`
	// Shell is a program of the node; /bin/bash when it is empty.
	Shell string `json:"shell,omitempty"`
	// Sudo lets the account run everything as everyone, without a password
	// (it has none).
	Sudo bool `json:"sudo,omitempty"`
}

// Units are systemd's units by full name, such as kubelet.service.
type Units struct {
	// Enable makes the links that the units' [Install] sections name, as
	// "systemctl enable" does.
	Enable []string `json:"enable,omitempty"`
	// Disable takes all links away that start the units at boot, as
	// "systemctl disable" does.
	Disable []string `json:"disable,omitempty"`
	// Mask makes it impossible to start the units.
	Mask []string `json:"mask,omitempty"`
}

// IsZero reports whether no unit is named; omitzero asks it.
func (u Units) IsZero() bool { return len(u.Enable)+len(u.Disable)+len(u.Mask) == 0 }

// Mode is permission bits with setuid, setgid and sticky, at most 07777. Its
// JSON form is a string of octal digits: "0644".
type Mode uint32

// String returns the mode as four octal digits.
func (m Mode) String() string { return fmt.Sprintf("%04o", uint32(m)) }

// MarshalText gives the JSON form.
func (m Mode) MarshalText() ([]byte, error) { return []byte(m.String()), nil }

// UnmarshalText reads the JSON form; the error says what is allowed.
func (m *Mode) UnmarshalText(text []byte) error {
	v, err := strconv.ParseUint(string(text), 8, 32)
	if err != nil || v > 0o7777 {
		return fmt.Errorf("mode %q is not octal digits up to 7777, such as \"0644\"", text)
	}
	*m = Mode(v)
	return nil
}

// Decode reads a Config in its JSON form and validates it.
func Decode(r io.Reader) (Config, error) {
	var c Config
	d := json.NewDecoder(r)
	d.DisallowUnknownFields()
	if err := d.Decode(&c); err != nil {
		return Config{}, fault.New(fault.BadSpec, "", "read the node's configuration: %w", err)
	}
	if _, err := d.Token(); err != io.EOF {
		return Config{}, fault.New(fault.BadSpec, "", "read the node's configuration: more than one JSON value")
	}
	if err := c.Validate(); err != nil {
		return Config{}, err
	}
	return c, nil
}

// With returns the configuration that has all of c and all of over. Where both
// say something of one path, user, parameter or unit, over wins. Neither is
// changed.
func (c Config) With(over Config) Config {
	paths := over.paths()
	covered := func(p string) bool { return paths[p] }
	out := Config{
		Removals: slices.Concat(c.Removals, over.Removals),
		Directories: append(slices.DeleteFunc(slices.Clone(c.Directories),
			func(d Directory) bool { return covered(d.Path) }), over.Directories...),
		Files: append(slices.DeleteFunc(slices.Clone(c.Files),
			func(f File) bool { return covered(f.Path) }), over.Files...),
		Links: append(slices.DeleteFunc(slices.Clone(c.Links),
			func(l Link) bool { return covered(l.Path) }), over.Links...),
		Groups: append(slices.DeleteFunc(slices.Clone(c.Groups), func(g Group) bool {
			return slices.ContainsFunc(over.Groups, func(o Group) bool { return o.Name == g.Name })
		}), over.Groups...),
		Users: append(slices.DeleteFunc(slices.Clone(c.Users), func(u User) bool {
			return slices.ContainsFunc(over.Users, func(o User) bool { return o.Name == u.Name })
		}), over.Users...),
		Units: Units{
			Enable:  union(without(c.Units.Enable, over.Units.Mask, over.Units.Disable), over.Units.Enable),
			Disable: union(without(c.Units.Disable, over.Units.Mask, over.Units.Enable), over.Units.Disable),
			Mask:    union(without(c.Units.Mask, over.Units.Enable, over.Units.Disable), over.Units.Mask),
		},
		KernelModules: union(c.KernelModules, over.KernelModules),
		TimeZone:      cmp.Or(over.TimeZone, c.TimeZone),
		Cuts:          slices.Concat(c.Cuts, over.Cuts),
		Trust:         c.Trust.with(over.Trust),
	}
	for _, m := range []map[string]string{c.Sysctls, over.Sysctls} {
		for k, v := range m {
			if out.Sysctls == nil {
				out.Sysctls = map[string]string{}
			}
			out.Sysctls[k] = v
		}
	}
	return out
}

// Written returns the paths that c writes and names, in order.
func (c Config) Written() []string { return slices.Sorted(maps.Keys(c.paths())) }

// paths returns the paths that c writes.
func (c Config) paths() map[string]bool {
	m := map[string]bool{}
	for _, d := range c.Directories {
		m[d.Path] = true
	}
	for _, f := range c.Files {
		m[f.Path] = true
	}
	for _, l := range c.Links {
		m[l.Path] = true
	}
	return m
}

func without(a []string, b ...[]string) []string {
	taken := slices.Concat(b...)
	return slices.DeleteFunc(slices.Clone(a), func(s string) bool { return slices.Contains(taken, s) })
}

func union(a, b []string) []string { return append(without(a, b), b...) }

// with returns the store of t, or of over if t has none, with the certificates
// of both; of two with one name, over's.
func (t Trust) with(over Trust) Trust {
	if over.IsZero() {
		return t
	}
	named := func(c Certificate) bool {
		return slices.ContainsFunc(over.Certificates, func(o Certificate) bool { return o.Name == c.Name })
	}
	over.Certificates = append(slices.DeleteFunc(slices.Clone(t.Certificates), named), over.Certificates...)
	return over
}
