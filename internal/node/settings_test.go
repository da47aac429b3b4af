package node

import (
	"strings"
	"testing"
)

func TestTimeServersTakeThePlaceOfTheDistributions(t *testing.T) {
	c, err := TimeServers("chrony", []string{"ntp.example.org"})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Validate(); err != nil {
		t.Error(err)
	}
	if len(c.Cuts) != 1 || len(c.Files) != 1 || c.Files[0].Content != "server ntp.example.org iburst\n" {
		t.Errorf("%+v", c)
	}
	if c, err := TimeServers("chrony", nil); err != nil || len(c.Cuts)+len(c.Files) > 0 {
		t.Errorf("no servers: %+v, %v", c, err)
	}
}

// chrony 3 reads its servers only if its start says so.
func TestChrony3IsToldOfItsServers(t *testing.T) {
	c, err := TimeServers("chrony 3", []string{"ntp.example.org"})
	if err != nil {
		t.Fatal(err)
	}
	content := map[string]string{}
	for _, f := range c.Files {
		content[f.Path] = f.Content
	}
	for path, want := range map[string]string{
		"/etc/default/chrony":                     "-f /etc/chrony/nodesmith.conf",
		"/etc/chrony/nodesmith.conf":              "include /etc/chrony/sources.d/nodesmith.sources\n",
		"/etc/chrony/sources.d/nodesmith.sources": "server ntp.example.org iburst\n",
	} {
		if !strings.Contains(content[path], want) {
			t.Errorf("%s is %q, without %q", path, content[path], want)
		}
	}
}

func TestTimeServersRefuse(t *testing.T) {
	for name, test := range map[string]struct{ daemon, server, want string }{
		"daemon":         {"photon", "a", "there are: chrony"},
		"second line":    {"chrony", "a\nallow all", "neither a name nor an address"},
		"second word":    {"chrony", "a iburst", "neither a name nor an address"},
		"nothing at all": {"chrony", "", "neither a name nor an address"},
	} {
		if _, err := TimeServers(test.daemon, []string{test.server}); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: error %v does not say %q", name, err, test.want)
		}
	}
}
