// Package diff says in what two images differ.
//
// What comes in are two disks, as what a format's reader or the store makes of
// them, or two manifests; what goes out is a Report: what the images say of
// themselves (packages, units, kernel arguments, container images, ...), their
// partitions, their files with everything that a file has, and how many blocks
// of the disks differ. Equal means that the disks are the same byte by byte.
// Nothing is mounted or run, and the images may be hostile or made by others.
// Both disks are read once from front to back, holes left out; after that only
// what lies in differing blocks is read again. Memory does not grow with the
// disks but with the number of differences, and has a bound.
package diff

import (
	"context"
	"fmt"

	"nodesmith.dev/nodesmith/internal/contract"
	"nodesmith.dev/nodesmith/internal/format"
	"nodesmith.dev/nodesmith/internal/imagefs"
)

// APIVersion and ReportKind are those of a Report's JSON form.
const (
	APIVersion = "nodesmith.dev/diff/v1alpha1"
	ReportKind = "DiffReport"
)

// Disk is one of the two sides.
type Disk struct {
	Name string // for messages
	format.Source
}

// Report is how b differs from a.
type Report struct {
	APIVersion string `json:"apiVersion"`
	Kind       string `json:"kind"`
	A          string `json:"a"`
	B          string `json:"b"`
	Equal      bool   `json:"equal"`
	// Sections are what the images say of themselves, those that differ.
	Sections []Section `json:"sections,omitempty"`
	// Files are by path; FileCounts count also those that the list has no room for.
	Files      []File     `json:"files,omitempty"`
	FileCounts FileCounts `json:"fileCounts,omitzero"`
	// Blocks are those of the disks; nil for manifests.
	Blocks *Blocks `json:"blocks,omitempty"`
	// Notes say what could not be compared, and why.
	Notes []string `json:"notes,omitempty"`
}

// Kind is how one thing differs.
type Kind string

// The kinds.
const (
	Added   Kind = "added"
	Removed Kind = "removed"
	Changed Kind = "changed"
)

// Section is one kind of facts: packages, sysctls, ...
type Section struct {
	Name    string   `json:"name"`
	Changes []Change `json:"changes"`
}

// Change is one fact that differs.
type Change struct {
	Kind Kind   `json:"kind"`
	Name string `json:"name"`
	A    string `json:"a,omitempty"`
	B    string `json:"b,omitempty"`
}

// Disks compares two disks; with classes, it also says what lies in the blocks
// that differ.
func Disks(ctx context.Context, a, b Disk, classes bool) (*Report, error) {
	r := &Report{APIVersion: APIVersion, Kind: ReportKind, A: a.Name, B: b.Name}
	pages, err := comparePages(ctx, a, b)
	if err != nil {
		return nil, err
	}
	r.Equal = pages.count == 0 && a.Size() == b.Size()
	r.Blocks = &Blocks{BlockSize: BlockSize, Differing: int64(pages.count), PageSize: pageSize, DifferingPages: int64(pages.pages), Bound: Bound(0)}
	if a.Size() != b.Size() {
		r.add("sizes", map[string]string{"virtual disk": fmt.Sprint(a.Size())}, map[string]string{"virtual disk": fmt.Sprint(b.Size())})
	}
	if r.Equal {
		return r, nil
	}
	left, right := open(a), open(b)
	for _, s := range []struct {
		side *side
		name string
	}{{left, a.Name}, {right, b.Name}} {
		for _, note := range s.side.notes {
			r.Notes = append(r.Notes, s.name+": "+note)
		}
	}
	r.add("partitions", left.partitions(), right.partitions())
	if left.image == nil || right.image == nil {
		return r, nil
	}
	if left.image.Tree != nil && right.image.Tree != nil {
		r.addFacts(contract.Facts(left.image), contract.Facts(right.image))
	}
	w := &walk{ctx: ctx, report: r, pages: pages}
	if err := w.images(left, right); err != nil {
		return nil, err
	}
	r.Blocks.ChangedBytes, r.Blocks.Bound = w.changed, Bound(w.changed)
	if !classes {
		return r, nil
	}
	c := classifier{pages: pages}
	if err := c.classify(ctx, left, right); err != nil {
		return nil, err
	}
	r.Blocks.Classes = c.classes()
	return r, nil
}

// add adds a section if the two sets of facts differ.
func (r *Report) add(name string, a, b map[string]string) {
	if changes := compareMaps(a, b); len(changes) > 0 {
		r.Sections = append(r.Sections, Section{name, changes})
		r.Equal = false
	}
}

// addFacts adds what the contract's readers found in both images.
func (r *Report) addFacts(a, b []contract.FactSet) {
	for i, set := range a {
		if i < len(b) {
			r.add(set.Name, set.Values, b[i].Values)
		}
	}
}

// side is one disk that was opened; image is nil when it has no partitions.
type side struct {
	image *imagefs.Image
	notes []string
}

func open(d Disk) *side {
	image, err := imagefs.Open(d, d.Size())
	if err != nil {
		return &side{notes: []string{err.Error()}}
	}
	s := &side{image: image}
	if image.Table.Damage != nil {
		s.notes = append(s.notes, image.Table.Damage.Error())
	}
	if image.RootErr != nil {
		s.notes = append(s.notes, image.RootErr.Error())
	}
	if image.ESPErr != nil {
		s.notes = append(s.notes, image.ESPErr.Error())
	}
	for _, err := range image.FstabErrs {
		s.notes = append(s.notes, err.Error())
	}
	return s
}

// partitions describes a disk's partitions and file systems.
func (s *side) partitions() map[string]string {
	out := map[string]string{}
	if s.image == nil {
		return out
	}
	out["table"] = s.image.Table.Kind
	for i, p := range s.image.Table.Partitions {
		key := fmt.Sprint(p.Number)
		out[key+" name"], out[key+" type"] = p.Name, string(p.Type)
		out[key+" start"], out[key+" size"] = fmt.Sprint(p.Start), fmt.Sprint(p.Size)
		out[key+" id"], out[key+" content"] = p.ID, s.image.Content(p)
		if v := s.image.Volume(i); v != nil {
			out[key+" file system uuid"], out[key+" file system label"] = v.UUID(), v.Label()
		}
	}
	return out
}
