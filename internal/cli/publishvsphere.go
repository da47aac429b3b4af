package cli

import (
	"context"
	"crypto/x509"
	"io/fs"
	"os"

	"nodesmith.dev/nodesmith/api/v1alpha1"
	"nodesmith.dev/nodesmith/internal/fault"
	"nodesmith.dev/nodesmith/internal/host"
	"nodesmith.dev/nodesmith/internal/publish"
	"nodesmith.dev/nodesmith/internal/publish/vsphere"
)

// publishers make the publishers of a section's targets, by infrastructure. The
// build context is where the spec's files are.
var publishers = map[string]func(ctx context.Context, spec v1alpha1.PublishSpec, buildContext fs.FS) ([]publish.Publisher, error){
	"aws":     awsPublishers,
	"azure":   azurePublishers,
	"vsphere": vspherePublishers,
}

func vspherePublishers(_ context.Context, spec v1alpha1.PublishSpec, buildContext fs.FS) ([]publish.Publisher, error) {
	govc := host.ReadGovc()
	var all []publish.Publisher
	for _, target := range spec.VSphere {
		access := vsphere.Access{Persist: govc.Persist, SessionsDir: govc.Sessions, RESTSessionsDir: govc.RESTSessions}
		// A password is for the vCenter that GOVC_URL names, and for no other.
		if govc.Host == "" || govc.Host == target.Server || govc.Host == target.Server+":443" || govc.Host+":443" == target.Server {
			access.User = govc.User
		}
		var err error
		if access.CAs, err = vsphereCAs(govc.CAs, target.CA, buildContext); err != nil {
			return nil, err
		}
		all = append(all, vsphere.New(target, access))
	}
	return all, nil
}

// vsphereCAs are the certificates that vouch for a vCenter's; nil for the
// system's alone.
func vsphereCAs(paths []string, ca v1alpha1.TargetCA, buildContext fs.FS) (*x509.CertPool, error) {
	if len(paths) == 0 && ca == (v1alpha1.TargetCA{}) {
		return nil, nil
	}
	pool := x509.NewCertPool()
	if ca != (v1alpha1.TargetCA{}) {
		read, err := ca.Read(buildContext)
		if err != nil {
			return nil, fault.New(fault.BadSpec, "", "ca: %w", err)
		}
		pool.AppendCertsFromPEM([]byte(read.PEM))
		return pool, nil
	}
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if err != nil {
			return nil, fault.New(fault.Usage, "", "GOVC_TLS_CA_CERTS: %w", err)
		}
		if !pool.AppendCertsFromPEM(text) {
			return nil, fault.New(fault.Usage, "", "GOVC_TLS_CA_CERTS: %s has no certificate in PEM form", path)
		}
	}
	return pool, nil
}
