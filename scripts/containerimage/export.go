package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/google/renameio/v2"
	"github.com/moby/buildkit/client"
	"github.com/moby/buildkit/client/llb"
	"github.com/moby/buildkit/exporter/containerimage/exptypes"
	gateway "github.com/moby/buildkit/frontend/gateway/client"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"

	"nodesmith.dev/nodesmith/internal/bundle"
)

// export writes a tree as a container image.
type export struct {
	socket string // of the engine
	inputs *bundle.Store
	epoch  time.Time // of all files and of the image
	name   string
}

// configuration is how a container of the image runs.
func (e export) configuration() ocispecs.Image {
	return ocispecs.Image{
		Created:  &e.epoch,
		Platform: ocispecs.Platform{OS: "linux", Architecture: "amd64"},
		Config: ocispecs.ImageConfig{
			Entrypoint: []string{"/usr/local/bin/nodesmith"},
			Env: []string{
				"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
				"XDG_CACHE_HOME=/cache", "XDG_DATA_HOME=/data", "XDG_STATE_HOME=/data",
			},
			Volumes:    map[string]struct{}{"/cache": {}, "/data": {}},
			WorkingDir: "/work",
		},
	}
}

// write writes the image to a file, which gets its name when it is whole.
func (e export) write(ctx context.Context, state llb.State, path string) (err error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	file, err := renameio.NewPendingFile(path, renameio.WithPermissions(0o644))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, file.Cleanup()) }()
	c, err := client.New(ctx, "unix://"+e.socket)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.Close()) }()
	definition, err := state.Marshal(ctx, llb.LinuxAmd64)
	if err != nil {
		return err
	}
	options := client.SolveOpt{
		OCIStores: map[string]content.Store{bundle.StoreID: e.inputs.Blobs},
		Exports: []client.ExportEntry{{
			Type: client.ExporterDocker,
			Attrs: map[string]string{
				string(exptypes.OptKeyName): e.name, string(exptypes.OptKeySourceDateEpoch): fmt.Sprint(e.epoch.Unix()),
				string(exptypes.OptKeyRewriteTimestamp): "true",
			},
			Output: func(map[string]string) (io.WriteCloser, error) { return open{file}, nil },
		}},
	}
	if _, err := c.Build(ctx, options, "nodesmith", e.solve(definition), nil); err != nil {
		return fmt.Errorf("writing the image: %w", err)
	}
	return file.CloseAtomicallyReplace()
}

// solve returns the tree with the image's configuration.
func (e export) solve(definition *llb.Definition) gateway.BuildFunc {
	return func(ctx context.Context, c gateway.Client) (*gateway.Result, error) {
		result, err := c.Solve(ctx, gateway.SolveRequest{Definition: definition.ToPB(), Evaluate: true})
		if err != nil {
			return nil, err
		}
		config, err := json.Marshal(e.configuration())
		if err != nil {
			return nil, err
		}
		result.AddMeta(exptypes.ExporterImageConfigKey, config)
		return result, nil
	}
}

// open leaves the end of a file to who made it.
type open struct{ io.Writer }

func (open) Close() error { return nil }
