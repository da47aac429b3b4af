//go:build linux

package containerimage

import (
	"archive/tar"
	"debug/elf"
	"fmt"
	"path"
	"slices"
	"strings"
)

// triplets are Debian's names of architectures in library directories
// (dpkg-architecture -qDEB_HOST_MULTIARCH).
var triplets = map[elf.Machine]string{
	elf.EM_X86_64:  "x86_64-linux-gnu",
	elf.EM_AARCH64: "aarch64-linux-gnu",
}

// checkProgram checks that glibc's loader will find a program's interpreter
// and every library, those of libraries too, without ld.so.cache: ldconfig can't
// have run for a tree that was only unpacked.
func (fsys fileSystem) checkProgram(program string) error {
	todo, done := []string{program}, map[string]bool{}
	for len(todo) > 0 {
		name := todo[0]
		todo = todo[1:]
		if done[name] {
			continue
		}
		done[name] = true
		needed, err := fsys.needs(name)
		if err != nil {
			return fmt.Errorf("program %s: %w", program, err)
		}
		todo = append(todo, needed...)
	}
	return nil
}

// needs returns the paths of what one ELF file loads. It is an error if one of
// them is not in the layer.
func (fsys fileSystem) needs(name string) ([]string, error) {
	e, err := fsys.resolve(name)
	if err != nil {
		return nil, err
	}
	if len(e.sources) != 1 {
		return nil, fmt.Errorf("%s is not a program", name)
	}
	file, err := elf.Open(e.sources[0])
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	defer file.Close()
	var needed []string
	for _, p := range file.Progs {
		if p.Type != elf.PT_INTERP {
			continue
		}
		interpreter := make([]byte, p.Filesz)
		if _, err := p.ReadAt(interpreter, 0); err != nil {
			return nil, fmt.Errorf("%s: interpreter: %w", name, err)
		}
		loader := strings.TrimRight(string(interpreter), "\x00")
		if _, err := fsys.resolve(loader); err != nil {
			return nil, fmt.Errorf("%s needs the loader %s: %w", name, loader, err)
		}
	}
	libraries, err := file.ImportedLibraries()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	directories := searchDirectories(file, name)
	for _, library := range libraries {
		at := slices.IndexFunc(directories, func(dir string) bool {
			_, err := fsys.resolve(path.Join(dir, library))
			return err == nil
		})
		if at < 0 {
			return nil, fmt.Errorf("%s needs %s, which is in none of %s", name, library, strings.Join(directories, ", "))
		}
		needed = append(needed, path.Join(directories[at], library))
	}
	return needed, nil
}

// searchDirectories returns where the loader looks for the libraries of a file:
// in its run path, and in what Debian's glibc was built with (ld.so(8)).
func searchDirectories(file *elf.File, name string) []string {
	var dirs []string
	for _, tag := range []elf.DynTag{elf.DT_RPATH, elf.DT_RUNPATH} {
		lists, _ := file.DynString(tag) // an error is: there is none
		for _, list := range lists {
			for dir := range strings.SplitSeq(list, ":") {
				dirs = append(dirs, strings.NewReplacer("$ORIGIN", path.Dir(name), "${ORIGIN}", path.Dir(name)).Replace(dir))
			}
		}
	}
	triplet := triplets[file.Machine]
	return append(dirs, "/lib/"+triplet, "/usr/lib/"+triplet, "/lib", "/usr/lib")
}

// maxLinks is how many symbolic links a path may lead through: the kernel's
// MAXSYMLINKS (linux/namei.h).
const maxLinks = 40

// resolve finds the file that a path means inside of the layer.
func (fsys fileSystem) resolve(name string) (*entry, error) {
	links := 0
	done, rest := "", strings.Split(strings.Trim(path.Clean(name), "/"), "/")
	for len(rest) > 0 {
		at := path.Join(done, rest[0])
		rest = rest[1:]
		e, there := fsys[at]
		switch {
		case !there:
			return nil, fmt.Errorf("/%s is not in the layer", at)
		case e.header.Typeflag == tar.TypeLink:
			e = fsys[e.header.Linkname]
		case e.header.Typeflag == tar.TypeSymlink:
			if links++; links > maxLinks {
				return nil, fmt.Errorf("%s: too many symbolic links", name)
			}
			target := e.header.Linkname
			if !path.IsAbs(target) {
				target = path.Join("/", done, target)
			}
			target = path.Join(append([]string{path.Clean(target)}, rest...)...)
			done, rest = "", strings.Split(strings.Trim(target, "/"), "/")
			continue
		}
		if len(rest) == 0 {
			return e, nil
		}
		done = at
	}
	return nil, fmt.Errorf("%s is not a file", name)
}
