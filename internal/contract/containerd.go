package contract

import (
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/pelletier/go-toml/v2"
)

// Where containerd's configuration is, and the plugins that its settings
// belong to in versions 2 and 3 of the file.
const (
	containerdFile = "/etc/containerd/config.toml"
	certsDir       = "/etc/containerd/certs.d"
	confDir        = "/etc/containerd/conf.d"

	criPlugin     = "io.containerd.grpc.v1.cri"
	imagesPlugin  = "io.containerd.cri.v1.images"
	runtimePlugin = "io.containerd.cri.v1.runtime"
)

// containerdConfig is what matters of containerd's configuration, files that it
// imports laid over it.
type containerdConfig struct {
	version   int64
	imports   []string
	sandbox   string
	certs     string
	runtime   string // runtime_type of runc
	cgroup    any    // SystemdCgroup; nil when it is not set
	defaultTo string // default_runtime_name
}

// readContainerdConfig reads the file and what it imports.
func (n *node) readContainerdConfig() (containerdConfig, error) {
	content, err := n.tree.ReadFile(containerdFile)
	if err != nil {
		return containerdConfig{}, err
	}
	var c containerdConfig
	if err := c.add(containerdFile, content); err != nil {
		return c, err
	}
	for _, pattern := range c.imports {
		for _, name := range n.tree.Glob(pattern) {
			content, err := n.tree.ReadFile(name)
			if err == nil {
				err = c.add(name, content)
			}
			if err != nil {
				return c, err
			}
		}
	}
	return c, nil
}

// add lays one file over what is known.
func (c *containerdConfig) add(name string, content []byte) error {
	var tree map[string]any
	if err := toml.Unmarshal(content, &tree); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	if v, ok := tree["version"].(int64); ok {
		c.version = v
	}
	for _, i := range list(tree["imports"]) {
		if s, ok := i.(string); ok && name == containerdFile {
			c.imports = append(c.imports, s)
		}
	}
	images, runtime := []any{"plugins", criPlugin}, []any{"plugins", criPlugin, "containerd"}
	sandbox := at(tree, append(images, "sandbox_image")...)
	if at(tree, "plugins", imagesPlugin) != nil || at(tree, "plugins", runtimePlugin) != nil {
		images, runtime = []any{"plugins", imagesPlugin}, []any{"plugins", runtimePlugin, "containerd"}
		sandbox = at(tree, append(images, "pinned_images", "sandbox")...)
	}
	runc := slices.Concat(runtime, []any{"runtimes", "runc"})
	set(&c.sandbox, sandbox)
	set(&c.certs, at(tree, append(images[:2:2], "registry", "config_path")...))
	set(&c.runtime, at(tree, append(runc[:len(runc):len(runc)], "runtime_type")...))
	set(&c.defaultTo, at(tree, append(runtime[:len(runtime):len(runtime)], "default_runtime_name")...))
	if v := at(tree, append(runc[:len(runc):len(runc)], "options", "SystemdCgroup")...); v != nil {
		c.cgroup = v
	}
	return nil
}

func set(to *string, value any) {
	if s, ok := value.(string); ok {
		*to = s
	}
}

func list(v any) []any {
	l, _ := v.([]any)
	return l
}

// at follows keys into nested tables; nil when there is nothing.
func at(v any, keys ...any) any {
	for _, k := range keys {
		table, ok := v.(map[string]any)
		if !ok {
			return nil
		}
		name, _ := k.(string)
		v = table[name]
	}
	return v
}

// withConfig makes a check of what has to be in the configuration.
func withConfig(check func(*node, containerdConfig, *result)) func(*node, *result) {
	return func(n *node, r *result) {
		c, err := n.config()
		if err != nil {
			r.fail("%v", err)
			return
		}
		check(n, c, r)
	}
}

// containerdChecks look at the container runtime and how it is set up.
var containerdChecks = []Check{
	{
		ID: "containerd.programs", Title: "containerd, ctr, its shim and runc are there", Severity: Required,
		Why: "Without any one of them no pod starts.",
		How: "ELF programs on PATH; versions from their build information.",
		run: func(n *node, r *result) {
			for _, name := range []string{"containerd", "ctr", "containerd-shim-runc-v2", "runc"} {
				p := n.program(name)
				if p.err != nil {
					r.fail("%v", p.err)
				} else {
					r.note("%s %s", p.path, or(p.version, "of unknown version"))
				}
			}
		},
	},
	{
		ID: "containerd.one-version", Title: "containerd, ctr and the shim are of one version", Severity: Required,
		Why: "The shim speaks containerd's own protocol.",
		How: "The versions in the programs' build information are equal.",
		run: func(n *node, r *result) {
			daemon := n.program("containerd").version
			for _, name := range []string{"ctr", "containerd-shim-runc-v2"} {
				if p := n.program(name); daemon != "" && p.version != "" && p.version != daemon {
					r.fail("%s is %s, containerd is %s", p.path, p.version, daemon)
				}
			}
		},
	},
	{
		ID: "containerd.supported", Title: "containerd is 2.0 or later", Severity: Required, Kubernetes: ">=v1.36",
		Why: "v1.35 is the last Kubernetes that supports containerd 1.x.",
		How: "The version in containerd's build information.",
		run: func(n *node, r *result) {
			if v := n.program("containerd").version; v != "" && !inRange(">=v2.0.0", v) {
				r.fail("containerd is %s", v)
			}
		},
	},
	{
		ID: "containerd.unit", Title: "containerd's unit starts it without limits", Severity: Required,
		Why: "A node runs thousands of tasks below containerd, and the kernel must not kill it when memory is short.",
		How: "containerd.service with its drop-ins: ExecStart runs containerd, TasksMax=infinity, OOMScoreAdjust=-999, Delegate=yes, KillMode=process.",
		run: func(n *node, r *result) {
			s := n.unitSettings("containerd.service")
			start := strings.Fields(last(s["Service.ExecStart"]))
			if len(start) == 0 || !n.tree.Exists(strings.TrimLeft(start[0], "-@:+!")) {
				r.fail("ExecStart is %q", last(s["Service.ExecStart"]))
			}
			for _, want := range [][2]string{{"TasksMax", "infinity"}, {"OOMScoreAdjust", "-999"}, {"Delegate", "yes"}, {"KillMode", "process"}} {
				if v := last(s["Service."+want[0]]); v != want[1] {
					r.fail("%s is %q, not %s", want[0], v, want[1])
				}
			}
		},
	},
	{
		ID: "containerd.config", Title: "containerd's configuration fits its version", Severity: Required,
		Why: "containerd 1.x does not read version 3; 2.x migrates older ones in memory at every start and drops what it no longer knows.",
		How: containerdFile + " is TOML with version = 2 for containerd 1.x, 3 for 2.x.",
		run: withConfig(func(n *node, c containerdConfig, r *result) {
			want := int64(3)
			if v := n.program("containerd").version; v != "" && inRange("<v2.0.0", v) {
				want = 2
			}
			if c.version != want {
				r.fail("it has version = %d, containerd %s wants %d", c.version, n.program("containerd").version, want)
			}
		}),
	},
	{
		ID: "containerd.imports", Title: "containerd reads drop-ins", Severity: Required,
		Why: "Bootstrap data and add-ons put settings (mirrors, runtimes) into conf.d instead of editing the main file.",
		How: "imports has " + confDir + "/*.toml, and the directory exists.",
		run: withConfig(func(n *node, c containerdConfig, r *result) {
			for _, i := range c.imports {
				if path.Clean(i) == confDir+"/*.toml" {
					if !n.tree.Exists(confDir) {
						r.fail("%s does not exist", confDir)
					}
					return
				}
			}
			r.fail("imports is %q", c.imports)
		}),
	},
	{
		ID: "containerd.cgroup-driver", Title: "containerd's cgroup driver is systemd", Severity: Required, Kubernetes: ">=v1.21",
		Why: "kubeadm sets the kubelet's driver to systemd; with two managers of one cgroup tree pods die under load.",
		How: "SystemdCgroup = true in the options of the runtime runc.",
		run: withConfig(func(_ *node, c containerdConfig, r *result) {
			if c.cgroup != true {
				r.fail("SystemdCgroup is %v", c.cgroup)
			}
		}),
	},
	{
		ID: "containerd.runtime", Title: "The default runtime is runc's shim v2", Severity: Required,
		Why: "Other runtime types were removed from containerd.",
		How: "runtime_type of the runtime runc is io.containerd.runc.v2, and no other runtime is the default.",
		run: withConfig(func(_ *node, c containerdConfig, r *result) {
			if c.runtime != "io.containerd.runc.v2" {
				r.fail("runtime_type of runc is %q", c.runtime)
			}
			if c.defaultTo != "" && c.defaultTo != "runc" {
				r.note("the default runtime is %s", c.defaultTo)
			}
		}),
	},
	{
		ID: "containerd.registry", Title: "Registry mirrors can be set up in certs.d", Severity: Required,
		Why: "Bootstrap data of clusters with a private registry writes hosts.toml files there; without config_path they are not read.",
		How: "config_path of the registry settings is " + certsDir + ", and the directory exists.",
		run: withConfig(func(n *node, c containerdConfig, r *result) {
			found := false
			for p := range strings.SplitSeq(c.certs, ":") {
				found = found || path.Clean(p) == certsDir
			}
			if !found {
				r.fail("config_path is %q", c.certs)
			}
			if !n.tree.Exists(certsDir) {
				r.fail("%s does not exist", certsDir)
			}
		}),
	},
	{
		ID: "containerd.sandbox-image", Title: "containerd's sandbox image is the one that kubeadm asks for", Severity: Required,
		Why: "kubeadm warns, the kubelet's garbage collection removes the other one, and a node without network then starts no pod.",
		How: "The sandbox image in containerd's configuration is in its store; its tag is kubeadm's pause version (see images.complete).",
		run: withConfig(checkSandbox),
	},
}

func checkSandbox(n *node, c containerdConfig, r *result) {
	if c.sandbox == "" {
		r.fail("no sandbox image is set")
		return
	}
	s, err := n.store()
	if err != nil {
		return // images.store says so
	}
	if _, ok := s.images[c.sandbox]; !ok {
		r.fail("%s is not in containerd's store", c.sandbox)
	}
	want, _, err := n.wanted()
	if err != nil {
		return // images.complete says so
	}
	if _, tag := splitImage(c.sandbox); want["pause"] != "" && tag != want["pause"] {
		r.fail("%s: kubeadm asks for pause:%s", c.sandbox, want["pause"])
	}
}
