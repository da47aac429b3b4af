// Package proof says how far an image was proven.
//
// What comes in are the results of verify's runs on one disk; what goes out is
// the level that they prove together. A level includes those below it: an image
// that boots but breaks the contract, or was never held against it, is not
// proven at all.
package proof

import (
	"slices"
	"time"
)

// Level says how far an image was proven; a greater one includes the lesser.
type Level int

// The levels of verify.
const (
	Unverified Level = iota
	Contract
	Boot
	Cluster
)

// names are what the command line and annotations call the levels.
var names = []string{Unverified: "unverified", Contract: "contract", Boot: "boot", Cluster: "cluster"}

// String returns the level's name.
func (l Level) String() string {
	if l < 0 || int(l) >= len(names) {
		return names[Unverified]
	}
	return names[l]
}

// Names are the levels' names, ascending.
func Names() []string { return slices.Clone(names) }

// Parse returns the level of that name.
func Parse(name string) (Level, bool) {
	i := slices.Index(names, name)
	return Level(max(i, 0)), i >= 0
}

// Secure is the firmware of a boot with Secure Boot on; such a boot proves UEFI,
// too.
const Secure = "uefi-secure"

// Result is how one run of verify ended.
type Result struct {
	Level  Level
	Passed bool
	// Firmware is what the run booted on, or was told to look at: bios, uefi,
	// uefi-secure.
	Firmware []string
	At       time.Time
}

// Proof is what results prove together.
type Proof struct {
	Level Level
	// SecureBoot says that it booted with Secure Boot on.
	SecureBoot bool
}

// Of returns what results prove of an image that is made for firmware. Of two
// results for the same level and firmware the newer one counts. Booting proves
// an image only on all of the firmware that it is made for.
func Of(results []Result, firmware []string) Proof {
	results = slices.Clone(results)
	slices.SortStableFunc(results, func(a, b Result) int { return a.At.Compare(b.At) })
	type subject struct {
		level    Level
		firmware string // "" for levels that do not boot
	}
	passed := map[subject]bool{}
	for _, r := range results {
		if r.Level < Boot {
			passed[subject{level: r.Level}] = r.Passed
			continue
		}
		for _, f := range r.Firmware {
			passed[subject{r.Level, f}] = r.Passed
		}
	}
	booted := func(level Level) bool {
		some := false
		for s, ok := range passed {
			if s.level == level {
				if !ok {
					return false
				}
				some = true
			}
		}
		for _, f := range firmware {
			if !passed[subject{level, f}] && (f != "uefi" || !passed[subject{level, Secure}]) {
				return level == Cluster && some // one firmware is enough to form a cluster
			}
		}
		return some
	}
	proof := Proof{SecureBoot: passed[subject{Boot, Secure}] || passed[subject{Cluster, Secure}]}
	for level, holds := range []bool{Contract: passed[subject{level: Contract}], Boot: booted(Boot), Cluster: booted(Cluster)} {
		if Level(level) == Unverified {
			continue
		}
		if !holds {
			break
		}
		proof.Level = Level(level)
	}
	return proof
}
