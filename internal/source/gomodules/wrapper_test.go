package gomodules

import (
	"testing"

	"golang.org/x/mod/modfile"
	"golang.org/x/mod/module"
)

func parseMod(t *testing.T, text string) *modfile.File {
	t.Helper()
	f, err := modfile.Parse("go.mod", []byte(text), nil)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func TestWrapperTakesOverWhatOnlyAMainModuleDecides(t *testing.T) {
	for _, tc := range []struct {
		name      string
		requires  []module.Version
		upstreams []string
		staging   string
		want      string
	}{
		{
			name:     "kubernetes",
			requires: []module.Version{{Path: "k8s.io/kubernetes", Version: "v1.34.0"}},
			upstreams: []string{`module k8s.io/kubernetes

go 1.24.0

godebug default=go1.24

require k8s.io/api v0.0.0

replace (
	k8s.io/api => ./staging/src/k8s.io/api
	k8s.io/client-go => ./staging/src/k8s.io/client-go
	example.com/fork v1.0.0 => example.com/ours v1.0.1
)
`},
			staging: "v0.34.0",
			want: `module nodesmith.dev/build/kubernetes

go 1.24.0

require k8s.io/kubernetes v1.34.0

godebug default=go1.24

replace k8s.io/api => k8s.io/api v0.34.0

replace k8s.io/client-go => k8s.io/client-go v0.34.0

replace example.com/fork v1.0.0 => example.com/ours v1.0.1
`,
		},
		{
			name: "etcd",
			requires: []module.Version{
				{Path: "go.etcd.io/etcd/server/v3", Version: "v3.6.4"}, {Path: "go.etcd.io/etcd/etcdctl/v3", Version: "v3.6.4"},
			},
			upstreams: []string{
				"module go.etcd.io/etcd/server/v3\n\ngo 1.23.0\n\ntoolchain go1.23.11\n\nreplace go.etcd.io/etcd/api/v3 => ../api\n\nreplace go.etcd.io/etcd => ./FORBIDDEN_DEPENDENCY\n",
				"module go.etcd.io/etcd/etcdctl/v3\n\ngo 1.24\n\nreplace go.etcd.io/etcd/pkg/v3 => ../pkg\n",
			},
			want: `module nodesmith.dev/build/etcd

go 1.24

require (
	go.etcd.io/etcd/etcdctl/v3 v3.6.4
	go.etcd.io/etcd/server/v3 v3.6.4
)
`,
		},
		{
			name:     "containerd",
			requires: []module.Version{{Path: "github.com/containerd/containerd/v2", Version: "v2.1.4"}},
			upstreams: []string{`module github.com/containerd/containerd/v2

go 1.23.0

exclude github.com/davecgh/go-spew v1.1.2-0.20180830191138-d8f796af33cc
`},
			want: `module nodesmith.dev/build/containerd

go 1.23.0

require github.com/containerd/containerd/v2 v2.1.4

exclude github.com/davecgh/go-spew v1.1.2-0.20180830191138-d8f796af33cc
`,
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var upstreams []*modfile.File
			for _, u := range tc.upstreams {
				upstreams = append(upstreams, parseMod(t, u))
			}
			got, err := wrapper(tc.name, tc.requires, upstreams, tc.staging)
			if err != nil {
				t.Fatal(err)
			}
			if got != tc.want {
				t.Errorf("got\n%s\nwant\n%s", got, tc.want)
			}
		})
	}
}

func TestStagingReplacementsMustBeWhatTheySeem(t *testing.T) {
	for _, line := range []string{
		"replace k8s.io/api => ./staging/src/k8s.io/apimachinery",
		"replace k8s.io/api => ./staging/src/../../evil",
	} {
		f := parseMod(t, "module k8s.io/kubernetes\n\n"+line+"\n")
		if got, err := wrapper("kubernetes", nil, []*modfile.File{f}, "v0.34.0"); err == nil {
			t.Errorf("%s: accepted:\n%s", line, got)
		}
	}
}

func TestTheNewestGoLineWins(t *testing.T) {
	for want, lines := range map[string][]string{
		"1.24.2":  {"1.23.0", "1.24.2", "1.24.0"},
		"1.24":    {"1.24", "1.23.11"},
		"1.25rc1": {"1.24.9", "1.25rc1"},
		"1.25.0":  {"1.25rc1", "1.25.0"},
		"1.21":    {},
	} {
		var files []*modfile.File
		for _, l := range lines {
			files = append(files, parseMod(t, "module m\n\ngo "+l+"\n"))
		}
		if got := goVersion(files); got != want {
			t.Errorf("of %q: %s, want %s", lines, got, want)
		}
	}
}
