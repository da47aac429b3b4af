// Package step is what cmd/step-packages does inside the build engine: solve
// which packages a set needs, and unpack package trees.
//
// What comes in are package files and indices that the client verified, read
// from mounts; what goes out is a tree or an answer. No step has a network,
// and none reads the clock.
package step

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"nodesmith.dev/nodesmith/internal/deb"
)

// ID names one binary package.
type ID struct {
	Name         string `json:"name"`
	Version      string `json:"version"`
	Architecture string `json:"architecture"`
}

// Source is one suite in the repository that the solver reads.
type Source struct {
	Dir        string   `json:"dir"`   // below SolveConfig.Repo
	Suite      string   `json:"suite"` // ends in / if the repository is flat
	Components []string `json:"components,omitempty"`
	// Further sources are for the sets alone that ask for them.
	Further bool `json:"further,omitempty"`
}

// indices returns the paths of the source's package indices.
func (s Source) indices(repo string) ([]string, error) {
	if strings.HasSuffix(s.Suite, "/") {
		return []string{filepath.Join(repo, s.Dir, s.Suite, "Packages")}, nil
	}
	var all []string
	for _, component := range s.Components {
		found, err := filepath.Glob(filepath.Join(repo, s.Dir, "dists", s.Suite, component, "binary-*", "Packages"))
		if err != nil {
			return nil, err
		}
		all = append(all, found...)
	}
	return all, nil
}

// Set is what one call of apt is asked to install, or what is given because an
// earlier call answered.
type Set struct {
	Name    string   `json:"name"`
	Install []string `json:"install,omitempty"` // names, or name=version
	Given   []ID     `json:"given,omitempty"`
	// On names earlier sets that count as installed.
	On []string `json:"on,omitempty"`
	// Further lets the set have packages of further sources.
	Further bool `json:"further,omitempty"`
}

// SolveConfig is the input of Solve.
type SolveConfig struct {
	Architecture string   `json:"architecture"`
	Repo         string   `json:"repo"` // directory of the verified indices
	Sources      []Source `json:"sources"`
	// Kept is the file below Repo with the stanzas of the given packages that no
	// source has; "" for none.
	Kept string `json:"kept,omitempty"`
	Sets []Set  `json:"sets"`
	Out  string `json:"out"` // file that receives an Answer
}

// indices returns the paths of all package indices, that of kept packages last.
func (c SolveConfig) indices() ([]string, error) {
	var all []string
	for _, s := range c.Sources {
		indices, err := s.indices(c.Repo)
		if err != nil {
			return nil, err
		}
		all = append(all, indices...)
	}
	if c.Kept != "" {
		all = append(all, filepath.Join(c.Repo, c.Kept))
	}
	return all, nil
}

// Answer maps a set's name to its packages, in apt's order of installation.
type Answer map[string][]ID

// Solve asks the tree's own apt what each set needs and writes the Answer.
func Solve(ctx context.Context, config SolveConfig, _ time.Time) error {
	if err := os.MkdirAll(os.TempDir(), 0o1777); err != nil { // apt's own tree is bare
		return err
	}
	state, err := os.MkdirTemp("", "apt-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(state)
	apt := &apt{config: config, state: state}
	if err := apt.prepare(); err != nil {
		return err
	}
	answer := Answer{}
	for _, set := range config.Sets {
		if set.Given != nil {
			answer[set.Name] = set.Given
			continue
		}
		var installed []ID
		for _, on := range set.On {
			below, solved := answer[on]
			if !solved {
				return fmt.Errorf("package set %q is on %q, which is no earlier set", set.Name, on)
			}
			installed = append(installed, below...)
		}
		ids, err := apt.solve(ctx, set, installed)
		if err != nil {
			return fmt.Errorf("package set %q: %w", set.Name, err)
		}
		answer[set.Name] = ids
		fmt.Printf("%s: %d packages\n", set.Name, len(ids))
	}
	data, err := json.MarshalIndent(answer, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(config.Out, data, 0o644)
}

type apt struct {
	config SolveConfig
	state  string
	list   string // content of sources.list that apt has indexed
}

// prepare lays out apt's directories.
func (a *apt) prepare() error {
	for _, dir := range []string{"lists/partial", "archives/partial", "etc/preferences.d", "etc/apt.conf.d", "log"} {
		if err := os.MkdirAll(filepath.Join(a.state, dir), 0o755); err != nil {
			return err
		}
	}
	return os.WriteFile(filepath.Join(a.state, "status"), nil, 0o644)
}

// update lets apt index the sources, with further ones or without.
func (a *apt) update(ctx context.Context, further bool) error {
	var sources strings.Builder
	for _, s := range a.config.Sources {
		if s.Further && !further {
			continue
		}
		// Trusted because the client checked the signature; apt still checks
		// every index against the Release file.
		fmt.Fprintf(&sources, "deb [trusted=yes arch=%s] file:%s/%s %s %s\n", a.config.Architecture, a.config.Repo, s.Dir, s.Suite, strings.Join(s.Components, " "))
	}
	if sources.String() == a.list {
		return nil
	}
	a.list = sources.String()
	if err := os.WriteFile(filepath.Join(a.state, "sources.list"), []byte(a.list), 0o644); err != nil {
		return err
	}
	_, err := a.run(ctx, "update")
	return err
}

func (a *apt) run(ctx context.Context, args ...string) ([]byte, error) {
	options := []string{
		"-o", "Dir::State=" + a.state, "-o", "Dir::State::status=" + filepath.Join(a.state, "status"),
		"-o", "Dir::State::lists=" + filepath.Join(a.state, "lists"), "-o", "Dir::Cache=" + a.state,
		"-o", "Dir::Log=" + filepath.Join(a.state, "log"),
		"-o", "Dir::Etc=" + filepath.Join(a.state, "etc"),
		"-o", "Dir::Etc::sourcelist=" + filepath.Join(a.state, "sources.list"), "-o", "Dir::Etc::sourceparts=-",
		"-o", "APT::Architecture=" + a.config.Architecture, "-o", "APT::Architectures=" + a.config.Architecture,
		"-o", "APT::Sandbox::User=root", "-o", "Acquire::Languages=none",
		"-o", "Acquire::Check-Valid-Until=false", "-o", "Acquire::Check-Date=false", // the client did, by its clock
		"-o", "APT::Install-Recommends=false", "-o", "APT::Install-Suggests=false",
		"-o", "APT::Get::Always-Include-Phased-Updates=true", // else Ubuntu's depend on the machine-id
	}
	cmd := exec.CommandContext(ctx, "apt-get", append(options, args...)...)
	cmd.Env = append(os.Environ(), "LC_ALL=C.UTF-8", "DEBIAN_FRONTEND=noninteractive")
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return nil, fmt.Errorf("apt-get %s: %w\n%s%s", args[0], err, stdout.String(), stderr.String())
	}
	return stdout.Bytes(), nil
}

func (a *apt) solve(ctx context.Context, set Set, installed []ID) ([]ID, error) {
	if err := a.update(ctx, set.Further); err != nil {
		return nil, err
	}
	if err := a.writeStatus(installed); err != nil {
		return nil, err
	}
	// --no-remove: a set on top of another may add to it, not break it.
	out, err := a.run(ctx, append([]string{"install", "--simulate", "--no-remove", "--yes", "--"}, set.Install...)...)
	if err != nil {
		return nil, err
	}
	return parseSimulation(out)
}

// simulated matches apt-get --simulate's line for a package that it would
// unpack: Inst NAME [OLD] (VERSION ORIGIN... [ARCHITECTURE]).
var simulated = regexp.MustCompile(`^Inst (\S+) (?:\[[^\]]*\] )?\((\S+) .*\[([a-z0-9]+)\]\)`)

func parseSimulation(out []byte) ([]ID, error) {
	var ids []ID
	for line := range strings.SplitSeq(string(out), "\n") {
		if !strings.HasPrefix(line, "Inst ") {
			continue
		}
		m := simulated.FindStringSubmatch(line)
		if m == nil {
			return nil, fmt.Errorf("apt-get --simulate printed %q, which is not understood", line)
		}
		name, _, _ := strings.Cut(m[1], ":")
		ids = append(ids, ID{Name: name, Version: m[2], Architecture: m[3]})
	}
	return ids, nil
}

// writeStatus makes apt believe that the packages are installed.
func (a *apt) writeStatus(installed []ID) error {
	status, err := os.Create(filepath.Join(a.state, "status"))
	if err != nil {
		return err
	}
	defer status.Close()
	newest := map[string]ID{} // a set may have newer packages than those it is on
	for _, id := range installed {
		newest[id.Name] = id
	}
	missing := map[ID]bool{}
	for _, id := range newest {
		missing[id] = true
	}
	indices, err := a.config.indices()
	if err != nil {
		return err
	}
	for _, index := range indices {
		if err := appendStatus(status, index, missing); err != nil {
			return fmt.Errorf("%s: %w", index, err)
		}
	}
	if len(missing) > 0 {
		return fmt.Errorf("%d installed packages are in no index", len(missing))
	}
	return status.Close()
}

// appendStatus writes the stanzas of the missing packages that the index has.
func appendStatus(status *os.File, index string, missing map[ID]bool) error {
	file, err := os.Open(index)
	if err != nil {
		return err
	}
	defer file.Close()
	return deb.Stanzas(file, func(s deb.Stanza) (bool, error) {
		id := ID{Name: s["Package"], Version: s["Version"], Architecture: s["Architecture"]}
		if !missing[id] {
			return len(missing) > 0, nil
		}
		delete(missing, id)
		fmt.Fprintf(status, "Package: %s\nStatus: install ok installed\n", id.Name)
		for _, field := range statusFields {
			if value := s[field]; value != "" {
				fmt.Fprintf(status, "%s: %s\n", field, strings.ReplaceAll(value, "\n", "\n "))
			}
		}
		_, err := fmt.Fprintln(status)
		return true, err
	})
}

// statusFields are the fields of a dpkg status file that decide a solution. apt takes a
// package for another one of the same version if its size or its relations differ
// (debListParser::VersionHash), and installs that with what comes of the same source.
var statusFields = []string{
	"Version", "Architecture", "Multi-Arch", "Essential", "Priority", "Source", "Installed-Size", "Provides",
	"Pre-Depends", "Depends", "Conflicts", "Breaks", "Replaces", "Maintainer", "Description",
}
