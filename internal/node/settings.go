package node

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"nodesmith.dev/nodesmith/internal/fault"
)

// timeSource is how a distribution's time daemon is told its servers.
type timeSource struct {
	// config is the file that names the distribution's own servers, on lines
	// that match own.
	config, own string
	// servers is a file that the daemon reads besides, with a line for each
	// server as in entry.
	servers, entry string
	// layer is that of the assets that make the daemon read servers, where it
	// does not by itself.
	layer string
}

// timeSources holds the time daemons of distributions: chrony.conf(5) has the
// directives pool, server and peer; "sourcedir /etc/chrony/sources.d" reads
// *.sources.
var timeSources = map[string]timeSource{
	"chrony": {
		config: "/etc/chrony/chrony.conf", own: `^\s*(pool|server|peer)\s`,
		servers: "/etc/chrony/sources.d/nodesmith.sources", entry: "server %s iburst\n",
	},
	"chrony 3": {
		config: "/etc/chrony/chrony.conf", own: `^\s*(pool|server|peer)\s`,
		servers: "/etc/chrony/sources.d/nodesmith.sources", entry: "server %s iburst\n", layer: "chrony-3",
	},
}

// TimeServers returns the configuration of a node with that daemon that takes
// the time from these servers alone; an empty one for none, which leaves the
// distribution's servers.
func TimeServers(daemon string, servers []string) (Config, error) {
	if len(servers) == 0 {
		return Config{}, nil
	}
	source, ok := timeSources[daemon]
	if !ok {
		return Config{}, fault.New(fault.BadSpec, "", "no time daemon %q is known; there are: %s",
			daemon, strings.Join(slices.Sorted(maps.Keys(timeSources)), ", "))
	}
	var lines strings.Builder
	for _, server := range servers {
		if strings.ContainsAny(server, " \t\r\n") || server == "" {
			return Config{}, fault.New(fault.BadSpec, "", "time server %q is neither a name nor an address", server)
		}
		fmt.Fprintf(&lines, source.entry, server)
	}
	c := Config{
		Cuts:  []Cut{{Path: source.config, Lines: source.own}},
		Files: []File{{Path: source.servers, Content: lines.String()}},
	}
	if source.layer == "" {
		return c, nil
	}
	files, err := layerFiles(source.layer, Params{})
	return c.With(Config{Files: files}), err
}

// trusts holds each distribution family's store of CA certificates; Debian's is
// that of update-ca-certificates(8).
var trusts = map[string]Trust{
	"debian": {
		Anchors: "/usr/local/share/ca-certificates", Directory: "/etc/ssl/certs", Bundle: "/etc/ssl/certs/ca-certificates.crt",
	},
}

// TrustIn returns the configuration of a node of that family that trusts these
// certificates besides the distribution's; an empty one for none.
func TrustIn(family string, certificates []Certificate) (Config, error) {
	if len(certificates) == 0 {
		return Config{}, nil
	}
	trust, ok := trusts[family]
	if !ok {
		return Config{}, fault.New(fault.BadSpec, "", "no store of CA certificates is known for distribution family %q; there are: %s",
			family, strings.Join(slices.Sorted(maps.Keys(trusts)), ", "))
	}
	trust.Certificates = certificates
	return Config{Trust: trust}, nil
}
