// Package host is the only place that reads the environment, the clock and the
// machine's own settings.
//
// What comes out are plain values that the rest is given: where caches lie,
// which mirrors stand in for which archives, which Go proxy to ask.
package host

import (
	"bufio"
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"sigs.k8s.io/yaml"

	"nodesmith.dev/nodesmith/internal/deb"
	"nodesmith.dev/nodesmith/internal/fault"
)

// Settings is everything about this machine and user that a build may use.
type Settings struct {
	// CacheDir holds downloads, inputs and the engine's state.
	CacheDir string
	// StoreDir holds images.
	StoreDir string
	// StateDir holds what outlives the cache.
	StateDir string
	// Mirrors maps an archive's URL to what is asked in its place, in order.
	Mirrors map[string][]string
	// GoProxy stands in for the go command's own (Settings.Go); empty for none.
	GoProxy string
	// Network are the variables ("HTTPS_PROXY=...") that say how this machine
	// reaches the network, for programs that nodesmith runs.
	Network []string
	// OVASigning names the files to sign OVAs with; empty for none.
	OVASigning OVASigning
	// Engine says which build engine is used.
	Engine Engine
	// Bounds say how much of each cache is kept.
	Bounds Bounds
	// Now is when the command started.
	Now time.Time
}

// OVASigning are the paths of two PEM files. They are never part of a spec: a key
// is the machine's or the user's own.
type OVASigning struct {
	// Key is an RSA key.
	Key string `json:"key,omitempty"`
	// Certificate is the key's, with those of its issuers behind it.
	Certificate string `json:"certificate,omitempty"`
}

// Engine says where the steps of builds run, and which caches they share.
type Engine struct {
	// Address is that of a BuildKit daemon; empty for nodesmith's own engine.
	Address string `json:"address,omitempty"`
	// TLS is for addresses that begin with tcp://.
	TLS EngineTLS `json:"tls,omitzero"`
	// Cache is shared with other engines.
	Cache EngineCache `json:"cache,omitzero"`
}

// EngineTLS are paths of PEM files, and a name.
type EngineTLS struct {
	// CA is the certificate of who signed the daemon's.
	CA string `json:"ca,omitempty"`
	// Certificate and Key are what nodesmith proves itself with.
	Certificate string `json:"certificate,omitempty"`
	Key         string `json:"key,omitempty"`
	// ServerName is the name in the daemon's certificate.
	ServerName string `json:"serverName,omitempty"`
}

// EngineCache are BuildKit's cache options, "type=registry,ref=..." or
// "type=local,...".
type EngineCache struct {
	From []string `json:"from,omitempty"`
	To   []string `json:"to,omitempty"`
}

// file is the user's configuration file.
type file struct {
	// Store is the folder that holds images.
	Store string `json:"store,omitempty"`
	// Mirrors maps an archive's URL to mirrors of it.
	Mirrors map[string][]string `json:"mirrors,omitempty"`
	// GoProxy stands in for the environment's GOPROXY.
	GoProxy string `json:"goProxy,omitempty"`
	// OVASigning names the key and the certificate that OVAs are signed with.
	OVASigning OVASigning `json:"ovaSigning,omitzero"`
	// Engine is the build engine to use.
	Engine Engine `json:"engine,omitzero"`
	// Cache bounds what is kept.
	Cache Bounds `json:"cache,omitzero"`
}

// Read returns the machine's settings: $XDG_CONFIG_HOME/nodesmith/config.yaml
// first, then the environment and what the machine itself is configured with (apt's
// sources). It asks no program and is quick.
func Read() (settings Settings, err error) {
	settings.Now = time.Now()
	if settings.CacheDir, err = CacheDir(); err != nil {
		return settings, err
	}
	configured, err := readFile()
	if err != nil {
		return settings, err
	}
	settings.Engine, settings.Bounds = configured.Engine, configured.Cache
	settings.GoProxy, settings.OVASigning = configured.GoProxy, configured.OVASigning
	if settings.StoreDir, err = storeDir(configured); err != nil {
		return settings, err
	}
	if settings.StateDir, err = StateDir(); err != nil {
		return settings, err
	}
	for _, name := range networkVariables {
		if value, ok := os.LookupEnv(name); ok {
			settings.Network = append(settings.Network, name+"="+value)
		}
	}
	settings.Mirrors = aptMirrors("/etc/apt")
	for archive, mirrors := range configured.Mirrors {
		settings.Mirrors[strings.TrimSuffix(archive, "/")] = mirrors
	}
	return settings, nil
}

// CacheDir returns the folder that may be deleted while no nodesmith runs.
func CacheDir() (string, error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", fault.New(fault.MissingHost, "set XDG_CACHE_HOME or HOME", "no cache directory: %w", err)
	}
	return filepath.Join(cache, "nodesmith"), nil
}

// Now is the time.
func Now() time.Time { return time.Now() }

// StoreDir returns the folder that holds images: what the configuration file says,
// or else nodesmith/store in the user's data (XDG Base Directory Specification).
func StoreDir() (string, error) {
	configured, err := readFile()
	if err != nil {
		return "", err
	}
	return storeDir(configured)
}

func storeDir(configured file) (string, error) {
	if filepath.IsAbs(configured.Store) {
		return configured.Store, nil
	}
	if configured.Store != "" {
		return "", fault.New(fault.BadSpec, "give it as in /srv/nodesmith", "configuration: store %q is no absolute path", configured.Store)
	}
	if data := os.Getenv("XDG_DATA_HOME"); filepath.IsAbs(data) { // the specification: relative ones are ignored
		return filepath.Join(data, "nodesmith", "store"), nil
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return "", fault.New(fault.MissingHost, "set XDG_DATA_HOME or HOME", "no data directory: %w", err)
	}
	return filepath.Join(home, ".local", "share", "nodesmith", "store"), nil
}

// BlocksDir is where a cache directory keeps compressed blocks.
func BlocksDir(cacheDir string) string { return filepath.Join(cacheDir, "blocks") }

// SetProxy makes this process and the programs that it runs use a proxy
// ("HTTPS_PROXY=..."), unless the environment names one already: that knows the
// machine's network, and may hold credentials. Go's HTTP client reads these
// variables once, so this comes before anything is downloaded.
func SetProxy(variables []string) error {
	for _, name := range proxyVariables {
		if _, ok := os.LookupEnv(name); ok {
			return nil
		}
	}
	for _, variable := range variables {
		name, value, _ := strings.Cut(variable, "=")
		if err := os.Setenv(name, value); err != nil {
			return err
		}
	}
	return nil
}

// proxyVariables are those that name a proxy.
var proxyVariables = []string{"HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"}

// networkVariables are those that Go programs read for proxies, certificates
// and credentials of a proxy.
var networkVariables = []string{
	"HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy",
	"SSL_CERT_FILE", "SSL_CERT_DIR", "NETRC", "GOAUTH",
}

// FilePath is where the configuration file lies, if there is one.
func FilePath() (string, error) {
	dir, err := os.UserConfigDir()
	return filepath.Join(dir, "nodesmith", "config.yaml"), err
}

func readFile() (file, error) {
	configured := file{Cache: DefaultBounds}
	path, err := FilePath()
	if err != nil {
		return configured, nil //nolint:nilerr // no home: no configuration
	}
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return configured, nil
	}
	if err == nil {
		err = yaml.UnmarshalStrict(data, &configured)
	}
	if err != nil {
		// What the YAML is turned into on the way is not the user's business.
		err = errors.New(strings.NewReplacer("error unmarshaling JSON: while decoding JSON: json: ", "", "error unmarshaling JSON: while decoding JSON: ", "", "error converting YAML to JSON: ", "").Replace(err.Error()))
		return configured, fault.New(fault.BadSpec, "its fields are store, mirrors, goProxy, ovaSigning, engine and cache", "configuration %s: %w", path, err)
	}
	return configured, nil
}

// The archives of distributions, as their publishers name them.
const (
	debianArchive   = "http://deb.debian.org/debian"
	securityArchive = "http://deb.debian.org/debian-security"
	ubuntuArchive   = "http://archive.ubuntu.com/ubuntu"
	ubuntuSecurity  = "http://security.ubuntu.com/ubuntu"
)

// archives are those that a machine's own sources may be mirrors of. Others keep
// their packages under /debian or /ubuntu, too: they have their own components
// or their own key.
var archives = []struct {
	url string
	// path ends a mirror's address, component is one that it has, and keyring is
	// in the name of its keys, where the source names them.
	path, component, keyring string
	security                 bool // has the suites that end in -security
}{
	{securityArchive, "/debian-security", "main", "debian-archive", true},
	{debianArchive, "/debian", "main", "debian-archive", false},
	{ubuntuSecurity, "/ubuntu", "universe", "ubuntu-archive", true},
	{ubuntuArchive, "/ubuntu", "universe", "ubuntu-archive", false},
}

// source is one entry of apt's sources.
type source struct{ uri, suites, components, signedBy string }

// archives returns which archives the source is a mirror of.
func (s source) archives() []string {
	if !strings.HasPrefix(s.uri, "http") {
		return nil
	}
	var all []string
	for _, a := range archives {
		has := func(suite string) bool { return strings.HasSuffix(suite, "-security") == a.security }
		if strings.HasSuffix(strings.TrimSuffix(s.uri, "/"), a.path) &&
			slices.Contains(strings.Fields(s.components), a.component) &&
			(s.signedBy == "" || strings.Contains(s.signedBy, a.keyring)) &&
			slices.ContainsFunc(strings.Fields(s.suites), has) {
			all = append(all, a.url)
		}
	}
	return all
}

// aptMirrors maps archives of distributions to what the machine's own apt uses for
// them, as configured in etc. Whatever it serves, signatures decide.
func aptMirrors(etc string) map[string][]string {
	mirrors := map[string][]string{}
	add := func(s source) {
		for _, archive := range s.archives() {
			if len(mirrors[archive]) == 0 {
				mirrors[archive] = []string{strings.TrimSuffix(s.uri, "/")}
			}
		}
	}
	lists, _ := filepath.Glob(filepath.Join(etc, "sources.list.d", "*.list"))
	for _, path := range append([]string{filepath.Join(etc, "sources.list")}, lists...) {
		data, err := os.ReadFile(path)
		if err != nil {
			continue // not there, or not ours to read
		}
		readList(data, add)
	}
	sources, _ := filepath.Glob(filepath.Join(etc, "sources.list.d", "*.sources"))
	for _, path := range sources {
		data, err := os.ReadFile(path)
		if err != nil {
			continue
		}
		// A file that apt would refuse names no mirror.
		_ = deb.Stanzas(bytes.NewReader(data), func(s deb.Stanza) (bool, error) {
			if !slices.Contains(strings.Fields(s["Types"]), "deb") || slices.Contains(disabled, strings.ToLower(s["Enabled"])) {
				return true, nil
			}
			for uri := range strings.FieldsSeq(s["URIs"]) {
				add(source{uri: uri, suites: s["Suites"], components: s["Components"], signedBy: s["Signed-By"]})
			}
			return true, nil
		})
	}
	return mirrors
}

// disabled are the values with which apt turns a stanza off (apt's StringToBool).
var disabled = []string{"no", "false", "without", "off", "disable", "0"}

// readList reads the one-line format of sources.list(5):
// deb [options] URI suite components.
func readList(data []byte, add func(source)) {
	lines := bufio.NewScanner(bytes.NewReader(data))
	for lines.Scan() {
		line, _, _ := strings.Cut(lines.Text(), "#")
		words := strings.Fields(line)
		if len(words) == 0 || words[0] != "deb" {
			continue
		}
		words = words[1:]
		var signedBy string
		if len(words) > 0 && strings.HasPrefix(words[0], "[") {
			options, rest, _ := strings.Cut(strings.Join(words, " ")[1:], "]")
			for option := range strings.FieldsSeq(options) {
				if value, ok := strings.CutPrefix(option, "signed-by="); ok {
					signedBy = value
				}
			}
			words = strings.Fields(rest)
		}
		if len(words) >= 3 {
			add(source{uri: words[0], suites: words[1], components: strings.Join(words[2:], " "), signedBy: signedBy})
		}
	}
}
