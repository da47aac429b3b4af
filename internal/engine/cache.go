package engine

import (
	"context"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"strings"

	"github.com/docker/cli/cli/config"
	"github.com/moby/buildkit/client"
	"github.com/moby/buildkit/client/llb"
	gateway "github.com/moby/buildkit/frontend/gateway/client"
	"github.com/moby/buildkit/session"
	"github.com/moby/buildkit/session/auth/authprovider"

	"nodesmith.dev/nodesmith/internal/fault"
)

// Cache is where results of steps are brought from and sent to, besides the
// engine's own cache: as BuildKit's other clients write it,
// "type=registry,ref=registry.example.com/team/cache" or "type=local,src=DIR"
// (dest=DIR where it is sent to). Further attributes are BuildKit's.
type Cache struct {
	From, To []string
}

// caches is a Cache as BuildKit's client takes it.
type caches struct{ from, to []client.CacheOptionsEntry }

// attributes names the one that says where a cache lies, for each type and
// direction.
var (
	importAttributes = map[string]string{"local": "src", "registry": "ref"}
	exportAttributes = map[string]string{"local": "dest", "registry": "ref"}
)

func (c Cache) parse() (parsed caches, err error) {
	for _, text := range c.From {
		entry, err := parseCache(text, importAttributes)
		if err != nil {
			return parsed, err
		}
		parsed.from = append(parsed.from, entry)
	}
	for _, text := range c.To {
		entry, err := parseCache(text, exportAttributes)
		if err != nil {
			return parsed, err
		}
		if entry.Attrs["mode"] == "" {
			entry.Attrs["mode"] = "max" // min leaves out all that disks are made of
		}
		parsed.to = append(parsed.to, entry)
	}
	return parsed, nil
}

// parseCache reads one text of a Cache.
func parseCache(text string, attributes map[string]string) (client.CacheOptionsEntry, error) {
	entry := client.CacheOptionsEntry{Attrs: map[string]string{}}
	fields, err := csv.NewReader(strings.NewReader(text)).Read()
	if err != nil && err != io.EOF {
		return entry, fault.New(fault.Usage, "", "cache %q: %w", text, err)
	}
	for _, field := range fields {
		name, value, ok := strings.Cut(field, "=")
		if !ok || value == "" {
			return entry, fault.New(fault.Usage, "", "cache %q: %q is not NAME=VALUE", text, field)
		}
		entry.Attrs[name] = value
	}
	entry.Type = entry.Attrs["type"]
	delete(entry.Attrs, "type")
	where := attributes[entry.Type]
	if where == "" {
		return entry, fault.New(fault.Usage, "", `cache %q: want type=registry,ref=REFERENCE or type=local,%s=DIR`, text, attributes["local"])
	}
	if entry.Attrs[where] == "" {
		return entry, fault.New(fault.Usage, "", "cache %q: it lacks %s=", text, where)
	}
	if entry.Type == "local" { // the client's folder, whatever the engine's is
		if entry.Attrs[where], err = filepath.Abs(entry.Attrs[where]); err != nil {
			return entry, err
		}
	}
	return entry, nil
}

// fresh copies entries: BuildKit's client writes into their attributes.
func fresh(entries []client.CacheOptionsEntry) []client.CacheOptionsEntry {
	copied := make([]client.CacheOptionsEntry, len(entries))
	for i, e := range entries {
		copied[i] = client.CacheOptionsEntry{Type: e.Type, Attrs: maps.Clone(e.Attrs)}
	}
	return copied
}

// importsKey is under which BuildKit's client hands a build its cache imports, as
// JSON: those of folders with the digest of what is in them.
const importsKey = "cache-imports"

// importsOf returns the cache imports among the options of a build.
func importsOf(options map[string]string) (imports []gateway.CacheOptionsEntry, err error) {
	text := options[importsKey]
	if text == "" {
		return nil, nil
	}
	if err := json.Unmarshal([]byte(text), &imports); err != nil {
		return nil, fmt.Errorf("the caches to import from: %w", err)
	}
	return imports, nil
}

// credentials lets the engine ask for the user's logins at registries, those
// of `docker login`. They stay on this machine: what an engine gets are tokens.
func credentials() []session.Attachable {
	logins := config.LoadDefaultConfigFile(io.Discard)
	return []session.Attachable{authprovider.NewDockerAuthProvider(authprovider.DockerAuthProviderConfig{
		AuthConfigProvider: authprovider.LoadAuthConfig(logins),
	})}
}

// ExportCache sends what the states were made of to where Options.Cache says;
// nothing if it says nothing. What is not built yet is built first.
func (e *Engine) ExportCache(ctx context.Context, title string, states ...llb.State) error {
	if !e.Exports() {
		return nil
	}
	return e.solveWith(ctx, title, Exported(title, states...), func(o *client.SolveOpt) { o.CacheExports = fresh(e.caches.to) })
}

// Exports says whether ExportCache has something to do.
func (e *Engine) Exports() bool { return len(e.caches.to) > 0 }

// Exported is the graph that ExportCache solves. It is one export of all states: a
// later one would replace the one before it.
func Exported(title string, states ...llb.State) llb.State {
	return llb.Merge(states, llb.WithCustomName(title))
}

// announce says which folders hold nothing to import yet, as before the first
// export: the engine leaves them out without a word.
func (c caches) announce(log func(string, ...any)) {
	for _, e := range c.from {
		if e.Type != "local" {
			continue
		}
		if _, err := os.Stat(filepath.Join(e.Attrs["src"], "index.json")); err != nil {
			log("no cache to import in %s: %v", e.Attrs["src"], err)
		}
	}
}
