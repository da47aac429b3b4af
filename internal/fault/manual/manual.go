// Package manual says what users read about each kind of error: docs/errors.md and
// what the command errors prints. It is apart from internal/fault, which the steps
// of the build graph link: a better sentence here must not build anything anew.
package manual

import (
	_ "embed"
	"fmt"
	"strings"

	"nodesmith.dev/nodesmith/internal/fault"
)

//go:generate sh -c "go run ../../../cmd/nodesmith errors --markdown > ../../../docs/errors.md"

// Entry is about one kind.
type Entry struct {
	// Means says what happened, Todo what the user can do.
	Means, Todo string
}

var entries = [...]Entry{
	fault.Internal: {"A defect of nodesmith, or a failure that it does not know.",
		"Run the command again. If it fails in the same way, report it with the message and `nodesmith version`."},
	fault.Usage: {"Flags or arguments make no sense, or name a file that is not there.",
		"`--help` after any command shows its flags and examples."},
	fault.BadSpec: {"The NodeImage, a file that it names, the configuration or the lock is wrong. The message names file, line and column.",
		"`nodesmith explain FIELD` says what may stand there; `nodesmith validate -f FILE` lists everything that is wrong at once. A lock that no longer fits is made anew by `nodesmith lock`, or with `--keep` only where the NodeImage asks for something else."},
	fault.Unverifiable: {"A signature, a checksum or a digest does not hold, or an image file is damaged. Nothing of the input was used.",
		"Ask another mirror, or fetch the file again. If a repository is meant to be unsigned, the spec says so by name (`nodesmith explain spec.allowUnverified`)."},
	fault.MissingHost: {"This machine lacks a program or a permission.",
		"The message names it. On Debian and Ubuntu `make deps` installs everything."},
	fault.Network: {"An archive, a mirror, a registry or a proxy did not answer, after several tries.",
		"Check the network and the mirrors and the Go proxy in the configuration; see guides/mirror-and-proxy.md. What was fetched before is kept."},
	fault.NoSpace: {"A file system or a quota is full. No file was left half-written under its final name.",
		"Free some space, or set XDG_CACHE_HOME to a larger file system."},
	fault.Engine: {"The build engine, or a step in it, failed. The message names the step and ends with its last lines of output.",
		"`--progress plain` shows all of the output. Steps that were done before are kept: the next build begins with the one that failed."},
	fault.Guest: {"The virtual machine that `verify` booted did not come up, or a check in it failed.",
		"The report says what the guest saw; `--console` shows its serial console."},
	fault.Contract: {"`verify --level contract` found something that Cluster API's nodes must not be.",
		"The report says what and where; `nodesmith contract list` and contract.md say why it matters."},
	fault.Remote: {"The API of an infrastructure refused a request, or did not come back.",
		"The message has the API's own words. Publishing goes on where it stopped when the command is run again."},
	fault.Different: {"Two images that were to be equal are not.",
		"The list above the message says in what."},
	fault.Interrupted: {"Ctrl-C, SIGTERM, or the terminal went away.",
		"Run the same command again: it goes on where it stopped."},
}

// Kinds returns every kind, in the order of their exit codes.
func Kinds() []fault.Kind {
	var all []fault.Kind
	for k := fault.Internal; k <= fault.Interrupted; k++ {
		all = append(all, k)
	}
	return all
}

// Of returns the entry of a kind; an empty one for what is none.
func Of(k fault.Kind) Entry {
	if k < 0 || int(k) >= len(entries) {
		return Entry{}
	}
	return entries[k]
}

// page begins docs/errors.md.
//
//go:embed assets/errors.md
var page string

// Markdown returns docs/errors.md.
func Markdown() string {
	var b strings.Builder
	b.WriteString(page)
	for _, k := range Kinds() {
		fmt.Fprintf(&b, "\n## %d: %s\n\n%s\n\n%s\n", k.ExitCode(), k, Of(k).Means, Of(k).Todo)
	}
	return b.String()
}
