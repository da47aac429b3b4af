// Package pipeline knows the order of the stages: lock, build, export.
//
// What comes in is a validated NodeImage; what goes out is a lock, or image
// files in a folder. It holds no logic of any stage. A command line, a web page
// or an operator drives it in the same way.
package pipeline

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"

	"nodesmith.dev/nodesmith/internal/build/tree"
	"nodesmith.dev/nodesmith/internal/bundle"
	"nodesmith.dev/nodesmith/internal/engine"
	"nodesmith.dev/nodesmith/internal/fault"
	"nodesmith.dev/nodesmith/internal/fetch"
	"nodesmith.dev/nodesmith/internal/format/ova"
	"nodesmith.dev/nodesmith/internal/goproxy"
	"nodesmith.dev/nodesmith/internal/host"
	"nodesmith.dev/nodesmith/internal/housekeeping"
	"nodesmith.dev/nodesmith/internal/progress"
	"nodesmith.dev/nodesmith/internal/source/gomodules"
)

// Options are what a pipeline is given from outside.
type Options struct {
	Settings host.Settings
	// Progress takes what happens, one event after the other; nil for nothing.
	Progress func(progress.Event)
	// OVASigner signs the manifests of OVAs; nil for none.
	OVASigner *ova.Signer
	// Version is nodesmith's own, for the image's release file.
	Version string
}

// Pipeline is an engine with its caches. Close ends it.
type Pipeline struct {
	options Options
	lease   *housekeeping.Lease
	tidy    func() // after everything is closed
	engine  *engine.Engine
	cache   *fetch.Cache
	builder *tree.Builder
	inputs  *bundle.Store
	record  *progress.Recorder

	lockBytes int64 // length of the lock that was built from last
}

// Open makes a pipeline on the engine that the settings name, or on that of the
// cache directory, which starts when something needs it.
func Open(ctx context.Context, options Options) (_ *Pipeline, err error) {
	settings := options.Settings
	if err := os.MkdirAll(settings.CacheDir, 0o755); err != nil {
		if err = fault.NoSpaceOr(err); fault.KindOf(err) == fault.NoSpace {
			return nil, err
		}
		return nil, fault.New(fault.MissingHost, "set XDG_CACHE_HOME to a folder that can be written to", "cache directory: %w", err)
	}
	record := progress.NewRecorder(progress.Options{StageOf: tree.StageOf, Emit: options.Progress})
	lease, err := housekeeping.Use(ctx, settings.CacheDir, record.Message)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, lease.Close())
		}
	}()
	inputs, err := bundle.Open(filepath.Join(settings.CacheDir, "inputs"))
	if err != nil {
		return nil, err
	}
	e, err := engine.Open(ctx, engine.Options{
		Root: housekeeping.EngineDir(settings.CacheDir), MaxBytes: int64(settings.Bounds.Engine), Remote: remote(settings.Engine), Cache: engine.Cache(settings.Engine.Cache),
		Inputs: inputs.Blobs, Log: record.Message, Observe: record.Add,
	})
	if err != nil {
		return nil, err
	}
	p := &Pipeline{
		options: options,
		lease:   lease,
		tidy:    func() { housekeeping.Tidy(ctx, settings, record.Message) },
		engine:  e,
		inputs:  inputs,
		record:  record,
		cache:   fetch.New(filepath.Join(settings.CacheDir, "downloads"), settings.Mirrors),
	}
	p.builder = p.builderOn(inputs)
	return p, nil
}

// builderOn returns a builder whose bundles come from inputs.
func (p *Pipeline) builderOn(inputs tree.Inputs) *tree.Builder {
	return tree.New(p.engine, inputs, p.cache, p.modules, filepath.Join(p.options.Settings.CacheDir, "images"), p.record)
}

// modules says where Go modules come from: the go command is asked, which a build
// that downloads none of them has no need of.
func (p *Pipeline) modules(ctx context.Context) (gomodules.Config, error) {
	settings := p.options.Settings
	golang, err := settings.Go(ctx)
	return gomodules.Config{
		Proxy: goproxy.Config{
			Proxy: golang.Proxy, SumDB: golang.SumDB, NoSumDB: golang.NoSumDB,
			Dir: filepath.Join(settings.CacheDir, "go"),
		},
		Env: settings.Network,
		Log: p.record.Message,
	}, err
}

// history is how long steps took.
func (p *Pipeline) history() *progress.History {
	return progress.OpenHistory(filepath.Join(p.options.Settings.StateDir, "steps.json"))
}

// remote is the engine that the settings name.
func remote(s host.Engine) engine.Remote {
	return engine.Remote{Address: s.Address, TLS: engine.TLS(s.TLS)}
}

// Steps returns what was done since Open: in the engine, and beside it.
func (p *Pipeline) Steps() []progress.Step {
	return slices.Concat(p.record.Steps(), p.record.Work())
}

// Close ends the engine and everything that it runs, notes how long the steps took
// that ran, also those of a build that failed, and brings the caches within their
// bounds if that is due.
func (p *Pipeline) Close() error {
	err := errors.Join(p.engine.Close(), p.lease.Close())
	if failed := p.history().Add(p.Steps()); failed != nil {
		p.record.Message("plan will not know how long steps took: %v", failed)
	}
	if !p.engine.Failed() {
		p.tidy()
	}
	return err
}
