package pipeline

import (
	"fmt"
	"strings"

	"nodesmith.dev/nodesmith/api/v1alpha1"
	"nodesmith.dev/nodesmith/internal/distro"
	"nodesmith.dev/nodesmith/internal/distro/known"
	"nodesmith.dev/nodesmith/internal/fault"
	"nodesmith.dev/nodesmith/internal/golang"
	"nodesmith.dev/nodesmith/internal/host"
	"nodesmith.dev/nodesmith/internal/infra"
	"nodesmith.dev/nodesmith/internal/kubernetes"
	"nodesmith.dev/nodesmith/internal/lock"
)

// Setting is a value that a build goes by and that no spec holds.
type Setting struct {
	Name, Value string
	Origin      SettingOrigin
	// Where says which row of a table, or which part of the machine.
	Where string
}

// SettingOrigin is what decides a setting.
type SettingOrigin string

// The origins.
const (
	FromDistribution   SettingOrigin = "distribution"
	FromInfrastructure SettingOrigin = "infrastructure"
	FromReleaseTable   SettingOrigin = "release table"
	FromLock           SettingOrigin = "lock"
	FromMachine        SettingOrigin = "machine"
)

// settings is a list under way.
type settings []Setting

func (s *settings) add(origin SettingOrigin, where, name string, values ...string) {
	if value := strings.Join(values, " "); value != "" {
		*s = append(*s, Setting{name, value, origin, where})
	}
}

// Effective lists what follows from the image, by tables, and from the lock (nil
// for none): the settings that a build goes by beside the spec's own values.
func Effective(image *v1alpha1.NodeImage, l *lock.Lock) ([]Setting, error) {
	spec := image.Spec
	release, ok := known.Release(spec.OS.Distro, spec.OS.Version, spec.Architecture)
	if !ok {
		return nil, fault.New(fault.BadSpec, "", "no %s %s for %s", spec.OS.Distro, spec.OS.Version, spec.Architecture)
	}
	row, err := kubernetes.Lookup(spec.Kubernetes.Version)
	if err != nil {
		return nil, err
	}
	var s settings
	s.ofRelease(spec, release)
	s.ofKubernetes(row)
	for _, name := range spec.Infrastructures {
		infrastructure, ok := infra.Find(name)
		if !ok {
			return nil, fault.New(fault.BadSpec, "", "no infrastructure %q", name)
		}
		if err := s.ofInfrastructure(spec, release, infrastructure); err != nil {
			return nil, err
		}
	}
	if l != nil {
		s.ofLock(l)
	}
	return s, nil
}

func (s *settings) ofRelease(spec v1alpha1.Spec, release distro.Release) {
	where := release.Title + " " + release.Version
	s.add(FromDistribution, where, "os.codename", release.Codename)
	if len(spec.Source.OS.Packages.Archives) == 0 {
		for i, a := range release.Archives {
			s.add(FromDistribution, where, fmt.Sprintf("os.archives[%d]", i), append([]string{a.URL, a.Suite}, a.Components...)...)
		}
	}
	s.add(FromDistribution, where, "os.packages", release.Packages...)
	s.add(FromDistribution, where, "os.kernelArguments", release.KernelArguments...)
	s.add(FromDistribution, where, "os.timeDaemon", release.TimeDaemon)
}

func (s *settings) ofKubernetes(row kubernetes.Release) {
	where := fmt.Sprintf("Kubernetes 1.%d", row.Minor)
	for _, v := range []struct{ name, value string }{
		{"containerd", row.Containerd}, {"runc", row.Runc}, {"cniPlugins", row.CNIPlugins}, {"crictl", row.CRITools},
		{"pause", row.Pause}, {"kubeadmAPI", row.KubeadmAPI}, {"containerdConfig", fmt.Sprint(row.ContainerdConfig)},
	} {
		s.add(FromReleaseTable, where, "kubernetes."+v.name, v.value)
	}
}

func (s *settings) ofInfrastructure(spec v1alpha1.Spec, release distro.Release, i infra.Infrastructure) error {
	name := "infrastructures[" + i.Name + "]."
	s.add(FromInfrastructure, i.Name, name+"format", i.Format)
	s.add(FromInfrastructure, i.Name, name+"kernelArguments", i.KernelArguments...)
	if len(spec.NTPServers) == 0 {
		s.add(FromInfrastructure, i.Name, name+"timeServers", i.TimeServers...)
	}
	install, err := software(release, i.Name)
	s.add(FromInfrastructure, i.Name, name+"packages", install...)
	return err
}

func (s *settings) ofLock(l *lock.Lock) {
	s.add(FromLock, l.Kubernetes.Toolchain.Path, "lock.goToolchain", l.Kubernetes.Toolchain.Version)
	for _, c := range l.Kubernetes.Components {
		if c.Name != golang.Kubernetes { // the spec says that
			s.add(FromLock, c.Module, "lock.components["+c.Name+"]", c.Version)
		}
	}
	s.add(FromLock, "the newest of the archives", "lock.epoch", l.Epoch.UTC().Format("2006-01-02T15:04:05Z"))
	s.add(FromLock, "", "lock.osPackages", fmt.Sprint(len(l.OS.Packages)))
	for _, image := range l.ContainerImages {
		s.add(FromLock, image.Name, "lock.containerImages["+image.Name+"]", image.Digest)
	}
}

// OfMachine lists the settings of this machine that a build goes by, for values of
// host.Effective.
func OfMachine(values []host.Value) []Setting {
	var s settings
	for _, v := range values {
		s.add(FromMachine, v.Origin, v.Name, v.Value)
	}
	return s
}
