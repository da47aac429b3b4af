package host

import (
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"nodesmith.dev/nodesmith/internal/fault"
)

// StateDir returns the folder of what outlives the cache (XDG Base Directory
// Specification).
func StateDir() (string, error) {
	if state := os.Getenv("XDG_STATE_HOME"); filepath.IsAbs(state) { // the specification: relative ones are ignored
		return filepath.Join(state, "nodesmith"), nil
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return "", fault.New(fault.MissingHost, "set XDG_STATE_HOME or HOME", "no state directory: %w", err)
	}
	return filepath.Join(home, ".local", "state", "nodesmith"), nil
}

// PublishDir returns the folder of the journals of publishing.
func PublishDir() (string, error) {
	state, err := StateDir()
	if err != nil {
		return "", err
	}
	return publishDir(state), nil
}

// PublishDir returns the folder of the journals of publishing.
func (s Settings) PublishDir() string { return publishDir(s.StateDir) }

func publishDir(state string) string { return filepath.Join(state, "publish") }

// Govc is what govc's environment says of vCenters.
type Govc struct {
	// Host is the one that it is about; "" for any.
	Host string
	// User is who logs in; nil if it does not say.
	User *url.Userinfo
	// CAs are the paths of certificates that vouch for vCenters.
	CAs []string
	// Persist keeps sessions in files.
	Persist bool
	// Sessions and RESTSessions are where those lie.
	Sessions, RESTSessions string
}

// ReadGovc reads govc's environment (govc's USAGE). GOVC_INSECURE is left out:
// certificates are verified.
func ReadGovc() Govc {
	g := Govc{Persist: os.Getenv("GOVC_PERSIST_SESSION") != "false"}
	if text := os.Getenv("GOVC_URL"); text != "" {
		if !strings.Contains(text, "://") {
			text = "https://" + text
		}
		if u, err := url.Parse(text); err == nil { // else govc would not take it either
			g.Host, g.User = u.Host, u.User
		}
	}
	if name := os.Getenv("GOVC_USERNAME"); name != "" {
		g.User = url.User(name)
	}
	if password := os.Getenv("GOVC_PASSWORD"); password != "" && g.User != nil {
		g.User = url.UserPassword(g.User.Username(), password)
	}
	g.CAs = filepath.SplitList(os.Getenv("GOVC_TLS_CA_CERTS"))
	home := os.Getenv("GOVMOMI_HOME")
	if home == "" {
		if dir, err := os.UserHomeDir(); err == nil {
			home = filepath.Join(dir, ".govmomi")
		}
	}
	g.Sessions, g.RESTSessions = filepath.Join(home, "sessions"), filepath.Join(home, "rest_sessions")
	return g
}
