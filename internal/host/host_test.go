package host

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"nodesmith.dev/nodesmith/internal/fault"
	"nodesmith.dev/nodesmith/internal/testenv"
)

// bookwormSources is what Debian's own images of 12 ship.
const bookwormSources = `Types: deb
URIs: http://ftp.example.org/debian
Suites: bookworm bookworm-updates
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg

Types: deb
URIs: http://ftp.example.org/debian-security/
Suites: bookworm-security
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg
`

func TestAptMirrors(t *testing.T) {
	both := map[string][]string{debianArchive: {"http://ftp.example.org/debian"}, securityArchive: {"http://ftp.example.org/debian-security"}}
	only := map[string][]string{debianArchive: {"http://ftp.example.org/debian"}}
	none := map[string][]string{}
	list := func(text string) map[string]string { return map[string]string{"sources.list": text} }
	sources := func(text string) map[string]string {
		return map[string]string{"sources.list.d/debian.sources": text}
	}
	replace := func(old, with string) map[string]string {
		return sources(strings.ReplaceAll(bookwormSources, old, with))
	}
	tests := map[string]struct {
		files map[string]string
		want  map[string][]string
	}{
		"nothing":       {nil, none},
		"deb822":        {sources(bookwormSources), both},
		"deb822 on DOS": {replace("\n", "\r\n"), both},
		"one-line": {list("# by the installer\n\ndeb http://ftp.example.org/debian/ bookworm main contrib # ours\n" +
			"deb\thttp://ftp.example.org/debian-security\tbookworm-security\tmain\ndeb-src http://src.example.org/debian bookworm main\n"), both},
		"one-line with options": {list("deb [arch=amd64 signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] http://ftp.example.org/debian bookworm main\n" +
			"deb [ arch=amd64 ] http://ftp.example.org/debian-security bookworm-security main\n"), both},
		"a file in sources.list.d":         {map[string]string{"sources.list.d/x.list": "deb http://ftp.example.org/debian bookworm main\n"}, only},
		"a file of another name":           {map[string]string{"sources.list.d/x.list.disabled": "deb http://ftp.example.org/debian bookworm main\n"}, none},
		"the first of several":             {list("deb http://ftp.example.org/debian bookworm main\ndeb http://b.example.org/debian bookworm main\n"), only},
		"the list before the directory":    {map[string]string{"sources.list": "deb http://ftp.example.org/debian bookworm main\n", "sources.list.d/b.sources": replace("ftp.", "b.")["sources.list.d/debian.sources"]}, map[string][]string{debianArchive: {"http://ftp.example.org/debian"}, securityArchive: {"http://b.example.org/debian-security"}}},
		"several URIs":                     {replace("URIs: http://ftp.example.org/debian\n", "URIs: cdrom:/debian\n http://ftp.example.org/debian http://b.example.org/debian\n"), both},
		"a comment":                        {list("# deb http://a.example.org/debian bookworm main\n"), none},
		"a comment with options":           {list("# deb [arch=amd64] http://a.example.org/debian bookworm main\n"), none},
		"sources of sources":               {list("deb-src http://a.example.org/debian bookworm main\ndeb-src [arch=amd64] http://a.example.org/debian bookworm main\n"), none},
		"deb822 of sources":                {replace("Types: deb", "Types: deb-src"), none},
		"deb822 of both":                   {replace("Types: deb", "Types: deb deb-src"), both},
		"deb822 switched off":              {replace("Types: deb", "Enabled: no\nTypes: deb"), none},
		"deb822 switched on":               {replace("Types: deb", "Enabled: yes\nTypes: deb"), both},
		"deb822 that is broken":            {sources("Types deb\n" + bookwormSources), none},
		"another archive under /debian":    {list("deb https://download.example.com/linux/debian bookworm stable\n"), none},
		"another archive with its own key": {list("deb [signed-by=/etc/apt/keyrings/other.gpg] https://packages.example.com/debian bookworm main\n"), none},
		"deb822 with another key":          {replace("debian-archive-keyring", "other"), none},
		"deb822 with a key inside":         {replace("Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg", "Signed-By:\n -----BEGIN PGP PUBLIC KEY BLOCK-----\n .\n mQ=="), none},
		"a disc":                           {list("deb cdrom:[Debian GNU/Linux 12 _Bookworm_]/debian bookworm main\n"), none},
		"a directory":                      {list("deb file:/srv/debian bookworm main\n"), none},
		"security under /debian":           {list("deb http://a.example.org/debian bookworm-security main\n"), none},
		"Ubuntu, all suites on a mirror": {
			sources("Types: deb\nURIs: http://m.example.org/ubuntu/\nSuites: noble noble-updates noble-security\nComponents: main universe\nSigned-By: /usr/share/keyrings/ubuntu-archive-keyring.gpg\n"),
			map[string][]string{ubuntuArchive: {"http://m.example.org/ubuntu"}, ubuntuSecurity: {"http://m.example.org/ubuntu"}},
		},
		"Ubuntu of one's own archive alone": {list("deb http://m.example.org/ubuntu noble main universe\n"), map[string][]string{ubuntuArchive: {"http://m.example.org/ubuntu"}}},
		"a PPA":                             {list("deb https://ppa.example.org/team/ppa/ubuntu noble main\n"), none},
		"a line cut short":                  {list("deb\ndeb [arch=amd64\ndeb http://a.example.org/debian\ndeb http://a.example.org/debian bookworm\n"), none},
		"a flat archive":                    {list("deb http://a.example.org/debian ./\n"), none},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			etc := t.TempDir()
			for file, text := range test.files {
				testenv.WriteFile(t, filepath.Join(etc, file), text)
			}
			if got := aptMirrors(etc); !reflect.DeepEqual(got, test.want) {
				t.Errorf("mirrors %v, want %v", got, test.want)
			}
		})
	}
}

// home gives the test a user with this configuration file, or none if it is "",
// and without the go command.
func home(t *testing.T, config string) {
	t.Helper()
	dir := t.TempDir()
	t.Setenv("HOME", dir)
	t.Setenv("XDG_CONFIG_HOME", filepath.Join(dir, "config"))
	t.Setenv("XDG_CACHE_HOME", filepath.Join(dir, "cache"))
	t.Setenv("PATH", t.TempDir()) // go's telemetry would write to that home after the test
	for _, name := range append([]string{"GOPROXY", "GOSUMDB", "GONOSUMDB", "GOFLAGS", "GOENV"}, networkVariables...) {
		t.Setenv(name, "")
		if err := os.Unsetenv(name); err != nil { // Setenv brings it back after the test
			t.Fatal(err)
		}
	}
	if config != "" {
		testenv.WriteFile(t, filepath.Join(dir, "config", "nodesmith", "config.yaml"), config)
	}
}

func TestTheConfigurationComesBeforeTheMachines(t *testing.T) {
	t.Run("without one", func(t *testing.T) {
		home(t, "")
		t.Setenv("GOPROXY", "http://env.example.org")
		settings, err := Read()
		if err != nil {
			t.Fatal(err)
		}
		golang, err := settings.Go(t.Context())
		if err != nil || golang.Proxy != "http://env.example.org" || !reflect.DeepEqual(settings.Mirrors, aptMirrors("/etc/apt")) {
			t.Errorf("proxy %q (%v) and mirrors %v, want the environment's and apt's", golang.Proxy, err, settings.Mirrors)
		}
		if golang.SumDB != "sum.golang.org" || settings.Now.IsZero() {
			t.Errorf("settings %+v and %+v", settings, golang)
		}
		if want := filepath.Join(os.Getenv("XDG_CACHE_HOME"), "nodesmith"); settings.CacheDir != want {
			t.Errorf("cache %s, want %s", settings.CacheDir, want)
		}
	})
	t.Run("with one", func(t *testing.T) {
		home(t, "goProxy: http://config.example.org\novaSigning: {key: /k, certificate: /c}\nmirrors:\n  "+debianArchive+"/:\n  - http://m.example.org/debian\n  http://other.example.org/x: [http://m.example.org/x]\n")
		t.Setenv("GOPROXY", "http://env.example.org")
		settings, err := Read()
		if err != nil {
			t.Fatal(err)
		}
		want := aptMirrors("/etc/apt") // what it does not name stays
		want[debianArchive] = []string{"http://m.example.org/debian"}
		want["http://other.example.org/x"] = []string{"http://m.example.org/x"}
		golang, err := settings.Go(t.Context())
		if err != nil || golang.Proxy != "http://config.example.org" || !reflect.DeepEqual(settings.Mirrors, want) {
			t.Errorf("proxy %q (%v) and mirrors %v, want the configuration's", golang.Proxy, err, settings.Mirrors)
		}
		if want := (OVASigning{Key: "/k", Certificate: "/c"}); settings.OVASigning != want {
			t.Errorf("OVA signing %+v, want %+v", settings.OVASigning, want)
		}
	})
}

func TestTheConfigurationIsReadStrictly(t *testing.T) {
	for name, test := range map[string]struct {
		text  string
		valid bool
	}{
		"empty":            {"# nothing yet\n", true},
		"a misspelt field": {"mirror: {}\n", false},
		"a field twice":    {"goProxy: a\ngoProxy: b\n", false},
		"another type":     {"mirrors: http://m.example.org\n", false},
		"not YAML":         {"mirrors: [\n", false},
	} {
		t.Run(name, func(t *testing.T) {
			home(t, test.text)
			_, err := Read()
			if test.valid {
				if err != nil {
					t.Error(err)
				}
				return
			}
			if fault.KindOf(err) != fault.BadSpec || !strings.Contains(err.Error(), "config.yaml") {
				t.Errorf("%v error %v, want a bad spec that names the file", fault.KindOf(err), err)
			}
		})
	}
}

func TestGoIsAskedForWhatTheUserSetWithIt(t *testing.T) {
	tests := map[string]struct {
		program string // stands for go; none if empty
		want    Go
		fails   bool
	}{
		"go knows":    {`echo '{"GOPROXY":"http://written.example.org","GOSUMDB":"off","GONOSUMDB":"x.example.org"}'`, Go{Proxy: "http://written.example.org", SumDB: "off", NoSumDB: "x.example.org"}, false},
		"no go":       {"", Go{Proxy: "http://env.example.org", SumDB: "sum.golang.org"}, false},
		"go fails":    {"exit 1", Go{}, true},
		"go is no go": {"echo hello", Go{}, true},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			home(t, "")
			t.Setenv("GOPROXY", "http://env.example.org")
			bin := t.TempDir()
			t.Setenv("PATH", bin)
			if test.program != "" {
				if err := os.WriteFile(filepath.Join(bin, "go"), []byte("#!/bin/sh\n"+test.program+"\n"), 0o755); err != nil {
					t.Fatal(err)
				}
			}
			got, err := Settings{}.Go(t.Context())
			if test.fails {
				if err == nil {
					t.Error("no error")
				}
				return
			}
			if err != nil || got != test.want {
				t.Errorf("%+v, %v; want %+v", got, err, test.want)
			}
		})
	}
}

func TestNetworkHoldsTheProxiesThatAreSet(t *testing.T) {
	home(t, "")
	t.Setenv("HTTPS_PROXY", "http://proxy.example.org:3128")
	t.Setenv("no_proxy", "")
	t.Setenv("SECRET_TOKEN", "x")
	settings, err := Read()
	if err != nil {
		t.Fatal(err)
	}
	if want := []string{"HTTPS_PROXY=http://proxy.example.org:3128", "no_proxy="}; !reflect.DeepEqual(settings.Network, want) {
		t.Errorf("network %q, want %q", settings.Network, want)
	}
}

func TestNoHomeIsTheHostsFault(t *testing.T) {
	home(t, "")
	t.Setenv("HOME", "")
	t.Setenv("XDG_CACHE_HOME", "")
	if _, err := Read(); fault.KindOf(err) != fault.MissingHost || fault.RemedyOf(err) == "" {
		t.Errorf("%v error %v, want what the host lacks, with a remedy", fault.KindOf(err), err)
	}
}
