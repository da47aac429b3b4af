package v1alpha1

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net/url"
	"slices"
	"strings"

	"github.com/pelletier/go-toml/v2"
	"golang.org/x/mod/semver"

	"nodesmith.dev/nodesmith/internal/certificate"
)

// ContainerRuntime is how containerd is set up, beside what a node needs anyway.
type ContainerRuntime struct {
	// RegistryMirrors say where containerd looks for images of a registry before
	// or instead of the registry itself. Credentials have no place in an image:
	// pods bring theirs as image pull secrets, a node's kubelet gets them from a
	// credential provider.
	RegistryMirrors []RegistryMirror `json:"registryMirrors,omitempty"`
	// Config are files of containerd's configuration that are read after the
	// node's own, in the order of their names: metrics, further runtimes,
	// limits. The cgroup driver and the sandbox image stay what kubeadm expects.
	Config []RuntimeConfig `json:"config,omitempty"`
}

// RegistryMirror is one registry and where its images are to be had.
type RegistryMirror struct {
	// Registry is the name that images begin with, perhaps with a port; _default
	// stands for every registry that has no entry.
	Registry string `json:"registry"`
	// Mirrors are asked in this order.
	Mirrors []Mirror `json:"mirrors"`
	// Exclusive never asks the registry itself, not even if no mirror answers.
	Exclusive bool `json:"exclusive,omitempty"`
}

// Mirror is a server that has images of a registry.
type Mirror struct {
	// URL is the mirror's address; containerd adds /v2 if it does not end so.
	URL string `json:"url"`
	// Capabilities are what the mirror is trusted with: pull is to deliver what
	// a digest names, resolve to say which digest a tag has, push to take
	// images. Without any, a mirror has pull and resolve.
	Capabilities []string `json:"capabilities,omitempty"`
	// OverridePath takes the URL as it is: nothing is added to its path.
	OverridePath bool `json:"overridePath,omitempty"`
	// SkipVerify takes any certificate from the mirror.
	SkipVerify bool `json:"skipVerify,omitempty"`
	// CA is the certificate that vouches for this mirror alone;
	// spec.caCertificates vouch for every one.
	CA MirrorCA `json:"ca,omitzero"`
}

// Trust returns the capabilities, or those of a mirror that names none.
func (m Mirror) Trust() []string {
	if len(m.Capabilities) == 0 {
		return []string{"pull", "resolve"}
	}
	return m.Capabilities
}

// MirrorCA is a CA certificate. Exactly one of Content and Source is set.
type MirrorCA struct {
	// Content is the certificate, one PEM block.
	Content string `json:"content,omitempty"`
	// Source is the path of a PEM file in the build context, the folder of the
	// NodeImage: relative to it, with slashes.
	Source string `json:"source,omitempty"`
}

// Read returns the certificate, from the build context if it has a source.
func (ca MirrorCA) Read(buildContext fs.FS) (certificate.CA, error) {
	return CACertificate{Content: ca.Content, Source: ca.Source}.Read(buildContext)
}

// RuntimeConfig is a file of containerd's configuration.
type RuntimeConfig struct {
	// Name is the file's name in /etc/containerd/conf.d, ending in .toml.
	Name string `json:"name"`
	// Content is the file's text, in TOML. Its version is that of the node's
	// containerd, whether it is written or not: 3 for containerd 2.
	Content string `json:"content"`
}

// Where containerd finds mirrors and further configuration.
const (
	RegistryDirectory      = "/etc/containerd/certs.d"
	RuntimeConfigDirectory = "/etc/containerd/conf.d"
)

// capabilities are the values of Mirror.Capabilities.
var capabilities = []string{"pull", "resolve", "push"}

// runtime checks what is said about containerd.
func (c *checker) runtime(spec *Spec, known Known, buildContext fs.FS) {
	seen := map[string]string{}
	for i, registry := range spec.ContainerRuntime.RegistryMirrors {
		at := fmt.Sprintf("spec.containerRuntime.registryMirrors[%d]", i)
		switch name := registry.Registry; {
		case slices.Contains(dockerNames, strings.TrimPrefix(name, "https://")):
			c.add(FieldError{Field: at + ".registry", Found: quote(name), Problem: "is not the name that images have", Suggestion: "docker.io"})
		case !c.matches(at+".registry", name, registrySyntax):
			if bare := strings.TrimSuffix(strings.TrimPrefix(strings.TrimPrefix(name, "https://"), "http://"), "/"); registrySyntax.ok(bare) {
				c.errs[len(c.errs)-1].Suggestion = bare
			}
		case !c.repeated(seen, at+".registry", name, name):
			c.claim(at+".registry", RegistryDirectory+"/"+name+"/hosts.toml", aFile)
		}
		if len(registry.Mirrors) == 0 {
			c.require(at + ".mirrors")
		}
		urls := map[string]string{}
		for j, mirror := range registry.Mirrors {
			at := fmt.Sprintf("%s.mirrors[%d]", at, j)
			c.mirror(at, mirror, buildContext)
			c.repeated(urls, at+".url", mirror.URL, mirror.URL)
		}
	}
	version := known.ContainerdConfig[semver.MajorMinor(spec.Kubernetes.Version)]
	for i, config := range spec.ContainerRuntime.Config {
		at := fmt.Sprintf("spec.containerRuntime.config[%d]", i)
		if c.matches(at+".name", config.Name, tomlNameSyntax) {
			c.claim(at+".name", RuntimeConfigDirectory+"/"+config.Name, aFile)
		}
		if config.Content == "" {
			c.require(at + ".content")
			continue
		}
		if !c.matches(at+".content", config.Content, textSyntax) {
			continue
		}
		if bad := checkRuntimeConfig(config.Content, version); bad != nil {
			bad.Field = at + ".content"
			c.add(*bad)
		}
	}
}

// dockerNames are what people take for the registry of docker.io's images.
var dockerNames = []string{"registry-1.docker.io", "index.docker.io", "hub.docker.com", "docker.com"}

// mirror checks one mirror of a registry.
func (c *checker) mirror(at string, mirror Mirror, buildContext fs.FS) {
	c.url(at+".url", mirror.URL, mirrorForm)
	for at, capability := range c.unique(at+".capabilities", mirror.Capabilities) {
		c.oneOf(at, capability, "is not something that a mirror can be trusted with", capabilities)
	}
	if plain := strings.HasPrefix(mirror.URL, "http://"); plain && (mirror.SkipVerify || mirror.CA != MirrorCA{}) {
		c.add(FieldError{Field: at, Problem: "has no certificate to verify: its url begins with http://", Allowed: []string{"skipVerify and ca with https:// alone"}})
	}
	switch {
	case mirror.CA == MirrorCA{}:
	case mirror.SkipVerify:
		c.add(FieldError{Field: at, Problem: "has both skipVerify and ca", Allowed: []string{"at most one of skipVerify, ca"}})
	default:
		c.certificate(at+".ca", mirror.CA.Content, mirror.CA.Source, buildContext)
	}
}

// mirrorForm describes a mirror's URL.
const mirrorForm = "an http or https URL, such as https://mirror.example.com/dockerhub"

// url checks an http or https URL that holds no credentials.
func (c *checker) url(at, value, form string) {
	parsed, err := url.Parse(value)
	bad := FieldError{Field: at, Found: quote(value), Problem: "is not a URL of a server", Allowed: []string{form}}
	switch {
	case value == "":
		c.require(at, form)
		return
	case err == nil && parsed.User != nil || err != nil && strings.Contains(value, "@"):
		bad.Found, bad.Problem = "the URL", "holds credentials, which do not belong in a NodeImage; take them for exposed" // and are not repeated
	case err != nil || parsed.Scheme != "http" && parsed.Scheme != "https" || parsed.Hostname() == "" ||
		parsed.RawQuery != "" || parsed.Fragment != "" || !urlSyntax.ok(value):
	default:
		return
	}
	c.add(bad)
}

// runtimeKeys are the names at the top of containerd's configuration (type
// Config of its cmd/containerd/server/config): it passes over any other.
var runtimeKeys = []string{
	"version", "root", "state", "temp", "grpc", "ttrpc", "debug", "metrics", "disabled_plugins", "required_plugins",
	"plugins", "oom_score", "cgroup", "proxy_plugins", "timeouts", "imports", "stream_processors",
}

// taken is a setting of containerd that a node can't do without, by its path.
type taken struct {
	path []string
	why  string
}

// runtimeTaken are those settings: of every version of the configuration (0),
// and of one.
var runtimeTaken = map[int][]taken{
	0: {
		{[]string{"root"}, "the image's container images lie in /var/lib/containerd"},
		{[]string{"state"}, "kubelet and crictl look for containerd in /run/containerd"},
		{[]string{"grpc", "address"}, "kubelet and crictl look for containerd in /run/containerd"},
		{[]string{"imports"}, "every file of /etc/containerd/conf.d is read anyway"},
	},
	2: {
		{[]string{"plugins", "io.containerd.grpc.v1.cri"}, "containerd 1.7 takes this section whole from the last file that has it, and so would lose the cgroup driver and the sandbox image"},
	},
	3: {
		{[]string{"plugins", "io.containerd.cri.v1.runtime", "containerd", "runtimes", "runc", "options", "SystemdCgroup"}, "kubelet's cgroup driver is systemd's as well"},
		{[]string{"plugins", "io.containerd.cri.v1.images", "pinned_images", "sandbox"}, "it is the image that this kubeadm names, and that the image holds"},
		{[]string{"plugins", "io.containerd.cri.v1.images", "registry", "config_path"}, "registryMirrors are written to the directory that it names"},
		{[]string{"plugins", "io.containerd.grpc.v1.cri"}, "it belongs to version 2 and does nothing; version 3 has io.containerd.cri.v1.runtime and io.containerd.cri.v1.images"},
	},
}

// checkRuntimeConfig returns what is wrong with a file of containerd's
// configuration. The node's version is 0 if nothing is known of it.
func checkRuntimeConfig(text string, version int) *FieldError {
	config := map[string]any{}
	if err := toml.Unmarshal([]byte(text), &config); err != nil {
		bad := &FieldError{Found: "the content", Problem: "is not TOML: " + strings.TrimPrefix(err.Error(), "toml: ")}
		if at, ok := errors.AsType[*toml.DecodeError](err); ok {
			bad.lineOfText, _ = at.Position()
		}
		return bad
	}
	for _, key := range slices.Sorted(maps.Keys(config)) {
		if !slices.Contains(runtimeKeys, key) {
			return &FieldError{Found: quote(key), Problem: "is not a setting of containerd", Allowed: runtimeKeys, Suggestion: nearest(key, runtimeKeys)}
		}
	}
	if given, ok := config["version"]; ok && version != 0 && given != int64(version) {
		return &FieldError{
			Found: fmt.Sprintf("version = %v", given), Problem: "is not the version of this Kubernetes' containerd",
			Allowed: []string{fmt.Sprintf("version = %d, or none", version)},
		}
	}
	for _, setting := range slices.Concat(runtimeTaken[0], runtimeTaken[version]) {
		if holds(config, setting.path) {
			return &FieldError{Found: strings.Join(setting.path, " > "), Problem: "can't be set: " + setting.why}
		}
	}
	return nil
}

// holds says whether nested tables have a value at a path.
func holds(table map[string]any, path []string) bool {
	value, ok := table[path[0]]
	if below, nested := value.(map[string]any); nested && len(path) > 1 {
		return holds(below, path[1:])
	}
	return ok && len(path) == 1
}
