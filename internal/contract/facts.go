package contract

import (
	"path"
	"strings"

	"nodesmith.dev/nodesmith/internal/imagefs"
)

// FactSet is one kind of what an image says of itself, by name.
type FactSet struct {
	Name   string
	Values map[string]string
}

// factReaders are the kinds. What an image does not tell, or tells in a way
// that can't be read, is empty: whether that is wrong, a check says.
var factReaders = []struct {
	name string
	read func(*node) map[string]string
}{
	{"system", func(n *node) map[string]string { return n.release }},
	{"nodesmith", func(n *node) map[string]string { return shellVariables(n.text(releaseFile)) }},
	{"packages", packageFacts},
	{"programs", programFacts},
	{"container images", imageFacts},
	{"kernel", kernelFacts},
	{"kernel arguments", argumentFacts},
	{"kernel modules", moduleFacts},
	{"sysctls", (*node).sysctls},
	{"units", unitFacts},
	{"users", func(n *node) map[string]string { return accounts(n.text("/etc/passwd")) }},
	{"groups", func(n *node) map[string]string { return accounts(n.text("/etc/group")) }},
	{"mounts", mountFacts},
}

// Facts reads what an image says of itself, one set for each kind, always the
// same kinds in the same order.
func Facts(image *imagefs.Image) []FactSet {
	n := newNode(image.Disk, image.Size, Options{})
	n.image, n.tree = image, image.Tree
	n.learn()
	sets := make([]FactSet, 0, len(factReaders))
	for _, r := range factReaders {
		set := FactSet{Name: r.name}
		if n.tree != nil {
			set.Values = r.read(n)
		}
		sets = append(sets, set)
	}
	return sets
}

func packageFacts(n *node) map[string]string {
	packages, err := n.packages()
	if err != nil {
		return nil
	}
	out := map[string]string{}
	for name, p := range packages {
		out[name] = p.version
		if p.status != installed {
			out[name] += " (" + p.status + ")"
		}
	}
	return out
}

func programFacts(n *node) map[string]string {
	out := map[string]string{}
	for name := range origins {
		if p := n.program(name); p.path != "" {
			out[name] = or(p.version, "unknown")
		}
	}
	return out
}

func imageFacts(n *node) map[string]string {
	s, err := n.store()
	if err != nil {
		return nil
	}
	out := map[string]string{}
	for name, record := range s.images {
		out[name] = record.target.Digest.String()
	}
	return out
}

func kernelFacts(n *node) map[string]string {
	release, err := n.kernelRelease()
	if err != nil {
		return nil
	}
	return map[string]string{"release": release}
}

// argumentFacts are the arguments of the first entry of the boot menu; one that
// is given several times has all its values.
func argumentFacts(n *node) map[string]string {
	entries, err := n.entries()
	if err != nil {
		return nil
	}
	out := map[string]string{}
	for _, a := range entries[0].arguments {
		key, value, _ := strings.Cut(a, "=")
		if before, seen := out[key]; seen {
			value = before + " " + value
		}
		out[key] = value
	}
	return out
}

func moduleFacts(n *node) map[string]string {
	out := map[string]string{}
	for _, m := range n.modulesLoaded() {
		out[m] = "loaded at boot"
	}
	return out
}

// unitFacts says of every unit whether it is enabled, disabled or masked.
func unitFacts(n *node) map[string]string {
	out := map[string]string{}
	wanted := map[string]bool{}
	for _, dir := range unitDirs {
		for _, name := range n.list(dir) {
			switch path.Ext(name) {
			case ".wants", ".requires":
				for _, unit := range n.list(path.Join(dir, name)) {
					wanted[unit] = true
				}
			case ".service", ".socket", ".timer", ".target", ".mount", ".path", ".swap", ".slice", ".automount":
				out[name] = "disabled"
			}
		}
	}
	for unit := range out {
		if n.masked(unit) {
			out[unit] = "masked"
		} else if wanted[unit] {
			out[unit] = "enabled"
		}
	}
	return out
}

// accounts maps the names of a file like passwd to the rest of their lines.
func accounts(text string) map[string]string {
	out := map[string]string{}
	for _, line := range configLines(text) {
		if name, rest, ok := strings.Cut(line, ":"); ok {
			out[name] = rest
		}
	}
	return out
}

func mountFacts(n *node) map[string]string {
	out := map[string]string{}
	for _, m := range n.tree.Mounts() {
		out[m.Point] = strings.Join([]string{m.Device, m.Kind, strings.Join(m.Options, ",")}, " ")
	}
	return out
}
