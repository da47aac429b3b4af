package pipeline

import (
	"context"
	"io/fs"

	"github.com/moby/buildkit/client/llb"

	"nodesmith.dev/nodesmith/api/v1alpha1"
	"nodesmith.dev/nodesmith/internal/build/tree"
	"nodesmith.dev/nodesmith/internal/distro"
	"nodesmith.dev/nodesmith/internal/fault"
	"nodesmith.dev/nodesmith/internal/kubernetes"
	"nodesmith.dev/nodesmith/internal/lock"
	"nodesmith.dev/nodesmith/internal/node"
)

// node returns the configured tree of one infrastructure, with the spec's
// scripts run before and after.
func (p *Pipeline) node(ctx context.Context, n nodeInputs, merged llb.State, buildContext fs.FS) (llb.State, error) {
	row, err := kubernetes.Lookup(n.lock.Kubernetes.Version)
	if err != nil {
		return llb.State{}, err
	}
	values := n.values(row)
	config, files, err := n.config(buildContext)
	if err != nil {
		return llb.State{}, err
	}
	merged, err = p.scripts(ctx, n.image, v1alpha1.AfterKubernetes, merged, n.lock, shared(values), buildContext)
	if err != nil {
		return llb.State{}, err
	}
	root, err := p.builder.Node(ctx, merged, config, files, n.lock)
	if err != nil || len(n.image.Spec.At(v1alpha1.Final)) == 0 {
		return root, err
	}
	root, err = p.scripts(ctx, n.image, v1alpha1.Final, root, n.lock, values, buildContext)
	if err != nil {
		return llb.State{}, err
	}
	return p.builder.Seal(ctx, root, config, n.lock)
}

// scripts returns the tree as the scripts of one point leave it.
func (p *Pipeline) scripts(ctx context.Context, image *v1alpha1.NodeImage, point string, root llb.State, l *lock.Lock, values v1alpha1.Values, buildContext fs.FS) (llb.State, error) {
	var scripts []tree.Script
	for _, s := range image.Spec.At(point) {
		text, err := s.Text(buildContext)
		if err != nil {
			return llb.State{}, fault.New(fault.BadSpec, "", "spec.scripts: %s %w", s.Name, err)
		}
		scripts = append(scripts, tree.Script{Name: s.Name, Point: point, Text: text, Environment: values.Environment()})
	}
	return p.builder.Scripts(ctx, root, l.Epoch, scripts...)
}

// osValues are the values that hold before there is a Kubernetes in the tree.
func osValues(image *v1alpha1.NodeImage, release distro.Release) v1alpha1.Values {
	return v1alpha1.Values{
		OSDistro: release.Distro, OSVersion: release.Version, OSCodename: release.Codename, Architecture: image.Spec.Architecture,
	}
}

// shared leaves out what tells images of one tree apart.
func shared(values v1alpha1.Values) v1alpha1.Values {
	values.Image, values.Infrastructure = "", ""
	return values
}

// values are what templates and scripts of the spec are told.
func (n nodeInputs) values(row kubernetes.Release) v1alpha1.Values {
	values := osValues(n.image, n.release)
	values.KubernetesVersion, values.ContainerdVersion, values.PauseImage = n.lock.Kubernetes.Version, row.Containerd, n.sandboxImage()
	values.Image, values.Infrastructure = n.image.Metadata.Name, n.infrastructure.Name
	return values
}

// firstBootConfig returns what runs the spec's scripts at a node's first boot.
func firstBootConfig(spec v1alpha1.Spec, values v1alpha1.Values, buildContext fs.FS) (node.Config, error) {
	var scripts []node.FirstBootScript
	for _, s := range spec.At(v1alpha1.FirstBoot) {
		text, err := s.Text(buildContext)
		if err != nil {
			return node.Config{}, fault.New(fault.BadSpec, "", "spec.scripts: %s %w", s.Name, err)
		}
		scripts = append(scripts, node.FirstBootScript{
			Name: s.Name, Unit: s.UnitName(), Text: text,
			Script: v1alpha1.FirstBootScripts + "/" + s.Name, Mark: v1alpha1.FirstBootMarks + "/" + s.Name,
		})
	}
	return node.FirstBoot(scripts, values.Environment())
}
