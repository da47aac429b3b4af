package apply

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"

	"nodesmith.dev/nodesmith/internal/node"
)

// writeTrust adds certificates to the store as the distribution's own tool
// would, which therefore finds nothing to do when it runs on the node.
func (r *run) writeTrust() error {
	trust := r.config.Trust
	if trust.IsZero() {
		return nil
	}
	bundle, err := r.tree.read(trust.Bundle)
	if err != nil {
		return fmt.Errorf("CA certificates (is the package ca-certificates in the image?): %w", err)
	}
	text := string(bundle)
	for _, certificate := range trust.Certificates {
		if err := r.trust(trust, certificate); err != nil {
			return fmt.Errorf("CA certificate %s: %w", certificate.Name, err)
		}
		if !strings.Contains(text, certificate.PEM) {
			text += certificate.PEM
		}
	}
	if text == string(bundle) {
		return nil
	}
	return r.tree.rewrite(trust.Bundle, []byte(text))
}

// trust writes one certificate and the links by which it is found.
func (r *run) trust(trust node.Trust, c node.Certificate) error {
	anchor, named := path.Join(trust.Anchors, c.Name+".crt"), path.Join(trust.Directory, c.Name+".pem")
	if _, err := r.tree.lstat(named); err == nil {
		if to, err := r.linkTarget(named); err != nil || to != anchor {
			return errors.Join(fmt.Errorf("%s is there already; give it another name", named), err)
		}
	}
	if err := r.tree.file(anchor, strings.NewReader(c.PEM), 0, 0, 0o644); err != nil {
		return err
	}
	if err := r.tree.link(named, anchor); err != nil {
		return err
	}
	// Certificates of one subject are told apart by a number; OpenSSL tries them
	// from 0 until one is missing (openssl-rehash(1)).
	for n := 0; ; n++ {
		hashed := path.Join(trust.Directory, fmt.Sprintf("%s.%d", c.SubjectHash, n))
		_, err := r.tree.lstat(hashed)
		if errors.Is(err, fs.ErrNotExist) {
			return r.tree.link(hashed, path.Base(named))
		}
		if err != nil {
			return err
		}
		if to, err := r.linkTarget(hashed); err != nil || to == path.Base(named) {
			return err
		}
	}
}
