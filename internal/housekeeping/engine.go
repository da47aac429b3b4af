package housekeeping

import (
	"context"
	"errors"
	"os"
	"path/filepath"

	"nodesmith.dev/nodesmith/internal/engine"
	"nodesmith.dev/nodesmith/internal/fault"
)

// EngineDir is where a cache directory has the state of nodesmith's own engine.
func EngineDir(cacheDir string) string { return filepath.Join(cacheDir, "engine") }

// engineKinds are those that the build engine keeps and measures. Where there is
// none to ask, a note says so.
func engineKinds(ctx context.Context, o Options) (_ []Kind, err error) {
	bounds, dir := o.Settings.Bounds, EngineDir(o.Settings.CacheDir)
	all := Kind{
		Name: "engine", Path: dir, Bound: int64(bounds.Engine),
		Policy: "results of steps not used for longest go first, disks before all others",
	}
	compile := Kind{
		Name: compileKind, Path: dir, Bound: int64(bounds.Compile),
		Policy: "part of engine: Go drops what it did not use for days; all of it goes when it is too large",
	}
	if _, err := os.Stat(dir); errors.Is(err, os.ErrNotExist) {
		return []Kind{all, compile}, nil
	}
	e, err := engine.Open(ctx, engine.Options{Root: dir, MaxBytes: int64(bounds.Engine), Log: o.Log})
	if fault.KindOf(err) == fault.MissingHost {
		all.Note, compile.Note = "not measured: "+err.Error(), "not measured"
		return []Kind{all, compile}, nil
	}
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, e.Close()) }()
	usage, err := e.Usage(ctx)
	if err != nil {
		return nil, err
	}
	all.Bytes, compile.Bytes = usage.Total, usage.Compile
	if o.Look {
		if compile.Bytes > compile.Bound {
			compile.Freed = compile.Bytes
		}
		all.Freed = min(max(all.Bytes-all.Bound, compile.Freed), all.Bytes-usage.InUse)
		return []Kind{all, compile}, nil
	}
	if compile.Bytes > compile.Bound {
		if compile.Freed, err = e.DropCompileCaches(ctx); err != nil {
			return nil, err
		}
	}
	all.Freed = compile.Freed
	if all.Bytes-all.Freed > all.Bound {
		freed, err := e.Trim(ctx, all.Bound)
		all.Freed += freed
		if err != nil {
			return nil, err
		}
	}
	return []Kind{all, compile}, nil
}
