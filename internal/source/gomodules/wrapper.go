package gomodules

import (
	"fmt"
	"slices"
	"strings"

	"golang.org/x/mod/modfile"
	"golang.org/x/mod/module"
	"golang.org/x/mod/semver"
)

// wrapper returns the go.mod of an empty main module, named after component,
// that requires the given modules and builds them as their own repository does.
//
// The go command obeys go, godebug, replace and exclude lines only in the main
// module, so those of upstreams (the go.mod files of requires, in this order)
// move here. Replacements by a directory of upstream's repository are dropped,
// because the requirement beside them names the published version, except those
// in Kubernetes' staging directory: they become the version staging.
func wrapper(component string, requires []module.Version, upstreams []*modfile.File, staging string) (string, error) {
	f := new(modfile.File)
	if err := f.AddModuleStmt("nodesmith.dev/build/" + component); err != nil {
		return "", err
	}
	if err := f.AddGoStmt(goVersion(upstreams)); err != nil {
		return "", err
	}
	for _, m := range requires {
		f.AddNewRequire(m.Path, m.Version, false)
	}
	for i, up := range upstreams {
		if i == 0 { // one main module has one set of defaults
			for _, g := range up.Godebug {
				if err := f.AddGodebug(g.Key, g.Value); err != nil {
					return "", err
				}
			}
		}
		for _, x := range up.Exclude {
			if err := f.AddExclude(x.Mod.Path, x.Mod.Version); err != nil {
				return "", err
			}
		}
		for _, r := range up.Replace {
			to, ok, err := replacement(r, staging)
			if err != nil {
				return "", err
			}
			if !ok {
				continue
			}
			if err := f.AddReplace(r.Old.Path, r.Old.Version, to.Path, to.Version); err != nil {
				return "", err
			}
		}
	}
	f.SortBlocks()
	f.Cleanup()
	text, err := f.Format()
	return string(text), err
}

// replacement translates a replace line; ok is false for one to be dropped.
func replacement(r *modfile.Replace, staging string) (to module.Version, ok bool, err error) {
	if r.New.Version != "" {
		return r.New, true, nil
	}
	if !strings.HasPrefix(r.New.Path, "./staging/src/") {
		return module.Version{}, false, nil
	}
	if staging == "" || r.New.Path != "./staging/src/"+r.Old.Path {
		return module.Version{}, false, fmt.Errorf("replacement of %s by %s: not a module of Kubernetes' staging directory", r.Old.Path, r.New.Path)
	}
	return module.Version{Path: r.Old.Path, Version: staging}, true, nil
}

// goVersion is the newest of the go lines.
func goVersion(files []*modfile.File) string {
	versions := []string{"1.21"} // the first whose go line is binding
	for _, f := range files {
		if f.Go != nil {
			versions = append(versions, f.Go.Version)
		}
	}
	return slices.MaxFunc(versions, func(a, b string) int {
		return semver.Compare(goSemver(a), goSemver(b))
	})
}

// goSemver writes a Go version (1.24, 1.24.0, 1.25rc1) as a semantic one.
func goSemver(v string) string {
	for _, pre := range []string{"rc", "beta"} {
		if release, n, ok := strings.Cut(v, pre); ok {
			return "v" + release + ".0-" + pre + "." + n
		}
	}
	return "v" + v
}
