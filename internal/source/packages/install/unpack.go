package install

import (
	"archive/tar"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"nodesmith.dev/nodesmith/internal/deb"
	"nodesmith.dev/nodesmith/internal/source/packages/step"
)

// UnpackConfig is the input of Unpack.
type UnpackConfig struct {
	step.UnpackConfig
	// Ground are those of the packages whose files are there whatever becomes of
	// them: it takes them to run dpkg.
	Ground []string `json:"ground"`
}

// Unpack makes the tree that dpkg's --unpack would leave, with dpkg's records, but
// several packages at once, and without what scripts do before (preinst), for which
// see runPreinst. Left to dpkg are packages that have a file in common, for which it
// knows rules (Replaces, diversions), and some that it takes a newer or an older dpkg
// to record as it would. Ground packages left to it are in the tree without a record.
func Unpack(ctx context.Context, config UnpackConfig, epoch time.Time) error {
	tree, err := config.Open(epoch)
	if err != nil {
		return err
	}
	defer tree.Close()
	unpacking := &unpacking{Tree: tree, config: config, owners: map[string]*unpacked{}, folders: map[string]*unpacked{}}
	// The largest first, so that no core waits long for the last one.
	largest := slices.Clone(config.Packages)
	sizes := map[string]int64{}
	for _, name := range largest {
		info, err := os.Stat(filepath.Join(config.From, name))
		if err != nil {
			return err
		}
		sizes[name] = info.Size()
	}
	slices.SortStableFunc(largest, func(a, b string) int { return cmp.Compare(sizes[b], sizes[a]) })
	if err := tree.Each(ctx, largest, unpacking.unpack); err != nil {
		return err
	}
	records, err := unpacking.records()
	if err != nil {
		return err
	}
	if err := writeDatabase(tree.Root, records, epoch); err != nil {
		return err
	}
	if err := tree.SetTimes(epoch); err != nil {
		return err
	}
	fmt.Printf("unpacked %d packages, of which %d with what dpkg records of them\n", len(config.Packages), len(records))
	return nil
}

// unpacking is packages being unpacked.
type unpacking struct {
	*step.Tree
	config UnpackConfig

	mu       sync.Mutex
	packages []*unpacked
	owners   map[string]*unpacked // of files and links, by their path in the tree
	folders  map[string]*unpacked // one of each folder's
}

// unpacked is a package whose files were written.
type unpacked struct {
	*record
	file   string
	ground bool
	// left says that dpkg has to unpack it.
	left    bool
	written []string // files and links
}

func (u *unpacking) unpack(ctx context.Context, name string) error {
	record, err := readRecord(ctx, filepath.Join(u.config.From, name))
	if err != nil {
		return err
	}
	p := &unpacked{file: name, record: record, ground: slices.Contains(u.config.Ground, name), left: record.forDpkg}
	if p.left && !p.ground {
		return nil
	}
	u.mu.Lock()
	u.packages = append(u.packages, p)
	u.mu.Unlock()
	return u.Unpack(ctx, name, func(header *tar.Header, leftOut bool) error {
		record.note(header)
		if !leftOut {
			u.claim(p, header)
		}
		return nil
	})
}

// claim notes whose a path is. Packages that have a path in common which is not a
// directory of both are left to dpkg.
func (u *unpacking) claim(p *unpacked, header *tar.Header) {
	name := u.merged(deb.InTree(header.Name))
	if _, link := u.config.Links[name]; link {
		return // is there before any package, and stays
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	others, mine := []map[string]*unpacked{u.owners}, u.folders
	if header.Typeflag != tar.TypeDir {
		p.written = append(p.written, name)
		others, mine = append(others, u.folders), u.owners
	}
	for _, known := range others {
		if other := known[name]; other != nil && other != p {
			fmt.Printf("%s and %s are left to dpkg: /%s is of both\n", other.name, p.name, name)
			other.left, p.left = true, true
		}
	}
	if mine[name] == nil || !mine[name].ground {
		mine[name] = p
	}
}

// merged returns where a path leads through the links of the top directory.
func (u *unpacking) merged(name string) string {
	first, rest, below := strings.Cut(name, "/")
	if target, link := u.config.Links[first]; link && below {
		return path.Join(target, rest)
	}
	return name
}

// records returns those of the packages that are not left to dpkg, in the order of
// the configuration, and removes what others wrote: dpkg would ask whose it is.
func (u *unpacking) records() ([]*record, error) {
	slices.SortFunc(u.packages, func(a, b *unpacked) int {
		return slices.Index(u.config.Packages, a.file) - slices.Index(u.config.Packages, b.file)
	})
	var records []*record
	for _, p := range u.packages {
		switch {
		case !p.left:
			records = append(records, p.record)
		case !p.ground:
			for _, name := range p.written {
				if u.owners[name].ground {
					continue
				}
				if err := u.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
					return nil, err
				}
			}
		}
	}
	return records, nil
}
