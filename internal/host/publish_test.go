package host

import (
	"path/filepath"
	"testing"
)

func TestJournalsLieInTheState(t *testing.T) {
	t.Setenv("HOME", "/home/ada")
	for state, want := range map[string]string{"/state": "/state/nodesmith/publish", "": "/home/ada/.local/state/nodesmith/publish", "relative": "/home/ada/.local/state/nodesmith/publish"} {
		t.Setenv("XDG_STATE_HOME", state)
		if dir, err := PublishDir(); err != nil || dir != filepath.FromSlash(want) {
			t.Errorf("XDG_STATE_HOME=%q: %q, %v", state, dir, err)
		}
	}
}

func TestGovcsEnvironmentIsRead(t *testing.T) {
	for _, name := range []string{"GOVC_URL", "GOVC_USERNAME", "GOVC_PASSWORD", "GOVC_PERSIST_SESSION", "GOVC_TLS_CA_CERTS"} {
		t.Setenv(name, "")
	}
	if g := ReadGovc(); g.Host != "" || g.User != nil || !g.Persist || len(g.CAs) != 0 {
		t.Errorf("an empty environment says %+v", g)
	}
	t.Setenv("GOVC_URL", "ada:old@vc.example.com:8443")
	t.Setenv("GOVC_PASSWORD", "new")
	t.Setenv("GOVC_PERSIST_SESSION", "false")
	t.Setenv("GOVC_TLS_CA_CERTS", "/a.pem:/b.pem")
	g := ReadGovc()
	password, _ := g.User.Password()
	if g.Host != "vc.example.com:8443" || g.User.Username() != "ada" || password != "new" || g.Persist || len(g.CAs) != 2 {
		t.Errorf("got %+v, user %s", g, g.User.Username())
	}
}
