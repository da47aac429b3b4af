package host

import (
	"context"
	"errors"
	"io/fs"
	"maps"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"sigs.k8s.io/yaml"

	"nodesmith.dev/nodesmith/internal/fault"
)

// Key is one field of the configuration file, or one thing that the environment
// alone decides.
type Key struct {
	// Name is the path of the field: engine.tls.ca.
	Name string
	// Default is what counts without it, in words.
	Default string
	// Meaning is a sentence, Example a value as the file has it.
	Meaning, Example string
	// EnvironmentOnly keys are no fields of the file.
	EnvironmentOnly bool

	// values are what the settings say, by what comes behind the name: "" for the
	// key's own. origin says where they come from if not from the file.
	values func(known) map[string]string
	origin func() string
}

// known is everything that keys are about.
type known struct {
	Settings
	golang Go
}

// Value is one effective setting.
type Value struct {
	Name, Value string
	// Origin is the file's path, the name of a variable, or "default".
	Origin string
}

const isDefault = "default"

// Keys are all fields of the configuration file and what decides besides it, in
// the order in which they are shown.
func Keys() []Key {
	keys := []Key{
		{
			Name: "cacheDir", EnvironmentOnly: true, Default: "`$XDG_CACHE_HOME/nodesmith`, else `~/.cache/nodesmith`",
			Meaning: "The folder of the caches. All of it may be deleted while no nodesmith runs.",
			values:  one(func(s known) string { return s.CacheDir }), origin: from("XDG_CACHE_HOME"),
		},
		{
			Name: "store", Default: "`$XDG_DATA_HOME/nodesmith/store`, else `~/.local/share/nodesmith/store`", Example: "/srv/nodesmith",
			Meaning: "The folder of the images ([store.md](store.md)); an absolute path.",
			values:  one(func(s known) string { return s.StoreDir }), origin: from("XDG_DATA_HOME"),
		},
		{
			Name: "mirrors", Default: "what the machine's own apt uses for an archive", Example: "{http://deb.debian.org/debian: [https://mirror.example.com/debian]}",
			Meaning: "What is asked in place of an archive, in order ([guides/mirror-and-proxy.md](guides/mirror-and-proxy.md)).",
			values:  mirrorValues, origin: func() string { return "/etc/apt" },
		},
		{
			Name: "goProxy", Default: "`go env GOPROXY`, else the variable, else `https://proxy.golang.org,direct`", Example: "https://goproxy.example.com",
			Meaning: "Where Go modules come from, as in GOPROXY.",
			values:  one(func(s known) string { return redactedList(s.golang.Proxy) }), origin: fromGo("GOPROXY"),
		},
		{
			Name: "goSumDB", EnvironmentOnly: true, Default: "`go env GOSUMDB`, else the variable, else `sum.golang.org`", Meaning: "The checksum database that Go modules are held against.",
			values: one(func(s known) string { return s.golang.SumDB }), origin: fromGo("GOSUMDB"),
		},
		{
			Name: "goNoSumDB", EnvironmentOnly: true, Default: "`go env GONOSUMDB`, else the variable", Meaning: "Modules that the checksum database is not asked about.",
			values: one(func(s known) string { return s.golang.NoSumDB }), origin: fromGo("GONOSUMDB"),
		},
		{
			Name: "network", EnvironmentOnly: true, Default: "none", Meaning: "Variables that say how this machine reaches the network: `HTTPS_PROXY` and its kin, `SSL_CERT_FILE`, `NETRC`.",
			values: networkValues, origin: func() string { return "environment" },
		},
		text("ovaSigning.key", "OVAs are not signed", "/etc/nodesmith/ova.key", "PEM file of the RSA key that OVAs are signed with ([formats.md](formats.md)).", func(s known) string { return s.OVASigning.Key }),
		text("ovaSigning.certificate", "", "/etc/nodesmith/ova.pem", "PEM file of that key's certificate, with those of its issuers behind it.", func(s known) string { return s.OVASigning.Certificate }),
		text("engine.address", "nodesmith's own engine", "tcp://builder.example.com:1234", "The BuildKit that runs the steps of builds ([engines.md](engines.md)).", func(s known) string { return redacted(s.Engine.Address) }),
		text("engine.tls.ca", "the system's certificates", "/etc/nodesmith/ca.pem", "PEM file of who signed the engine's certificate.", func(s known) string { return s.Engine.TLS.CA }),
		text("engine.tls.certificate", "", "/etc/nodesmith/client.pem", "PEM file of the certificate that is shown to the engine.", func(s known) string { return s.Engine.TLS.Certificate }),
		text("engine.tls.key", "", "/etc/nodesmith/client.key", "PEM file of that certificate's key.", func(s known) string { return s.Engine.TLS.Key }),
		text("engine.tls.serverName", "the address's host", "builder", "The name in the engine's certificate.", func(s known) string { return s.Engine.TLS.ServerName }),
		text("engine.cache.from", "none", `["type=registry,ref=registry.example.com/nodesmith/cache"]`, "Where results of steps are imported from.", func(s known) string { return strings.Join(s.Engine.Cache.From, " ") }),
		text("engine.cache.to", "none", `["type=local,dest=/srv/cache"]`, "Where results of steps are exported to.", func(s known) string { return strings.Join(s.Engine.Cache.To, " ") }),
	}
	defaults := DefaultBounds
	for _, name := range BoundNames {
		bound := defaults.Of(name).String()
		keys = append(keys, text("cache."+name, bound, bound, "How much is kept of this kind ([housekeeping.md](housekeeping.md)).",
			func(s known) string { return s.Bounds.Of(name).String() }))
	}
	return keys
}

// text is a key of the file alone.
func text(name, byDefault, example, meaning string, value func(known) string) Key {
	return Key{Name: name, Default: byDefault, Example: example, Meaning: meaning, values: one(value), origin: func() string { return isDefault }}
}

func one(value func(known) string) func(known) map[string]string {
	return func(s known) map[string]string { return map[string]string{"": value(s)} }
}

// from says that a variable decides, where it is set.
func from(variable string) func() string {
	return func() string {
		if filepath.IsAbs(os.Getenv(variable)) {
			return variable
		}
		return isDefault
	}
}

// fromGo says that a variable decides, or else what the go command says.
func fromGo(variable string) func() string {
	return func() string {
		if os.Getenv(variable) != "" {
			return variable
		}
		return "go env, or default"
	}
}

func mirrorValues(s known) map[string]string {
	values := map[string]string{}
	for archive, mirrors := range s.Mirrors {
		var shown []string
		for _, m := range mirrors {
			shown = append(shown, redacted(m))
		}
		values["."+archive] = strings.Join(shown, " ")
	}
	return values
}

func networkValues(s known) map[string]string {
	values := map[string]string{}
	for _, variable := range s.Network {
		name, value, _ := strings.Cut(variable, "=")
		values["."+name] = redacted(value)
	}
	return values
}

// redacted hides the password of an address; a text that is none stays.
func redacted(text string) string {
	if u, err := url.Parse(text); err == nil && u.User != nil {
		return u.Redacted()
	}
	if _, rest, ok := strings.Cut(text, "@"); ok && strings.Contains(text, "://") {
		return "xxxxx@" + rest // an address that can't be read may have one all the same
	}
	return text
}

// redactedList is redacted for each address of a GOPROXY.
func redactedList(text string) string {
	var out strings.Builder
	for text != "" {
		i := strings.IndexAny(text, ",|")
		if i < 0 {
			i = len(text)
		}
		out.WriteString(redacted(text[:i]))
		if i < len(text) {
			out.WriteByte(text[i])
			i++
		}
		text = text[i:]
	}
	return out.String()
}

// Effective lists settings that Read returned and those of Go, each with where it
// comes from, and returns the path of the configuration file, "" if there is none.
func Effective(ctx context.Context, settings Settings) (values []Value, path string, err error) {
	path, written, err := fields()
	if err != nil {
		return nil, "", err
	}
	golang, err := settings.Go(ctx)
	if err != nil {
		return nil, "", err
	}
	for _, k := range Keys() {
		all := k.values(known{settings, golang})
		for _, part := range slices.Sorted(maps.Keys(all)) {
			v := Value{Name: k.Name + part, Value: all[part], Origin: k.origin()}
			if !k.EnvironmentOnly && has(written, k.Name, part) {
				v.Origin = path
			}
			values = append(values, v)
		}
	}
	return values, path, nil
}

// fields returns what the configuration file says, as it stands there, and its path.
func fields() (path string, written map[string]any, err error) {
	path, err = FilePath()
	if err != nil {
		return "", nil, nil //nolint:nilerr // no home: no configuration
	}
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil, nil
	}
	if err == nil {
		err = yaml.Unmarshal(data, &written)
	}
	if err != nil {
		return path, nil, fault.New(fault.BadSpec, "", "configuration %s: %w", path, err)
	}
	return path, written, nil
}

// has says whether the file has a field, or in a map of the field an entry.
func has(written map[string]any, name, part string) bool {
	path := strings.Split(name, ".")
	if part != "" {
		path = append(path, strings.TrimPrefix(part, "."))
	}
	var at any = written
	for _, field := range path {
		fields, ok := at.(map[string]any)
		if !ok {
			return false
		}
		next, ok := fields[field]
		if !ok {
			if next, ok = fields[field+"/"]; !ok { // an archive's URL, as people write it
				return false
			}
		}
		at = next
	}
	return true
}
