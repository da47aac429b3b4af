package cli

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"nodesmith.dev/nodesmith/internal/contract"
	"nodesmith.dev/nodesmith/internal/fault"
	"nodesmith.dev/nodesmith/internal/format/known"
	"nodesmith.dev/nodesmith/internal/host"
	"nodesmith.dev/nodesmith/internal/infra"
	"nodesmith.dev/nodesmith/internal/manifest"
	"nodesmith.dev/nodesmith/internal/publish"
	"nodesmith.dev/nodesmith/internal/report"
	"nodesmith.dev/nodesmith/internal/store/chunked"
)

// openPublished opens what the user called an image, for one infrastructure: a
// file, here or on a web server, or a disk in the store. What there is to wait for is
// said on notices.
func openPublished(ctx context.Context, name, infrastructure string, notices io.Writer) (publish.Image, io.Closer, error) {
	if isURL(name) {
		return openRemote(ctx, name, infrastructure, notices)
	}
	path, about, err := findImage(name, infrastructure)
	if errors.Is(err, errNoImage) && !outsideStore(name) {
		s, err := findSubject(ctx, name, infrastructure)
		switch {
		case err != nil:
			return publish.Image{}, nil, err
		case s.disk != nil:
			return openStored(ctx, s)
		}
	}
	if err != nil {
		return publish.Image{}, nil, err
	}
	return openFile(ctx, path, about)
}

// outsideStore says whether a name is that of files alone: it has a folder, which is
// no infrastructure behind the name of an image.
func outsideStore(name string) bool {
	_, behind, ok := storedReference(name)
	_, known := infra.Find(behind)
	return !ok || behind != "" && !known
}

// openFile opens an image file, of which nothing was proven.
func openFile(ctx context.Context, path string, about *manifest.Manifest) (publish.Image, io.Closer, error) {
	file, err := openDisk(ctx, path, "")
	if err != nil {
		return publish.Image{}, nil, err
	}
	digest, err := chunked.DigestOf(ctx, file)
	if err != nil {
		return publish.Image{}, nil, errors.Join(fmt.Errorf("%s: %w", path, err), file.Close())
	}
	files, err := filesOf(path, file)
	if err != nil {
		return publish.Image{}, nil, errors.Join(err, file.Close())
	}
	return publish.Image{
		Name: about.Image, Reference: path, Infrastructure: about.Infrastructure, Architecture: about.Architecture,
		Distro: about.OS.Distro, DistroVersion: about.OS.Version, Kubernetes: about.Kubernetes,
		Firmware: contract.Firmware(file, file.Size()), Digest: digest, Built: about.Epoch, Disk: file, Open: files.open,
	}, files, nil
}

// openStored opens a disk in the store, which knows what was proven of it.
func openStored(ctx context.Context, s subject) (publish.Image, io.Closer, error) {
	proven, err := s.proven(ctx)
	if err != nil {
		return publish.Image{}, nil, err
	}
	content, err := s.open(ctx, "")
	if err != nil {
		return publish.Image{}, nil, err
	}
	disk, files := s.disk, filesOfStored(s.disk, content)
	return publish.Image{
		Name: disk.Image, Reference: disk.Reference(), Infrastructure: disk.Infrastructure, Architecture: disk.Architecture,
		Distro: disk.Distro, DistroVersion: disk.DistroVersion, Kubernetes: disk.Kubernetes, Firmware: disk.Firmware,
		Digest: disk.Digest, Level: proven.Level, SecureBoot: proven.SecureBoot, Built: disk.Built, Disk: content, Open: files.open,
	}, files, nil
}

// errNoImage is in the chain of the error for a name that no file has.
var errNoImage = errors.New("there is no image")

// findImage returns the file of an image and its manifest: the file that is
// named, or NAME-INFRASTRUCTURE with any suffix.
func findImage(name, infrastructure string) (string, *manifest.Manifest, error) {
	paths := []string{name}
	if !oneFile(name) {
		paths = nil
		for _, suffix := range suffixesFor(infrastructure) {
			paths = append(paths, name+"-"+infrastructure+suffix)
		}
	}
	for _, path := range paths {
		if !oneFile(path) {
			continue
		}
		about, err := readManifest(path)
		if err != nil {
			return "", nil, err
		}
		return path, about, builtFor(path, about, infrastructure)
	}
	return "", nil, fault.New(fault.Usage, "name an image file, NAME for NAME-"+infrastructure+".ova and so on, or an image in the store (nodesmith images)",
		"%w %s for %s", errNoImage, name, infrastructure)
}

// builtFor refuses an image of another infrastructure.
func builtFor(name string, about *manifest.Manifest, infrastructure string) error {
	if about.Infrastructure == infrastructure {
		return nil
	}
	return fault.New(fault.Usage, "name the image of that infrastructure, NAME without -INFRASTRUCTURE and suffix for all of them, or --to "+about.Infrastructure,
		"%s was built for %s, not %s", name, about.Infrastructure, infrastructure)
}

// suffixesFor are those of all formats, first that which the infrastructure
// imports: an OVA says more than the disk in it.
func suffixesFor(infrastructure string) []string {
	suffixes := known.Suffixes()
	if i, ok := infra.Find(infrastructure); ok {
		if own, err := known.Named(i.Format); err == nil {
			suffixes = slices.Insert(suffixes, 0, own.Suffix)
		}
	}
	return suffixes
}

// readManifest reads the manifest beside an image file.
func readManifest(path string) (*manifest.Manifest, error) {
	for _, suffix := range known.Suffixes() {
		if base, ok := strings.CutSuffix(path, suffix); ok {
			about, err := manifest.Read(base + manifest.Suffix)
			if errors.Is(err, os.ErrNotExist) {
				return nil, fault.New(fault.Usage, "build writes it; it says what is in the image", "there is no %s beside %s", filepath.Base(base)+manifest.Suffix, path)
			}
			return about, err
		}
	}
	return nil, fault.New(fault.Usage, "", "%s does not end in %s", path, strings.Join(known.Suffixes(), ", "))
}

// unsafe is what does not stand in the names of journals.
var unsafe = regexp.MustCompile(`[^A-Za-z0-9.-]+`)

// journalFile is the journal of an image at a place.
func journalFile(dir, place string, image publish.Image) string {
	sum := sha256.Sum256([]byte(place)) // two places may differ in what is unsafe alone
	name := unsafe.ReplaceAllString(place, "_")
	return filepath.Join(dir, name[:min(len(name), 80)]+"-"+hex.EncodeToString(sum[:4]), image.Digest.Encoded()+".journal")
}

// journals reads all journals.
func journals() ([]publish.State, error) {
	dir, err := host.PublishDir()
	if err != nil {
		return nil, err
	}
	paths, err := publish.Journals(dir)
	if err != nil {
		return nil, err
	}
	var all []publish.State
	for _, path := range paths {
		state, err := publish.ReadState(path)
		if err != nil {
			return nil, err
		}
		if len(state) > 0 { // a run that was ended before it began anything leaves none
			all = append(all, state)
		}
	}
	return all, nil
}

// statusDocument is a journal as status --json prints it.
type statusDocument struct {
	APIVersion string `json:"apiVersion"`
	Kind       string `json:"kind"`
	publish.Header
	Steps []stepStatus `json:"steps"`
}

// stepStatus is a step that was begun, and what it made.
type stepStatus struct {
	ID     string            `json:"id"`
	Action publish.Action    `json:"action"`
	Region string            `json:"region,omitempty"`
	Kind   string            `json:"kind"`
	Name   string            `json:"name"`
	Done   bool              `json:"done"`
	Notes  map[string]string `json:"notes,omitempty"`
}

// statusOf leaves out the longer notes, which are the publisher's own bookkeeping.
func statusOf(e publish.Entry) stepStatus {
	notes := maps.Clone(e.Notes)
	maps.DeleteFunc(notes, func(_, value string) bool { return len(value) > 80 })
	return stepStatus{e.Step, e.Action, e.Region, e.Kind, e.Name, e.Done, notes}
}

func showStatus(s streams, state publish.State, asJSON bool) error {
	document := statusDocument{APIVersion: publishVersion, Kind: report.PublishStatusKind, Header: state.Header(), Steps: []stepStatus{}}
	for _, e := range state.Entries() {
		document.Steps = append(document.Steps, statusOf(e))
	}
	if asJSON {
		return json.NewEncoder(s.out).Encode(document)
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s at %s (%s)\n", document.Image, document.Place, document.Digest)
	if len(document.Steps) == 0 {
		b.WriteString("  nothing\n") // it was taken away
	}
	for _, step := range document.Steps {
		done := "done"
		if !step.Done {
			done = "not finished"
		}
		fmt.Fprintf(&b, "  %-12s %s", done, words(string(step.Action), step.Region, step.Kind, step.Name))
		for key, value := range sorted(step.Notes) {
			fmt.Fprintf(&b, " %s=%s", key, value)
		}
		b.WriteByte('\n')
	}
	_, err := io.WriteString(s.out, b.String())
	return err
}
