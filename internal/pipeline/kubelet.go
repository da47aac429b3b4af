package pipeline

import (
	"fmt"
	"maps"

	"sigs.k8s.io/yaml"

	"nodesmith.dev/nodesmith/api/v1alpha1"
	"nodesmith.dev/nodesmith/internal/fault"
	"nodesmith.dev/nodesmith/internal/kubernetes"
	"nodesmith.dev/nodesmith/internal/node"
)

// kubelet returns what the spec says about kubelet.
func (n nodeInputs) kubelet(row kubernetes.Release) (node.Config, error) {
	kubelet := n.image.Spec.Kubelet
	config, err := node.KubeletArguments(n.release.Family, kubelet.ExtraArgs)
	if err != nil || len(kubelet.Config) == 0 {
		return config, err
	}
	if !row.KubeletConfigDir() {
		return config, fault.New(fault.BadSpec, "leave spec.kubelet.config out, or take Kubernetes v1.30 or newer",
			"spec.kubelet.config: kubelet %s does not read drop-ins", n.lock.Kubernetes.Version)
	}
	fields := v1alpha1.Settings{}
	maps.Copy(fields, kubelet.Config)
	fields["apiVersion"], fields["kind"] = "kubelet.config.k8s.io/v1beta1", "KubeletConfiguration"
	text, err := yaml.Marshal(fields)
	if err != nil {
		return config, fmt.Errorf("spec.kubelet.config: %w", err)
	}
	dropIn, err := node.KubeletDropIn(v1alpha1.KubeletConfigFile, string(text))
	return config.With(dropIn), err
}
