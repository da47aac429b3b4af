package cli

import (
	"os"

	"github.com/spf13/cobra"

	"nodesmith.dev/nodesmith/internal/fault"
	"nodesmith.dev/nodesmith/internal/format/ova"
	"nodesmith.dev/nodesmith/internal/host"
)

// signingFlags name the files that OVAs are signed with.
type signingFlags struct{ host.OVASigning }

func (f *signingFlags) register(c *cobra.Command) {
	c.Flags().StringVar(&f.Key, "ova-sign-key", "", "RSA key (PEM `FILE`) to sign the OVA's manifest with")
	c.Flags().StringVar(&f.Certificate, "ova-sign-certificate", "", "the key's certificate (PEM `FILE`)")
}

// or returns what the configuration says where no flag was given.
func (f signingFlags) or(configured host.OVASigning) signingFlags {
	if f.Key == "" && f.Certificate == "" {
		return signingFlags{configured}
	}
	return f
}

// configured is the signer of the flags, or of the configuration where none was given.
func (f signingFlags) configured() (*ova.Signer, error) {
	if f != (signingFlags{}) {
		return f.signer()
	}
	settings, err := host.Read()
	if err != nil {
		return nil, err
	}
	return f.or(settings.OVASigning).signer()
}

// signer reads the files; it is nil without any.
func (f signingFlags) signer() (*ova.Signer, error) {
	if (f.Key == "") != (f.Certificate == "") {
		return nil, fault.New(fault.Usage, "give both --ova-sign-key and --ova-sign-certificate, or ovaSigning.key and ovaSigning.certificate in the configuration",
			"an OVA's signing key and its certificate go together")
	}
	if f.Key == "" {
		return nil, nil
	}
	key, err := os.ReadFile(f.Key)
	if err != nil {
		return nil, fault.New(fault.Usage, "", "key to sign OVAs with: %w", err)
	}
	certificate, err := os.ReadFile(f.Certificate)
	if err != nil {
		return nil, fault.New(fault.Usage, "", "certificate to sign OVAs with: %w", err)
	}
	signer, err := ova.NewSigner(key, certificate)
	if err != nil {
		return nil, fault.New(fault.Usage, "", "%s and %s: %w", f.Key, f.Certificate, err)
	}
	return signer, nil
}
