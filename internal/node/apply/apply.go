// Package apply writes a node's configuration into its tree.
//
// What comes in is a tree (operating system, Kubernetes and containerd's store
// merged), a node.Config and the directory of the user's files; what goes out is
// the same tree as it will be on the node, with the state of its builder
// removed. It is deterministic (every time it writes is the given one, accounts
// get the same ids) and idempotent: applied twice it is as applied once. Links
// in the tree resolve inside the tree, whatever they say. Memory is that of the
// configuration; files are streamed.
package apply

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"nodesmith.dev/nodesmith/internal/fault"
	"nodesmith.dev/nodesmith/internal/node"
)

// Options say where the configuration goes.
type Options struct {
	// Target is the directory of the tree.
	Target string
	// Files is the directory that node.File.Source is a path in. It may be
	// empty when no file has a source.
	Files string
	// Time is the modification time of all that is written, and of the
	// directories that change; shadow's last day of change is its day.
	Time time.Time
	// Log takes a line for each part of the work.
	Log io.Writer
}

// Run applies c. It removes the builder's state and c.Removals, writes
// accounts, homes, directories, files, links, settings and units
// in this order, and then
// looks whether the tree is sealed: anything that would make two nodes one, a
// password, or an account that nobody asked for is an error.
func Run(ctx context.Context, o Options, c node.Config) error {
	return o.open(c, func(r *run) error {
		return r.do(ctx, []part{
			{"remove the builder's state", r.removeState},
			{"write accounts", r.writeAccounts},
			{"write homes", r.writeHomes},
			{"write directories", r.writeDirectories},
			{"cut lines", r.cutLines},
			{"write files", r.writeFiles},
			{"write links", r.writeLinks},
			{"set the time zone", r.writeTimeZone},
			{"list kernel modules", r.writeModules},
			{"add CA certificates", r.writeTrust},
			{"mask and enable units", r.writeUnits},
			{"check the seal", r.verify},
			{"set times", r.tree.finish},
		})
	})
}

// Seal removes what ran in the tree of c since Run left behind, and looks again
// whether the tree is sealed. What c put into the tree stays as it is now.
func Seal(ctx context.Context, o Options, c node.Config) error {
	return o.open(c, func(r *run) error {
		return r.do(ctx, []part{
			{"read accounts", r.readAccounts},
			{"remove what scripts left behind", r.removeSince},
			{"check the seal", r.verify},
			{"set times", r.tree.finish},
		})
	})
}

// open opens the tree for a valid configuration.
func (o Options) open(c node.Config, do func(*run) error) (err error) {
	if err := c.Validate(); err != nil {
		return err
	}
	t, err := openTree(o.Target, o.Time)
	if err != nil {
		return fault.New(fault.Engine, "", "%w", err)
	}
	defer func() {
		if e := t.close(); err == nil && e != nil {
			err = e
		}
	}()
	return do(&run{tree: t, options: o, config: c})
}

// part is a part of the work, with the name that the log and errors have.
type part struct {
	name string
	do   func() error
}

// do does the parts in their order.
func (r *run) do(ctx context.Context, parts []part) error {
	for _, p := range parts {
		if err := context.Cause(ctx); err != nil {
			return fault.New(fault.Interrupted, "", "%s: %w", p.name, err)
		}
		if _, err := fmt.Fprintln(r.options.Log, p.name); err != nil {
			return err
		}
		if err := p.do(); err != nil {
			return fault.New(fault.Engine, "", "%s: %w", p.name, err)
		}
	}
	return nil
}

// run is one application of a configuration.
type run struct {
	tree     *tree
	options  Options
	config   node.Config
	accounts *accounts
}

func (r *run) writeDirectories() error {
	for _, d := range r.config.Directories {
		uid, gid, err := r.accounts.owner(d.Owner)
		if err != nil {
			return fmt.Errorf("%s: %w", d.Path, err)
		}
		if err := r.tree.directory(d.Path, uid, gid, orMode(d.Mode, 0o755)); err != nil {
			return fmt.Errorf("%s: %w", d.Path, err)
		}
	}
	return nil
}

func (r *run) writeFiles() error {
	for _, f := range r.config.Files {
		if err := r.writeFile(f); err != nil {
			return fmt.Errorf("%s: %w", f.Path, err)
		}
	}
	if len(r.config.Sysctls) == 0 {
		return nil
	}
	content := node.RenderSysctls(r.config.Sysctls)
	if err := r.tree.file(node.UserSysctls, strings.NewReader(content), 0, 0, 0o644); err != nil {
		return fmt.Errorf("%s: %w", node.UserSysctls, err)
	}
	return nil
}

func (r *run) writeFile(f node.File) (err error) {
	uid, gid, err := r.accounts.owner(f.Owner)
	if err != nil {
		return err
	}
	content := io.Reader(strings.NewReader(f.Content))
	if f.Source != "" {
		src, err := openSource(r.options.Files, f.Source)
		if err != nil {
			return err
		}
		defer func() {
			if e := src.Close(); err == nil {
				err = e
			}
		}()
		content = src
	}
	return r.tree.file(f.Path, content, uid, gid, orMode(f.Mode, 0o644))
}

// openSource opens one of the user's files, and none that lies elsewhere.
func openSource(dir, name string) (*os.File, error) {
	if dir == "" {
		return nil, fmt.Errorf("source %s: no directory of files is given", name)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("source %s: %w", name, err)
	}
	defer root.Close() // only read from: nothing is lost when it fails
	info, err := root.Stat(name)
	if err != nil {
		return nil, fmt.Errorf("source: %w", err)
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("source %s is not a regular file; list the files of a directory one by one", name)
	}
	f, err := root.Open(name)
	if err != nil {
		return nil, fmt.Errorf("source: %w", err)
	}
	return f, nil
}

func (r *run) writeLinks() error {
	for _, l := range r.config.Links {
		if err := r.tree.link(l.Path, l.Target); err != nil {
			return fmt.Errorf("%s: %w", l.Path, err)
		}
	}
	return nil
}

func orMode(m, unset node.Mode) node.Mode {
	if m == 0 {
		return unset
	}
	return m
}
