package diff

import (
	"maps"
	"slices"
)

// compareMaps returns what differs, by name.
func compareMaps(a, b map[string]string) []Change {
	names := map[string]bool{}
	for name := range a {
		names[name] = true
	}
	for name := range b {
		names[name] = true
	}
	var changes []Change
	for _, name := range slices.Sorted(maps.Keys(names)) {
		va, inA := a[name]
		vb, inB := b[name]
		switch {
		case !inA:
			changes = append(changes, Change{Added, name, "", vb})
		case !inB:
			changes = append(changes, Change{Removed, name, va, ""})
		case va != vb:
			changes = append(changes, Change{Changed, name, va, vb})
		}
	}
	return changes
}
