package cli

import (
	"cmp"
	"path/filepath"

	"github.com/spf13/cobra"

	"nodesmith.dev/nodesmith/internal/host"
	"nodesmith.dev/nodesmith/internal/rootless"
)

// embeddedEngine is the word for nodesmith's own engine, where the
// configuration names another.
const embeddedEngine = "embedded"

// engineFlags say where steps run; what they leave out the configuration says.
type engineFlags struct{ engine host.Engine }

func (f *engineFlags) register(c *cobra.Command) {
	c.PreRunE = f.enter
	e := &f.engine
	c.Flags().StringVar(&e.Address, "engine", "", "run the steps on the BuildKit at `ADDRESS`: unix://, tcp://, ssh://, docker-container://, kube-pod://; or embedded")
	c.Flags().StringVar(&e.TLS.CA, "engine-tls-ca", "", "PEM `FILE` of who signed the engine's certificate (tcp://)")
	c.Flags().StringVar(&e.TLS.Certificate, "engine-tls-certificate", "", "PEM `FILE` of the certificate to show to the engine")
	c.Flags().StringVar(&e.TLS.Key, "engine-tls-key", "", "PEM `FILE` of that certificate's key")
	c.Flags().StringVar(&e.TLS.ServerName, "engine-tls-server-name", "", "the `NAME` in the engine's certificate, if it is not the address's host")
	c.Flags().StringArrayVar(&e.Cache.From, "cache-from", nil, "import results of steps: `type=registry,ref=REF` or type=local,src=DIR (repeatable)")
	c.Flags().StringArrayVar(&e.Cache.To, "cache-to", nil, "export results of steps: `type=registry,ref=REF` or type=local,dest=DIR (repeatable)")
}

// enter goes on in a user namespace where the steps will run in this process
// and the user is not root.
func (f *engineFlags) enter(c *cobra.Command, _ []string) error {
	if !rootless.Needed() {
		return nil
	}
	settings, err := host.Read()
	if err != nil || f.or(settings.Engine).Address != "" {
		return err
	}
	return rootless.Enter(rootlessDir(settings))
}

// rootlessDir is the runtime directory of users whose session has none.
func rootlessDir(settings host.Settings) string { return filepath.Join(settings.CacheDir, "run") }

// or returns the engine of the flags, else the configured one: an address with
// its own TLS files or none, and each direction of the cache for itself.
func (f engineFlags) or(configured host.Engine) host.Engine {
	engine := configured
	if f.engine.Address != "" {
		engine.Address, engine.TLS = f.engine.Address, host.EngineTLS{}
	}
	if engine.Address == embeddedEngine {
		engine.Address, engine.TLS = "", host.EngineTLS{}
	}
	t := f.engine.TLS
	engine.TLS = host.EngineTLS{
		CA: cmp.Or(t.CA, engine.TLS.CA), Certificate: cmp.Or(t.Certificate, engine.TLS.Certificate),
		Key: cmp.Or(t.Key, engine.TLS.Key), ServerName: cmp.Or(t.ServerName, engine.TLS.ServerName),
	}
	if len(f.engine.Cache.From) > 0 {
		engine.Cache.From = f.engine.Cache.From
	}
	if len(f.engine.Cache.To) > 0 {
		engine.Cache.To = f.engine.Cache.To
	}
	return engine
}
