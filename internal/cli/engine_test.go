package cli

import (
	"reflect"
	"testing"

	"nodesmith.dev/nodesmith/internal/host"
)

func TestFlagsOfTheEngineStandBeforeItsConfiguration(t *testing.T) {
	configured := host.Engine{
		Address: "tcp://builder:1234", TLS: host.EngineTLS{CA: "/ca.pem"},
		Cache: host.EngineCache{From: []string{"type=local,src=/a"}, To: []string{"type=local,dest=/a"}},
	}
	for name, test := range map[string]struct{ flags, want host.Engine }{
		"no flags": {host.Engine{}, configured},
		"another address brings no TLS": {
			host.Engine{Address: "unix:///x"}, host.Engine{Address: "unix:///x", Cache: configured.Cache},
		},
		"back to nodesmith's own": {host.Engine{Address: "embedded"}, host.Engine{Cache: configured.Cache}},
		"one file more": {
			host.Engine{TLS: host.EngineTLS{ServerName: "b"}},
			host.Engine{Address: configured.Address, TLS: host.EngineTLS{CA: "/ca.pem", ServerName: "b"}, Cache: configured.Cache},
		},
		"another cache to import": {
			host.Engine{Cache: host.EngineCache{From: []string{"type=registry,ref=r"}}},
			host.Engine{Address: configured.Address, TLS: configured.TLS, Cache: host.EngineCache{From: []string{"type=registry,ref=r"}, To: configured.Cache.To}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			if got := (engineFlags{test.flags}).or(configured); !reflect.DeepEqual(got, test.want) {
				t.Errorf("%+v, want %+v", got, test.want)
			}
		})
	}
}
