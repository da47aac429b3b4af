package pipeline

import (
	"nodesmith.dev/nodesmith/api/v1alpha1"
	"nodesmith.dev/nodesmith/internal/node"
)

// proxyConfig returns the drop-ins for a proxy that the node uses.
func proxyConfig(proxy v1alpha1.Proxy) (node.Config, error) {
	return node.Proxied(proxy.DropIns(), proxy.Environment())
}
