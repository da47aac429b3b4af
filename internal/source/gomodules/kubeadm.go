package gomodules

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"regexp"
	"strconv"
	"strings"

	"golang.org/x/mod/semver"

	"nodesmith.dev/nodesmith/internal/golang"
	"nodesmith.dev/nodesmith/internal/lock"
)

// constantsFile is where kubeadm keeps the versions that it deploys.
const constantsFile = "cmd/kubeadm/app/constants/constants.go"

// registry is kubeadm's default image repository
// (cmd/kubeadm/app/apis/kubeadm/v1beta4/defaults.go, DefaultImageRepository).
const registry = "registry.k8s.io"

// addons are the versions that a kubeadm deploys with a control plane, as image tags.
type addons struct {
	etcd    string // 3.6.4-0
	coreDNS string // v1.12.1
	pause   string // 3.10.1
}

// parseConstants reads the add-on versions for Kubernetes 1.minor from the
// source of kubeadm's constants package.
func parseConstants(src []byte, minor int) (addons, error) {
	file, err := parser.ParseFile(token.NewFileSet(), constantsFile, src, parser.SkipObjectResolution)
	if err != nil {
		return addons{}, fmt.Errorf("kubeadm's constants: %w", err)
	}
	values := make(map[string]string)
	supportedEtcd := make(map[int]string)
	for _, decl := range file.Decls {
		gen, ok := decl.(*ast.GenDecl)
		if !ok {
			continue
		}
		for _, spec := range gen.Specs {
			vs, ok := spec.(*ast.ValueSpec)
			if !ok || len(vs.Names) != 1 || len(vs.Values) != 1 {
				continue
			}
			switch v := vs.Values[0].(type) {
			case *ast.BasicLit:
				if s, ok := stringValue(v); ok {
					values[vs.Names[0].Name] = s
				}
			case *ast.CompositeLit:
				if vs.Names[0].Name == "SupportedEtcdVersion" {
					readSupported(v, supportedEtcd)
				}
			}
		}
	}
	a := addons{etcd: values["DefaultEtcdVersion"], coreDNS: values["CoreDNSVersion"], pause: values["PauseVersion"]}
	// kubeadm takes etcd's version from this map first (images.GetEtcdImageTag).
	if v := supportedEtcd[minor]; v != "" {
		a.etcd = v
	}
	return a, a.check()
}

// readSupported reads a map literal from minor versions to image tags.
func readSupported(lit *ast.CompositeLit, into map[int]string) {
	for _, e := range lit.Elts {
		kv, ok := e.(*ast.KeyValueExpr)
		if !ok {
			continue
		}
		key, ok := kv.Key.(*ast.BasicLit)
		if !ok || key.Kind != token.INT {
			continue
		}
		minor, err := strconv.Atoi(key.Value)
		if err != nil {
			continue
		}
		if s, ok := stringValue(kv.Value); ok {
			into[minor] = s
		}
	}
}

func stringValue(e ast.Expr) (string, bool) {
	lit, ok := e.(*ast.BasicLit)
	if !ok || lit.Kind != token.STRING {
		return "", false
	}
	s, err := strconv.Unquote(lit.Value)
	return s, err == nil
}

// tag is what an image tag may be (OCI distribution specification, "Pulling manifests").
var tag = regexp.MustCompile(`^[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}$`)

func (a addons) check() error {
	for _, v := range []struct{ name, value string }{
		{"DefaultEtcdVersion", a.etcd}, {"CoreDNSVersion", a.coreDNS}, {"PauseVersion", a.pause},
	} {
		if !tag.MatchString(v.value) {
			return fmt.Errorf("kubeadm's constants: %s is %q, which is no version", v.name, v.value)
		}
	}
	if v := a.etcdModule(); !semver.IsValid(v) {
		return fmt.Errorf("kubeadm's constants: etcd %q is no version", a.etcd)
	}
	if !semver.IsValid(a.coreDNS) {
		return fmt.Errorf("kubeadm's constants: CoreDNS %q is no version", a.coreDNS)
	}
	return nil
}

// etcdModule is etcd's module version. What follows the dash in the tag counts
// rebuilds of the image.
func (a addons) etcdModule() string {
	version, _, _ := strings.Cut(a.etcd, "-")
	return "v" + version
}

// images is what "kubeadm config images list" prints, in its order
// (cmd/kubeadm/app/images/images.go, GetControlPlaneImages).
func (a addons) images(version string) []lock.ContainerImage {
	return []lock.ContainerImage{
		{Name: registry + "/kube-apiserver:" + version, Component: "kube-apiserver"},
		{Name: registry + "/kube-controller-manager:" + version, Component: "kube-controller-manager"},
		{Name: registry + "/kube-scheduler:" + version, Component: "kube-scheduler"},
		{Name: registry + "/kube-proxy:" + version, Component: "kube-proxy"},
		{Name: registry + "/coredns/coredns:" + a.coreDNS, Component: golang.CoreDNS},
		{Name: registry + "/pause:" + a.pause, Component: golang.Pause},
		{Name: registry + "/etcd:" + a.etcd, Component: golang.Etcd},
	}
}
