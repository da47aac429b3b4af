package faults

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/moby/buildkit/client/llb"
	"github.com/moby/buildkit/solver/pb"

	_ "embed"

	"nodesmith.dev/nodesmith/internal/build/steps"
	"nodesmith.dev/nodesmith/internal/build/tree"
	"nodesmith.dev/nodesmith/internal/bundle"
	"nodesmith.dev/nodesmith/internal/containerimage"
)

// application is what the container image is called in the node's store.
const application = "registry.company.invalid/application:1"

// customize is a script of the spec: owners, modes, links and capabilities, and
// what it takes away of the layers below.
//
//go:embed testdata/customize.sh
var customize string

// node adds to a system what else there is in a node but Kubernetes, as the
// pipeline does: programs and a container store of layers of their own, merged,
// and a script on top.
func (b build) node(ctx context.Context, builder *tree.Builder, inputs *bundle.Store, tools, system llb.State) (llb.State, tree.Kubernetes, error) {
	k, err := b.store(ctx, inputs)
	if err != nil {
		return llb.State{}, k, err
	}
	k.Programs = llb.Scratch().File(llb.Copy(tools, "/usr/bin", "/usr/local/bin", &llb.CopyInfo{
		CopyDirContentsOnly: true, CreateDestPath: true, CreatedTime: &b.Lock.Epoch, IncludePatterns: []string{"xz"},
	}), llb.WithCustomName("tiny: place programs"))
	node, err := builder.Scripts(ctx, builder.Merge(system, k), b.Lock.Epoch, tree.Script{Name: "customize", Point: "final", Text: customize})
	return node, k, err
}

// store returns a Kubernetes that is a containerd store with the application's image.
func (b build) store(ctx context.Context, inputs *bundle.Store) (k tree.Kubernetes, err error) {
	archive, err := applicationArchive()
	if err != nil {
		return k, err
	}
	step, err := steps.Program("images")
	if err != nil {
		return k, err
	}
	config, err := json.Marshal(containerimage.Config{
		Output: "/out", Whiteouts: "/record/" + tree.WhiteoutsFile, Architecture: b.Lock.Architecture, Archives: []containerimage.Archive{{Path: "/archive/image.tar", Name: application}},
	})
	if err != nil {
		return k, err
	}
	options := []llb.RunOption{
		llb.Args([]string{"/program/step", "store", "/config/config.json"}), llb.Network(pb.NetMode_NONE),
		llb.AddEnv("SOURCE_DATE_EPOCH", fmt.Sprint(b.Lock.Epoch.Unix())), llb.WithCustomName("tiny: container images"),
	}
	for dir, file := range map[string]bundle.File{
		"program": step,
		"config":  {Name: "config.json", Mode: 0o644, Data: config},
		"archive": {Name: "image.tar", Mode: 0o644, Data: archive},
	} {
		content, err := inputs.Content(ctx, "container images: "+dir, file)
		if err != nil {
			return k, err
		}
		options = append(options, llb.AddMount("/"+dir, content, llb.Readonly))
	}
	exec := llb.Scratch().Run(options...)
	k.Images, k.Whiteouts = exec.AddMount("/out", llb.Scratch()), exec.AddMount("/record", llb.Scratch())
	return k, nil
}

// pingCapability is cap_net_raw+ep as the kernel keeps it (struct vfs_cap_data,
// revision 2).
const pingCapability = "\x01\x00\x00\x02\x00\x20\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"

// applicationArchive is an image of two layers as `docker save` writes it: the
// second one takes away what the first one has.
func applicationArchive() ([]byte, error) {
	image := mutate.MediaType(empty.Image, "application/vnd.docker.distribution.manifest.v2+json")
	for _, layer := range [][]tar.Header{
		{
			{Typeflag: tar.TypeDir, Name: "app/", Mode: 0o755},
			{Typeflag: tar.TypeDir, Name: "app/old/", Mode: 0o1777, Uid: 1000, Gid: 1000},
			{Typeflag: tar.TypeReg, Name: "app/old/file", Mode: 0o644, Uid: 65534, Gid: 65534},
			{Typeflag: tar.TypeReg, Name: "app/ping", Mode: 0o4755, PAXRecords: map[string]string{"SCHILY.xattr.security.capability": pingCapability}},
			{Typeflag: tar.TypeLink, Name: "app/link", Linkname: "app/ping"},
			{Typeflag: tar.TypeReg, Name: "app/gone", Mode: 0o600, Uid: 60000},
		},
		{
			{Typeflag: tar.TypeReg, Name: "app/.wh.gone"},
			{Typeflag: tar.TypeReg, Name: "app/old/.wh..wh..opq"},
			{Typeflag: tar.TypeSymlink, Name: "app/new", Linkname: "ping"},
		},
	} {
		text, err := tarOf(layer)
		if err != nil {
			return nil, err
		}
		made, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(text)), nil })
		if err != nil {
			return nil, err
		}
		if image, err = mutate.AppendLayers(image, made); err != nil {
			return nil, err
		}
	}
	config, err := image.ConfigFile()
	if err != nil {
		return nil, err
	}
	config.OS, config.Architecture = "linux", "amd64"
	if image, err = mutate.ConfigFile(image, config); err != nil {
		return nil, err
	}
	tag, err := name.NewTag(application)
	if err != nil {
		return nil, err
	}
	var archive bytes.Buffer
	err = tarball.Write(tag, image, &archive)
	return archive.Bytes(), err
}

// tarOf writes files that hold their names.
func tarOf(headers []tar.Header) ([]byte, error) {
	var text bytes.Buffer
	w := tar.NewWriter(&text)
	for _, h := range headers {
		content := ""
		if h.Typeflag == tar.TypeReg && !strings.Contains(h.Name, ".wh.") {
			content = h.Name
		}
		h.Size = int64(len(content))
		if err := w.WriteHeader(&h); err != nil {
			return nil, err
		}
		if _, err := io.WriteString(w, content); err != nil {
			return nil, err
		}
	}
	err := w.Close()
	return text.Bytes(), err
}
