package v1alpha1

import (
	"fmt"
	"io/fs"
	"iter"
	"maps"
	"slices"
	"strings"

	"golang.org/x/crypto/ssh"
	"golang.org/x/mod/semver"
)

// Known is what the rest of the program supports: the values that some fields
// may have, in the order in which messages list them.
type Known struct {
	// Distributions maps a distribution to its versions.
	Distributions map[string][]string
	// Kubernetes are the supported minor versions: v1.34.
	Kubernetes []string
	// ContainerdConfig maps them to the version of containerd's configuration.
	ContainerdConfig map[string]int
	Infrastructures  []string
	Architectures    []string
	// Formats are those of disks.
	Formats []string
}

// Validate checks a NodeImage that was not read from a file, after Default. It
// returns everything that is wrong: an error of kind fault.BadSpec that wraps an
// ErrorList without places. buildContext is where files[].source is looked up;
// nil leaves that out.
func (img *NodeImage) Validate(known Known, buildContext fs.FS) error {
	return img.check(known, buildContext).asFault()
}

// check returns what is wrong with a NodeImage, without places.
func (img *NodeImage) check(known Known, buildContext fs.FS) ErrorList {
	c := checker{paths: map[string]claim{}}
	spec := &img.Spec
	c.oneOf("apiVersion", img.APIVersion, "is not an API version of nodesmith", []string{APIVersion})
	c.oneOf("kind", img.Kind, "is not a kind of file that nodesmith reads", []string{Kind})
	c.matches("metadata.name", img.Metadata.Name, nameSyntax)
	c.operatingSystem(spec.OS, known)
	c.kubernetes(spec.Kubernetes, known)
	c.containerImages(spec.ContainerImages, buildContext)
	if len(spec.Infrastructures) == 0 {
		c.require("spec.infrastructures", known.Infrastructures...)
	}
	for at, infrastructure := range c.unique("spec.infrastructures", spec.Infrastructures) {
		c.oneOf(at, infrastructure, "is not a supported infrastructure", known.Infrastructures)
	}
	for at, format := range c.unique("spec.formats", spec.Formats) {
		c.oneOf(at, format, "is not a disk format", known.Formats)
	}
	c.oneOf("spec.architecture", spec.Architecture, "is not a supported architecture", known.Architectures)
	c.sources(spec.Source, buildContext)
	c.repositories(spec, buildContext)
	c.runtime(spec, known, buildContext)
	c.kubelet(spec.Kubelet)
	c.proxy(spec.Proxy)
	c.packages(spec.Packages)
	c.files(spec, buildContext)
	c.directories(spec.Directories, buildContext)
	c.links(spec.Links)
	c.scripts(spec.Scripts, buildContext)
	for at, argument := range c.unique("spec.kernelArguments", spec.KernelArguments) {
		c.matches(at, argument, kernelArgumentSyntax)
	}
	c.sysctls(spec.Sysctls)
	for at, module := range c.unique("spec.kernelModules", spec.KernelModules) {
		c.matches(at, module, moduleSyntax)
	}
	c.units(spec.SystemdUnits)
	for at, server := range c.unique("spec.ntpServers", spec.NTPServers) {
		c.matches(at, server, serverSyntax)
	}
	c.matches("spec.timeZone", spec.TimeZone, timeZoneSyntax)
	c.certificates(spec.CACertificates, buildContext)
	c.groups(spec.Groups)
	c.users(spec.Users, spec.Groups)
	c.disk(spec.Disk)
	c.vsphere(spec.VSphere, img)
	c.publish("spec.publish", spec.Publish, buildContext)
	for at, input := range c.unique("spec.allowUnverified", spec.AllowUnverified) {
		c.matches(at, input, inputSyntax)
	}
	c.nesting()
	return c.errs
}

// checker collects what is wrong.
type checker struct {
	errs ErrorList
	// paths are those that fields put into the image.
	paths map[string]claim
}

func (c *checker) add(e FieldError) { c.errs = append(c.errs, &e) }

// require reports a field that is not there.
func (c *checker) require(at string, allowed ...string) {
	c.add(FieldError{Field: at, Problem: "is required", Allowed: allowed})
}

// oneOf checks a value against a list.
func (c *checker) oneOf(at, value, problem string, allowed []string) {
	switch {
	case missing(at, value):
		c.require(at, allowed...)
	case !slices.Contains(allowed, value):
		c.add(FieldError{Field: at, Found: quote(value), Problem: problem, Allowed: allowed, Suggestion: nearest(value, allowed)})
	}
}

// matches checks a value's form. A wrong value that is right in lower case is
// suggested so.
func (c *checker) matches(at, value string, s syntax) bool {
	if s.ok(value) {
		return true
	}
	if missing(at, value) {
		c.require(at, s.allowed)
		return false
	}
	e := FieldError{Field: at, Found: quote(value), Problem: "is not " + s.what, Allowed: []string{s.allowed}}
	if lower := strings.ToLower(value); lower != value && s.ok(lower) {
		e.Suggestion = lower
	}
	c.add(e)
	return false
}

// missing says whether a field has no value. An empty item of a list is not
// missing but wrong.
func missing(at, value string) bool { return value == "" && !strings.HasSuffix(at, "]") }

// unique yields the items of a list with their paths and reports repetitions.
func (c *checker) unique(list string, items []string) iter.Seq2[string, string] {
	return func(yield func(at, item string) bool) {
		seen := map[string]string{}
		for i, item := range items {
			at := fmt.Sprintf("%s[%d]", list, i)
			if !c.repeated(seen, at, item, item) && !yield(at, item) {
				return
			}
		}
	}
}

// repeated reports a value that means the same as that of an earlier field.
func (c *checker) repeated(seen map[string]string, at, meaning, value string) bool {
	if first, ok := seen[meaning]; ok {
		c.add(FieldError{Field: at, Found: quote(value), Problem: "is there twice; first as " + first})
		return true
	}
	seen[meaning] = at
	return false
}

func (c *checker) operatingSystem(os OS, known Known) {
	c.oneOf("spec.os.distro", os.Distro, "is not a supported distribution", slices.Sorted(maps.Keys(known.Distributions)))
	versions, ok := known.Distributions[os.Distro]
	if ok || os.Version == "" { // else there is no telling which versions there are
		c.oneOf("spec.os.version", os.Version, "is not a supported version of "+os.Distro, versions)
	}
}

func (c *checker) kubernetes(k Kubernetes, known Known) {
	const at, form = "spec.kubernetes.version", "a version such as v1.34.0"
	switch {
	case k.Version == "":
		c.require(at, form)
	case !fullVersion(k.Version):
		e := FieldError{Field: at, Found: quote(k.Version), Problem: "is not a version", Allowed: []string{form}}
		for _, better := range []string{"v" + k.Version, k.Version + ".0", "v" + k.Version + ".0"} {
			if fullVersion(better) {
				e.Suggestion = better
				break
			}
		}
		c.add(e)
	case !slices.Contains(known.Kubernetes, semver.MajorMinor(k.Version)):
		c.add(FieldError{Field: at, Found: quote(k.Version), Problem: "is not a supported version of Kubernetes", Allowed: known.Kubernetes})
	case semver.Build(k.Version) != "":
		c.add(FieldError{
			Field: at, Found: quote(k.Version), Problem: "is a vendor's build, and no Go module has such a version",
			Suggestion: semver.Canonical(k.Version),
		})
	}
}

// fullVersion says whether a version is v1.2.3, not v1.2, perhaps with a
// prerelease (-rc.1) and build metadata (+vendor.1).
func fullVersion(v string) bool {
	return semver.IsValid(v) && semver.Canonical(v)+semver.Build(v) == v
}

func (c *checker) packages(packages []string) {
	seen := map[string]string{}
	for i, p := range packages {
		at := fmt.Sprintf("spec.packages[%d]", i)
		if name, _, _ := strings.Cut(p, "="); c.matches(at, p, packageSyntax) {
			c.repeated(seen, at, name, p)
		}
	}
}

// sysctls checks kernel parameters. Slashes and dots name the same parameter.
func (c *checker) sysctls(sysctls map[string]string) {
	swap := strings.NewReplacer(".", "/", "/", ".")
	seen := map[string]string{}
	for _, key := range slices.Sorted(maps.Keys(sysctls)) {
		at := "spec.sysctls[" + key + "]"
		if !sysctlKeySyntax.ok(key) {
			c.add(FieldError{
				Field: at, Found: quote(key), Problem: "is not " + sysctlKeySyntax.what,
				Allowed: []string{sysctlKeySyntax.allowed}, onKey: true,
			})
			continue
		}
		// sysctl.d(5): the first separator says which of the two separates.
		name := key
		if key[strings.IndexAny(key, "./")] == '/' {
			name = swap.Replace(key)
		}
		c.repeated(seen, at, name, key)
		if !sysctlValueSyntax.ok(sysctls[key]) { // may be empty
			c.matches(at, sysctls[key], sysctlValueSyntax)
		}
	}
}

func (c *checker) groups(groups []Group) {
	names, numbers := map[string]string{}, map[string]string{}
	for i, group := range groups {
		at := fmt.Sprintf("spec.groups[%d]", i)
		if c.matches(at+".name", group.Name, groupSyntax) {
			c.repeated(names, at+".name", group.Name, group.Name)
		}
		if group.GID != "" && c.matches(at+".gid", group.GID, idSyntax) {
			c.repeated(numbers, at+".gid", group.GID, group.GID)
		}
	}
}

// users checks accounts; each has a group of its own name and number beside
// those of groups.
func (c *checker) users(users []User, groups []Group) {
	seen, numbers, own := map[string]string{}, map[string]string{}, map[string]string{}
	for i, group := range groups {
		at := fmt.Sprintf("spec.groups[%d]", i)
		own[group.Name] = at + ".name"
		if group.GID != "" {
			numbers[group.GID] = at + ".gid"
		}
	}
	for i, user := range users {
		at := fmt.Sprintf("spec.users[%d]", i)
		switch {
		case user.Name == "root":
			c.add(FieldError{
				Field: at + ".name", Found: quote(user.Name), Problem: "is there already, and can't log in",
				Allowed: []string{"a new user, who may have sudo"},
			})
		case c.matches(at+".name", user.Name, userSyntax):
			if !c.repeated(seen, at+".name", user.Name, user.Name) {
				c.repeated(own, at+".name", user.Name, user.Name)
			}
		}
		if user.UID != "" && c.matches(at+".uid", user.UID, idSyntax) {
			c.repeated(numbers, at+".uid", user.UID, user.UID)
		}
		for at, group := range c.unique(at+".groups", user.Groups) {
			c.matches(at, group, groupSyntax)
		}
		for at, key := range c.unique(at+".sshAuthorizedKeys", user.SSHAuthorizedKeys) {
			c.sshKey(at, key)
		}
		c.matches(at+".shell", user.Shell, shellSyntax)
	}
}

// sshKeyForm describes an SSH public key.
const sshKeyForm = "one line of a .pub file, such as ssh-ed25519 AAAA... name"

// sshKey checks one line of authorized_keys(5).
func (c *checker) sshKey(at, key string) {
	if strings.Contains(key, "PRIVATE KEY") {
		c.add(FieldError{ // which must not be repeated in a message
			Field: at, Found: "a private key", Problem: "does not belong in an image; take it for exposed",
			Allowed: []string{"the public key, one line of a .pub file"},
		})
		return
	}
	_, _, _, rest, err := ssh.ParseAuthorizedKey([]byte(key))
	if key == "" || err != nil || len(rest) > 0 || strings.ContainsAny(key, "\n\r\x00") {
		c.add(FieldError{
			Field: at, Found: quote(key), Problem: "is not an SSH public key",
			Allowed: []string{sshKeyForm},
		})
	}
}
