package v1alpha1

import (
	_ "embed"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Kubelet is what kubelets on nodes of the image start with. What a cluster
// says with kubeadm comes from elsewhere; see each field for which of the two
// wins.
type Kubelet struct {
	// ExtraArgs are flags of kubelet, one each. They win over every file, and
	// over what kubeadm passes.
	ExtraArgs []string `json:"extraArgs,omitempty"`
	// Config are fields of kubelet's KubeletConfiguration (kubelet.config.k8s.io/v1beta1).
	// They are a drop-in in /etc/kubernetes/kubelet.conf.d, which kubelet reads
	// after the file that kubeadm writes: where both set a field, the image
	// wins; a list is replaced whole. Fields that kubeadm has to decide can't be
	// set. It needs Kubernetes v1.30.
	Config Settings `json:"config,omitempty"`
}

const (
	// KubeletConfigDirectory is where the node's kubelet finds drop-ins.
	KubeletConfigDirectory = "/etc/kubernetes/kubelet.conf.d"
	// KubeletConfigFile is the drop-in that Kubelet.Config is written to.
	KubeletConfigFile = KubeletConfigDirectory + "/50-nodesmith.conf"
)

// kubeletFields are the fields of KubeletConfiguration in Kubernetes v1.34 to
// v1.37 (config/v1beta1/types.go of k8s.io/kubelet), one a line. Kubelet passes
// over any other field of a drop-in.
//
//go:embed kubelet-fields.txt
var kubeletFields string

// kubeadmFields are those that kubeadm sets so that node and cluster fit
// (cmd/kubeadm/app/componentconfigs/kubelet.go).
var kubeadmFields = []string{
	"authentication", "authorization", "cgroupDriver", "clusterDNS", "clusterDomain", "containerRuntimeEndpoint",
	"healthzBindAddress", "healthzPort", "readOnlyPort", "resolvConf", "rotateCertificates", "staticPodPath",
}

// kubeadmFlags are the flags that kubeadm's own files pass, or that differ from
// node to node.
var kubeadmFlags = []string{
	"--bootstrap-kubeconfig", "--cgroup-driver", "--cluster-dns", "--cluster-domain", "--config", "--config-dir",
	"--container-runtime-endpoint", "--hostname-override", "--kubeconfig", "--node-ip", "--pod-infra-container-image", "--provider-id",
}

// kubelet checks what kubelets start with.
func (c *checker) kubelet(kubelet Kubelet) {
	seen := map[string]string{}
	for i, argument := range kubelet.ExtraArgs {
		at := fmt.Sprintf("spec.kubelet.extraArgs[%d]", i)
		if !c.matches(at, argument, kubeletFlagSyntax) {
			continue
		}
		flag, _, _ := strings.Cut(argument, "=")
		if slices.Contains(kubeadmFlags, flag) {
			c.add(FieldError{Field: at, Found: flag, Problem: "is not the image's to say: kubeadm passes it, or it differs from node to node", Allowed: []string{"other flags; kubeadm's kubeletExtraArgs in the cluster"}})
			continue
		}
		c.repeated(seen, at, flag, flag)
	}
	fields := append(strings.Fields(kubeletFields), "apiVersion", "kind")
	for _, name := range slices.Sorted(maps.Keys(kubelet.Config)) {
		bad := FieldError{Field: "spec.kubelet.config." + name, onKey: true}
		switch {
		case !slices.Contains(fields, name):
			bad.Problem, bad.Suggestion = "is not a field of KubeletConfiguration", nearest(name, fields)
		case slices.Contains(kubeadmFields, name):
			bad.Problem, bad.Allowed = "is kubeadm's to say, so that node and cluster fit", []string{"in the cluster's KubeletConfiguration"}
		case name == "apiVersion" && kubelet.Config[name] != "kubelet.config.k8s.io/v1beta1", name == "kind" && kubelet.Config[name] != "KubeletConfiguration":
			bad.Problem, bad.Allowed = "is filled in", []string{"kubelet.config.k8s.io/v1beta1, KubeletConfiguration, or neither"}
		default:
			continue
		}
		c.add(bad)
	}
	if len(kubelet.Config) > 0 {
		c.claim("spec.kubelet.config", KubeletConfigFile, aFile)
	}
}
