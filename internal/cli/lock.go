package cli

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"

	"github.com/spf13/cobra"

	"nodesmith.dev/nodesmith/api/v1alpha1"
	"nodesmith.dev/nodesmith/internal/fault"
	"nodesmith.dev/nodesmith/internal/lock"
	"nodesmith.dev/nodesmith/internal/pipeline"
)

// foundLock is what lookForLock found.
type foundLock struct {
	lock  *lock.Lock // nil if none fits
	stale *lock.Lock // the first that does not, if none does
	path  string     // of either, else of where it would be
}

// lookForLock looks for a lock that fits the image in one folder after the other.
// That there is none is an error if one is required.
func lookForLock(image *v1alpha1.NodeImage, required bool, dirs ...string) (foundLock, error) {
	found := foundLock{path: filepath.Join(dirs[0], pipeline.LockName(image))}
	for _, dir := range dirs {
		path := filepath.Join(dir, pipeline.LockName(image))
		l, err := lock.Read(path)
		switch {
		case errors.Is(err, fs.ErrNotExist):
		case err != nil:
			return found, err
		case pipeline.Fits(l, image):
			return foundLock{lock: l, path: path}, nil
		case found.stale == nil:
			found = foundLock{stale: l, path: path}
		}
	}
	switch {
	case !required:
		return found, nil
	case found.stale != nil:
		return found, fault.New(fault.BadSpec, "run nodesmith lock --keep, review the change and build again", "--locked: %s was made for other inputs than the NodeImage now has", found.path)
	}
	return found, fault.New(fault.BadSpec, "run nodesmith lock first", "--locked: there is no %s", found.path)
}

// locking is what the flags of lock say.
type locking struct {
	specFlags
	progress progressFlag
	engine   engineFlags
	output   string
	keep     bool
	keepFrom string
}

func lockCommand(s streams) *cobra.Command {
	var l locking
	c := &cobra.Command{
		Use: "lock -f FILE", Short: "Write the lock: every input of an image, by digest", Args: noArguments,
		Long: `Resolve every input of an image (packages, Go modules, the Go toolchain, the
build's own tools) to what the archives and the Go proxy offer now, verify it,
and write the list, NAME.lock.yaml, beside the NodeImage.

With --keep, what the lock that is there says of a part that the NodeImage asks for
as before (the operating system, its packages with the infrastructures' on top,
container images, Kubernetes) stays, and so do the build's tools. With --keep-from
it is another image's lock, so that both have these parts in common.`,
		Example: `  nodesmith lock -f examples/debian-12.yaml
  nodesmith lock -f examples/debian-12.yaml --keep --set spec.packages=[strace]
  nodesmith lock -f examples/debian-12.yaml --keep-from debian-12.lock.yaml \
      --set metadata.name=next --set spec.kubernetes.version=v1.35.0`,
		RunE: l.progress.told(s, func(c *cobra.Command, _ []string) error { return l.run(c, s) }),
	}
	l.register(c)
	l.progress.register(c)
	l.engine.register(c)
	c.Flags().StringVarP(&l.output, "output", "o", "", "the `DIR` that receives the lock (default: the NodeImage's)")
	c.Flags().BoolVar(&l.keep, "keep", false, "keep what the NodeImage asks for as before")
	c.Flags().StringVar(&l.keepFrom, "keep-from", "", "keep what the NodeImage asks for as `LOCK` was asked for")
	c.MarkFlagsMutuallyExclusive("keep", "keep-from")
	return c
}

// earlier returns the lock of which parts stay, or nil.
func (l *locking) earlier(image *v1alpha1.NodeImage) (*lock.Lock, error) {
	switch {
	case l.keepFrom != "":
		earlier, err := lock.Read(l.keepFrom)
		if err != nil {
			return nil, fault.New(fault.BadSpec, "name a lock that nodesmith lock wrote", "--keep-from: %w", err)
		}
		return earlier, nil
	case l.keep:
		found, err := lookForLock(image, false, l.output)
		return cmp.Or(found.lock, found.stale), err
	}
	return nil, nil
}

func (l *locking) run(c *cobra.Command, s streams) (err error) {
	spec, err := l.read(c.InOrStdin())
	if err != nil {
		return err
	}
	defer closing(&err, spec)
	if l.output == "" {
		l.output = spec.dir
	}
	earlier, err := l.earlier(spec.image)
	if err != nil {
		return err
	}
	if err := makeFolder(l.output); err != nil {
		return err
	}
	p, err := open(c.Context(), spec.image, l.progress, l.engine, nil, s)
	if err != nil {
		return err
	}
	defer closing(&err, p)
	locked, err := p.Lock(c.Context(), spec.image, spec.context(), earlier)
	if err != nil {
		return err
	}
	path := filepath.Join(l.output, pipeline.LockName(spec.image))
	if err := locked.Write(path); err != nil {
		return err
	}
	p.display.Close()
	if l.progress.mode != progressJSON {
		fmt.Fprintf(s.err, "\nLocked %d packages of the OS, %d of the spec, %d of the tools; %d components with %d Go modules\n",
			len(locked.OS.Packages), len(locked.Packages.Packages), len(locked.Tools.Packages)+len(locked.Compiler.Packages), len(locked.Kubernetes.Components), locked.Kubernetes.Modules())
	}
	_, err = fmt.Fprintln(s.out, path)
	return err
}
