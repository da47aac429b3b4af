package v1alpha1

import (
	"fmt"
	"io/fs"

	"nodesmith.dev/nodesmith/internal/certificate"
)

// certificateForm describes a CA certificate.
const certificateForm = "exactly one certificate in PEM form, -----BEGIN CERTIFICATE-----"

// maxCertificate bounds what is read of a certificate's file: a hundred times
// of what a large one has.
const maxCertificate = 1 << 20

// certificates checks CA certificates, those in the build context as well.
func (c *checker) certificates(certificates []CACertificate, buildContext fs.FS) {
	seen := map[string]string{}
	for i, ca := range certificates {
		at := fmt.Sprintf("spec.caCertificates[%d]", i)
		if c.matches(at+".name", ca.Name, certificateNameSyntax) {
			c.repeated(seen, at+".name", ca.Name, ca.Name)
		}
		c.certificate(at, ca.Content, ca.Source, buildContext)
	}
}

// certificate checks a certificate that is given as text or as a file of the
// build context.
func (c *checker) certificate(at, content, source string, buildContext fs.FS) {
	field, found, ok := c.contentOrSource(at, content, source, buildContext)
	if !ok {
		return
	}
	ca := CACertificate{Content: content, Source: source}
	if _, err := ca.Read(buildContext); err != nil { // which repeats nothing of the text: it may be a key
		c.add(FieldError{Field: field, Found: found, Problem: err.Error(), Allowed: []string{certificateForm}})
	}
}

// contentOrSource checks that exactly one of an object's content and source is
// there, the latter in the build context. It returns the field that is set and
// what a message calls its value, and whether there is anything to be read.
func (c *checker) contentOrSource(at, content, source string, buildContext fs.FS) (field, found string, ok bool) {
	switch {
	case content != "" && source != "":
		c.add(FieldError{Field: at, Problem: "has both content and source", Allowed: []string{"exactly one of content, source"}})
	case content == "" && source == "":
		c.add(FieldError{Field: at, Problem: "has neither content nor source", Allowed: []string{"exactly one of content, source"}})
	case source != "":
		before := len(c.errs)
		c.source(at+".source", source, buildContext)
		return at + ".source", quote(source), len(c.errs) == before && buildContext != nil
	default:
		return at + ".content", "the content", true
	}
	return "", "", false
}

// Read returns the certificate, from the build context if it has a source.
func (ca CACertificate) Read(buildContext fs.FS) (certificate.CA, error) {
	if ca.Source == "" {
		return certificate.Parse([]byte(ca.Content))
	}
	text, err := readText(buildContext, ca.Source, maxCertificate)
	if err != nil {
		return certificate.CA{}, err
	}
	return certificate.Parse([]byte(text))
}
