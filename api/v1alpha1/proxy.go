package v1alpha1

import (
	"slices"
	"strings"
)

// Proxy is how the build, and if it is asked for the node, reach the network.
type Proxy struct {
	// HTTPProxy is the proxy for http URLs. It holds no credentials: those that
	// only the build needs belong in the environment's HTTP_PROXY.
	HTTPProxy string `json:"httpProxy,omitempty"`
	// HTTPSProxy is the proxy for https URLs, itself an http or https URL
	// without credentials.
	HTTPSProxy string `json:"httpsProxy,omitempty"`
	// NoProxy are hosts, domains (.example.com), addresses and networks that are
	// reached without the proxy. If the proxy is in the image, the API server
	// and the pods' and services' networks have to be among them.
	NoProxy []string `json:"noProxy,omitempty"`
	// UsedBy says who uses the proxy: build for downloads, on a machine whose
	// environment names no proxy; node for containerd and kubelet, as drop-ins
	// of their units, while other services, logins and pods see nothing of it.
	// Without it the proxy is the build's alone and does not enter the image.
	UsedBy []string `json:"usedBy,omitempty"`
}

// Environment returns the variables that programs read for their proxy.
func (p Proxy) Environment() []string {
	var environment []string
	for _, variable := range []struct{ name, value string }{
		{"HTTP_PROXY", p.HTTPProxy}, {"HTTPS_PROXY", p.HTTPSProxy}, {"NO_PROXY", strings.Join(p.NoProxy, ",")},
	} {
		if variable.value != "" {
			environment = append(environment, variable.name+"="+variable.value)
		}
	}
	return environment
}

// proxyForm describes a proxy's URL.
const proxyForm = "an http or https URL without credentials, such as http://proxy.example.com:3128"

// proxy checks the proxy.
func (c *checker) proxy(proxy Proxy) {
	if proxy.HTTPProxy != "" {
		c.url("spec.proxy.httpProxy", proxy.HTTPProxy, proxyForm)
	}
	if proxy.HTTPSProxy != "" {
		c.url("spec.proxy.httpsProxy", proxy.HTTPSProxy, proxyForm)
	}
	for at, host := range c.unique("spec.proxy.noProxy", proxy.NoProxy) {
		c.matches(at, host, noProxySyntax)
	}
	if none := proxy.HTTPProxy == "" && proxy.HTTPSProxy == ""; none && (len(proxy.NoProxy) > 0 || len(proxy.UsedBy) > 0) {
		c.add(FieldError{Field: "spec.proxy", Problem: "names no proxy", Allowed: []string{"httpProxy, httpsProxy or both"}})
	}
	for at, user := range c.unique("spec.proxy.usedBy", proxy.UsedBy) {
		c.oneOf(at, user, "does not use proxies", proxyUsers)
	}
	for _, path := range proxy.DropIns() {
		c.claim("spec.proxy.usedBy", path, aFile)
	}
}

// Who uses a proxy.
const (
	proxyBuild = "build"
	proxyNode  = "node"
)

// proxyUsers are the values of Proxy.UsedBy.
var proxyUsers = []string{proxyBuild, proxyNode}

// Building says whether the build uses the proxy.
func (p Proxy) Building() bool {
	return len(p.UsedBy) == 0 || slices.Contains(p.UsedBy, proxyBuild)
}

// DropIns are the paths of the drop-ins by which the node uses the proxy; none
// if it does not.
func (p Proxy) DropIns() []string {
	if !slices.Contains(p.UsedBy, proxyNode) {
		return nil
	}
	const dropIn = ".d/http-proxy.conf"
	return []string{UnitDirectory + "/containerd.service" + dropIn, UnitDirectory + "/kubelet.service" + dropIn}
}
