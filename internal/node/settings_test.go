package node

import (
	"strings"
	"testing"
)

func TestTimeServersTakeThePlaceOfTheDistributions(t *testing.T) {
	c, err := TimeServers("debian", []string{"ntp.example.org"})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Validate(); err != nil {
		t.Error(err)
	}
	if len(c.Cuts) != 1 || len(c.Files) != 1 || c.Files[0].Content != "server ntp.example.org iburst\n" {
		t.Errorf("%+v", c)
	}
	if c, err := TimeServers("debian", nil); err != nil || len(c.Cuts)+len(c.Files) > 0 {
		t.Errorf("no servers: %+v, %v", c, err)
	}
}

func TestTimeServersRefuse(t *testing.T) {
	for name, test := range map[string]struct{ family, server, want string }{
		"family":         {"photon", "a", "there are: debian"},
		"second line":    {"debian", "a\nallow all", "neither a name nor an address"},
		"second word":    {"debian", "a iburst", "neither a name nor an address"},
		"nothing at all": {"debian", "", "neither a name nor an address"},
	} {
		if _, err := TimeServers(test.family, []string{test.server}); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: error %v does not say %q", name, err, test.want)
		}
	}
}
