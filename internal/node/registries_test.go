package node

import (
	"testing"

	"github.com/pelletier/go-toml/v2"
)

// hostsToml is what containerd reads of hosts.toml (core/remotes/docker/config
// of its v2.1.4).
type hostsToml struct {
	Server string `toml:"server"`
	hostToml
	Host map[string]hostToml `toml:"host"`
}

type hostToml struct {
	Capabilities []string `toml:"capabilities"`
	CA           string   `toml:"ca"`
	SkipVerify   bool     `toml:"skip_verify"`
	OverridePath bool     `toml:"override_path"`
}

func TestRegistriesAreWrittenAsContainerdReadsThem(t *testing.T) {
	config, err := Registries("/certs.d", []Registry{
		{Name: "docker.io", Mirrors: []Mirror{
			{URL: "https://a.example.com/v2/hub", Capabilities: []string{"pull"}, OverridePath: true, CA: "PEM\n"},
			{URL: "https://[2001:db8::1]:5000", Capabilities: []string{"pull", "resolve"}, SkipVerify: true},
		}},
		{Name: "_default", Exclusive: true, Mirrors: []Mirror{
			{URL: "https://b.example.com", Capabilities: []string{"pull"}},
			{URL: "https://c.example.com", Capabilities: []string{"pull", "resolve"}, CA: "PEM\n"},
		}},
	})
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{
		"/certs.d/docker.io/mirror-0.pem": "PEM\n",
		"/certs.d/docker.io/hosts.toml": `# Where containerd looks for images of docker.io (docs/hosts.md of containerd).

[host."https://a.example.com/v2/hub"]
capabilities = ["pull"]
ca = "/certs.d/docker.io/mirror-0.pem"
override_path = true

[host."https://[2001:db8::1]:5000"]
capabilities = ["pull", "resolve"]
skip_verify = true
`,
		"/certs.d/_default/mirror-1.pem": "PEM\n",
		"/certs.d/_default/hosts.toml": `# Where containerd looks for images of _default (docs/hosts.md of containerd).

# In the place of the registry itself, which is never asked.
server = "https://c.example.com"
capabilities = ["pull", "resolve"]
ca = "/certs.d/_default/mirror-1.pem"

[host."https://b.example.com"]
capabilities = ["pull"]
`,
	}
	for _, f := range config.Files {
		if f.Content != want[f.Path] {
			t.Errorf("%s:\n%s\nwant\n%s", f.Path, f.Content, want[f.Path])
		}
		delete(want, f.Path)
		var read hostsToml
		if f.Content != "PEM\n" {
			if err := toml.Unmarshal([]byte(f.Content), &read); err != nil {
				t.Errorf("%s: %v", f.Path, err)
			}
		}
		if f.Path == "/certs.d/_default/hosts.toml" && (read.Server != "https://c.example.com" || read.CA == "" || len(read.Host) != 1) {
			t.Errorf("%s is read as %+v", f.Path, read)
		}
	}
	for path := range want {
		t.Errorf("no %s", path)
	}
}
