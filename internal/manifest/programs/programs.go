// Package programs reads, inside the build engine, what Go programs say of
// their own making.
//
// What comes in are directories of compiled programs, one for each component;
// what goes out is a JSON list of what their build information says (package
// debug/buildinfo): no list of what was meant to go in, but what did.
package programs

import (
	"context"
	"crypto/sha256"
	"debug/buildinfo"
	"debug/elf"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"time"
)

// Config is the input of Read.
type Config struct {
	// Components maps a component's name to the directory of its programs.
	Components map[string]string `json:"components"`
	Out        string            `json:"out"` // file that receives the list
}

// Program is what one program says of itself.
type Program struct {
	Name      string   `json:"name"`
	Component string   `json:"component"`
	SHA256    string   `json:"sha256"`            // hex, of the file
	Module    string   `json:"module,omitempty"`  // the main package's
	Version   string   `json:"version,omitempty"` // of that module
	Go        string   `json:"go,omitempty"`      // the toolchain's version
	Modules   []Module `json:"modules,omitempty"`
}

// Module is a Go module in a program.
type Module struct {
	Path    string `json:"path"`
	Version string `json:"version"`
	Sum     string `json:"sum,omitempty"`
	// Replaces is the path of the module that it stands in for.
	Replaces string `json:"replaces,omitempty"`
}

// Read writes the list of all programs, by component and name. Of one that Go
// did not make (pause is C) it says no more than its digest.
func Read(ctx context.Context, config Config, _ time.Time) error {
	list := []Program{}
	for _, component := range slices.Sorted(maps.Keys(config.Components)) {
		dir := config.Components[component]
		entries, err := os.ReadDir(dir)
		if err != nil {
			return err
		}
		for _, entry := range entries {
			if err := context.Cause(ctx); err != nil {
				return err
			}
			if !entry.Type().IsRegular() {
				continue
			}
			program, err := read(filepath.Join(dir, entry.Name()))
			if err != nil {
				return fmt.Errorf("%s: %w", component, err)
			}
			program.Component = component
			list = append(list, program)
		}
	}
	text, err := json.MarshalIndent(list, "", "  ")
	if err != nil {
		return err
	}
	fmt.Printf("%d programs\n", len(list))
	return os.WriteFile(config.Out, text, 0o644)
}

// read reads one program.
func read(path string) (Program, error) {
	file, err := os.Open(path)
	if err != nil {
		return Program{}, err
	}
	defer file.Close()
	hash := sha256.New()
	if _, err := io.Copy(hash, file); err != nil {
		return Program{}, err
	}
	program := Program{Name: filepath.Base(path), SHA256: hex.EncodeToString(hash.Sum(nil))}
	info, err := buildinfo.Read(file)
	if err != nil {
		if _, elfErr := elf.NewFile(file); elfErr != nil {
			return Program{}, fmt.Errorf("%s is no program: %w", path, elfErr)
		}
		return program, nil
	}
	program.Go, program.Module, program.Version = info.GoVersion, info.Main.Path, info.Main.Version
	for _, dependency := range info.Deps {
		program.Modules = append(program.Modules, moduleOf(dependency))
	}
	return program, nil
}

// moduleOf returns the module whose code a dependency is.
func moduleOf(dependency *debug.Module) Module {
	if replacement := dependency.Replace; replacement != nil {
		return Module{Path: replacement.Path, Version: replacement.Version, Sum: replacement.Sum, Replaces: dependency.Path}
	}
	return Module{Path: dependency.Path, Version: dependency.Version, Sum: dependency.Sum}
}
