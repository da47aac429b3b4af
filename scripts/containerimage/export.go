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

	"github.com/google/renameio/v2"
	"github.com/moby/buildkit/client"
	"github.com/moby/buildkit/client/llb"
	"github.com/moby/buildkit/exporter/containerimage/exptypes"
	gateway "github.com/moby/buildkit/frontend/gateway/client"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"

	"nodesmith.dev/nodesmith/internal/engine"
)

// export writes a tree as a container image.
type export struct {
	epoch time.Time // of all files and of the image
	name  string
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
func (e export) write(ctx context.Context, on *engine.Engine, state llb.State, path string) (err error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	file, err := renameio.NewPendingFile(path, renameio.WithPermissions(0o644))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, file.Cleanup()) }()
	definition, err := state.Marshal(ctx, llb.LinuxAmd64)
	if err != nil {
		return err
	}
	exports := []client.ExportEntry{{
		Type: client.ExporterDocker,
		Attrs: map[string]string{
			string(exptypes.OptKeyName): e.name, string(exptypes.OptKeySourceDateEpoch): fmt.Sprint(e.epoch.Unix()),
			string(exptypes.OptKeyRewriteTimestamp): "true",
		},
		Output: func(map[string]string) (io.WriteCloser, error) {
			_, err := file.Seek(0, io.SeekStart)
			return open{file}, errors.Join(err, file.Truncate(0)) // of what an engine wrote that went away
		},
	}}
	if err := on.Build(ctx, "container image", exports, e.solve(definition)); err != nil {
		return err
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
