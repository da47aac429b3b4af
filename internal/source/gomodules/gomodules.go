// Package gomodules is the Kubernetes source that compiles everything from Go
// modules.
//
// What comes in is a Kubernetes version; what goes out is, from Lock, the list
// of every module that is compiled, by checksum, and, from Fetch, those modules
// in directories that the build engine can serve to the go command. Both are
// deterministic: the same versions give the same lock and the same directories,
// whatever proxy serves them. Both can be interrupted and go on from there, and
// several processes may share the cache directory.
package gomodules

import (
	"nodesmith.dev/nodesmith/internal/goproxy"
)

// Config says where modules come from and where they are kept.
type Config struct {
	// Proxy is the module proxy, the checksum database and the cache directory.
	Proxy goproxy.Config
	// Env are variables ("HTTPS_PROXY=...") for the go command that Lock runs,
	// among those that NetworkVariables names; it gets no other variable of
	// this process.
	Env []string
	// Log takes a line for each thing that takes a while; nil for none.
	Log func(format string, args ...any)
}

// NetworkVariables names the variables that decide how the go command reaches a
// proxy. The package that reads the environment copies them into Config.Env.
func NetworkVariables() []string {
	return []string{
		"HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "NO_PROXY", "no_proxy", // net/http
		"SSL_CERT_FILE", "SSL_CERT_DIR", // crypto/x509
		"NETRC", "GOAUTH", // credentials of a proxy
	}
}

// logf is cfg.Log, if there is one.
func (cfg Config) logf(format string, args ...any) {
	if cfg.Log != nil {
		cfg.Log(format, args...)
	}
}

// jobs is how many downloads run at once: enough to hide the latency of a
// proxy, few enough not to be taken for an attack.
const jobs = 8
