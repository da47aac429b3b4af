package store_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"nodesmith.dev/nodesmith/internal/fault"
	"nodesmith.dev/nodesmith/internal/format"
	"nodesmith.dev/nodesmith/internal/format/formattest"
	"nodesmith.dev/nodesmith/internal/proof"
	"nodesmith.dev/nodesmith/internal/store"
)

const mib = 1 << 20

// epoch is the time that images carry, today when they are stored.
var (
	epoch = time.Date(2026, 10, 1, 12, 0, 0, 0, time.UTC)
	today = time.Date(2026, 11, 26, 1, 2, 3, 0, time.UTC)
)

func newStore(t testing.TB) *store.Store {
	t.Helper()
	s, err := store.Open(filepath.Join(t.TempDir(), "store"))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// disk is a small disk whose content follows from seed.
func disk(seed uint64) *formattest.Disk {
	d := formattest.NewDisk(8 * mib)
	d.Random(rand.New(rand.NewPCG(1, 1)), 0, 2*mib) // what all have
	d.Random(rand.New(rand.NewPCG(seed, 2)), 5*mib, 300)
	return d
}

// build puts an image with a disk for each infrastructure into the store.
func build(t testing.TB, s *store.Store, name, tag string, disks map[string]*formattest.Disk) store.Image {
	t.Helper()
	image, err := tryBuild(t, s, name, tag, disks)
	if err != nil {
		t.Fatal(err)
	}
	return image
}

func tryBuild(t testing.TB, s *store.Store, name, tag string, disks map[string]*formattest.Disk) (_ store.Image, err error) {
	session, err := s.Begin(t.Context())
	if err != nil {
		return store.Image{}, err
	}
	defer func() { err = errors.Join(err, session.Close()) }()
	known, err := s.Known(t.Context(), name)
	if err != nil {
		return store.Image{}, err
	}
	today = today.Add(time.Second)
	b := store.Build{Name: name, Tag: tag, Lock: []byte("lock\n"), Spec: []byte("spec\n"), Stored: today, Key: tag}
	for _, infrastructure := range slices.Sorted(maps.Keys(disks)) {
		w, err := session.Writer(t.Context(), disks[infrastructure].Size(), known)
		if err != nil {
			return store.Image{}, err
		}
		defer w.Close()
		if _, err := (format.Converter{}).Convert(t.Context(), disks[infrastructure], []format.Target{{Path: "store", Sink: w}}); err != nil {
			return store.Image{}, err
		}
		b.Disks = append(b.Disks, store.NewDisk{
			About: store.About{
				Image: name, Infrastructure: infrastructure, Architecture: "amd64", Distro: "debian", DistroVersion: "12",
				Kubernetes: "v1.34.0", Firmware: []string{"bios", "uefi"}, Built: epoch,
				Formats: []store.Format{{Name: "ova", Options: json.RawMessage(`{"cpus":4}`)}},
			},
			Table: w.Table(), Contents: []byte("what went into it for " + infrastructure),
		})
	}
	return session.Commit(t.Context(), b)
}

func one(seed uint64) map[string]*formattest.Disk {
	return map[string]*formattest.Disk{"qemu": disk(seed)}
}

func two(seed uint64) map[string]*formattest.Disk {
	return map[string]*formattest.Disk{"qemu": disk(seed), "vsphere": disk(seed + 1000)}
}

func find(t testing.TB, s *store.Store, text string) (store.Image, error) {
	t.Helper()
	r, err := store.ParseReference(text)
	if err != nil {
		return store.Image{}, err
	}
	return s.Find(t.Context(), r)
}

func TestAnImageIsFoundWithAllThatBelongsToIt(t *testing.T) {
	s := newStore(t)
	disks := two(7)
	built := build(t, s, "debian-12", "0123456789ab", disks)
	digest := built.Digest.String()
	for _, reference := range []string{"debian-12", "debian-12:latest", "debian-12:0123456789ab", "debian-12@" + digest, "debian-12@" + digest[:14]} {
		image, err := find(t, s, reference)
		if err != nil || image.Digest != built.Digest {
			t.Fatalf("%s: %+v, %v", reference, image, err)
		}
	}
	image, _ := find(t, s, "debian-12")
	want := fmt.Sprint("debian-12 [0123456789ab latest] debian 12 v1.34.0 amd64 [qemu vsphere] ", epoch, " ", today)
	if got := fmt.Sprint(image.Name, " ", image.Tags, " ", image.OS, " ", image.Kubernetes, " ", image.Architecture, " ", image.Infrastructures, " ", image.Built, " ", image.Stored); got != want {
		t.Errorf("%s, want %s", got, want)
	}
	for infrastructure, want := range disks {
		d, err := s.Disk(t.Context(), image, infrastructure)
		if err != nil {
			t.Fatal(err)
		}
		if d.Infrastructure != infrastructure || string(d.Formats[0].Options) != `{"cpus":4}` || !slices.Equal(d.Firmware, []string{"bios", "uefi"}) || !d.Whole() {
			t.Errorf("disk %+v", d.About)
		}
		content, err := d.Open(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		formattest.Equal(t, content, want)
		if err := content.Close(); err != nil {
			t.Error(err)
		}
		contents, ok, err := s.Document(t.Context(), image, store.ManifestType, infrastructure)
		if err != nil || !ok {
			t.Fatal(ok, err)
		}
		if text, err := contents.Read(); err != nil || string(text) != "what went into it for "+infrastructure {
			t.Errorf("%q, %v", text, err)
		}
	}
	for kind, want := range map[string]string{store.LockType: "lock\n", store.SpecType: "spec\n"} {
		d, ok, err := s.Document(t.Context(), image, kind, "")
		if err != nil || !ok {
			t.Fatal(kind, ok, err)
		}
		if text, err := d.Read(); err != nil || string(text) != want {
			t.Errorf("%s: %q, %v", kind, text, err)
		}
	}
}

func TestTheSameImageIsTheSameEverywhere(t *testing.T) {
	a, b := newStore(t), newStore(t)
	first := build(t, a, "node", "t1", two(1))
	again := build(t, a, "node", "t1", two(1))
	other := build(t, b, "node", "t1", two(1))
	if first.Digest != again.Digest || first.Digest != other.Digest {
		t.Errorf("%s, %s, %s", first.Digest, again.Digest, other.Digest)
	}
	if !again.Stored.Equal(first.Stored) {
		t.Error("storing it again changes when it was stored")
	}
}

func TestAReplacedImageKeepsItsDigestAsName(t *testing.T) {
	s := newStore(t)
	first := build(t, s, "node", "t1", one(1))
	for seed := range uint64(5) {
		build(t, s, "node", "t1", one(seed+2))
		if image, err := find(t, s, "node@"+first.Digest.String()); seed < 3 && (err != nil || len(image.Tags) != 0) {
			t.Errorf("after %d others: %+v, %v", seed+1, image, err)
		}
	}
	images, err := s.Images()
	if err != nil || len(images) != 4 {
		t.Errorf("%d images, want the one with the tag and three before it (%v)", len(images), err)
	}
	again := build(t, s, "node", "t1", one(5))
	if again.Tags[0] != "t1" {
		t.Errorf("built again it has tags %v", again.Tags)
	}
	if images, _ := s.Images(); len(images) != 4 {
		t.Errorf("built again: %d images", len(images))
	}
}

func TestLatestFollows(t *testing.T) {
	s := newStore(t)
	first := build(t, s, "node", "t1", one(1))
	second := build(t, s, "node", "t2", one(2))
	if latest, err := find(t, s, "node"); err != nil || latest.Digest != second.Digest {
		t.Errorf("latest is %s (%v)", latest.Reference(), err)
	}
	if _, err := s.Remove(t.Context(), store.Reference{Name: "node", Tag: "t2"}); err != nil {
		t.Fatal(err)
	}
	if latest, err := find(t, s, "node"); err != nil || latest.Digest != first.Digest {
		t.Errorf("after its image went, latest is %s (%v)", latest.Reference(), err)
	}
	if _, err := s.Remove(t.Context(), store.Reference{Name: "node", Tag: store.Latest}); err != nil {
		t.Fatal(err)
	}
	if images, err := s.Images(); err != nil || len(images) != 0 {
		t.Errorf("left: %v (%v)", images, err)
	}
}

func TestTagsAreNames(t *testing.T) {
	s := newStore(t)
	image := build(t, s, "node", "t1", one(1))
	for _, to := range []store.Reference{{Name: "node", Tag: "stable"}, {Name: "production", Tag: "2026-11"}} {
		if _, err := s.Tag(t.Context(), store.Reference{Name: "node", Tag: "t1"}, to); err != nil {
			t.Fatal(err)
		}
		if found, err := s.Find(t.Context(), to); err != nil || found.Digest != image.Digest {
			t.Errorf("%s: %v", to, err)
		}
	}
	if _, err := s.Remove(t.Context(), store.Reference{Name: "node", Tag: "t1"}); err != nil {
		t.Fatal(err)
	}
	if found, err := find(t, s, "node:stable"); err != nil || !slices.Equal(found.Tags, []string{"stable", "latest"}) {
		t.Errorf("%v, %v", found.Tags, err)
	}
	if _, err := s.Tag(t.Context(), store.Reference{Name: "node", Tag: "stable"}, store.Reference{Name: "node", Tag: store.Latest}); fault.KindOf(err) != fault.Usage {
		t.Errorf("latest can be given: %v", err)
	}
}

func TestReferencesThatNameNothing(t *testing.T) {
	s := newStore(t)
	build(t, s, "node", "t1", one(1))
	for _, text := range []string{"", "Node", "node:", "node:.x", "node:a/b", "../node", "node@sha256:12", "node@md5:123456", "node@sha256:../../..", "other", "node:t2", "node@sha256:000000", "a/b", "node:" + strings.Repeat("x", 129)} {
		if _, err := find(t, s, text); fault.KindOf(err) != fault.Usage {
			t.Errorf("%q: %v", text, err)
		}
	}
	image, _ := find(t, s, "node")
	if _, err := s.Disk(t.Context(), image, "aws"); fault.KindOf(err) != fault.Usage || !strings.Contains(err.Error(), "qemu") {
		t.Errorf("a disk that it has not: %v", err)
	}
	both := build(t, s, "node", "t2", two(1))
	if _, err := s.Disk(t.Context(), both, ""); fault.KindOf(err) != fault.Usage || fault.RemedyOf(err) != "say which with --infrastructure" {
		t.Errorf("one disk of two: %v", err)
	}
}

func TestReportsSayHowFarADiskIsProven(t *testing.T) {
	s := newStore(t)
	image := build(t, s, "node", "t1", two(1))
	qemu, err := s.Disk(t.Context(), image, "qemu")
	if err != nil {
		t.Fatal(err)
	}
	attach := func(level proof.Level, passed bool, minute int, firmware ...string) {
		t.Helper()
		result := proof.Result{Level: level, Passed: passed, Firmware: firmware, At: today.Add(time.Duration(minute) * time.Minute)}
		if err := s.Attach(t.Context(), qemu, result, fmt.Appendf(nil, "%v %d", passed, minute)); err != nil {
			t.Fatal(err)
		}
	}
	proven := func(want proof.Proof) {
		t.Helper()
		if got, err := s.Proven(t.Context(), qemu); err != nil || got != want {
			t.Errorf("proven %+v, want %+v (%v)", got, want, err)
		}
		if image, err := find(t, s, "node:t1"); err != nil || image.Proven["qemu"] != want || image.Proven["vsphere"] != (proof.Proof{}) {
			t.Errorf("listed as %+v, want %+v (%v)", image.Proven, want, err)
		}
	}
	proven(proof.Proof{})
	attach(proof.Contract, true, 1)
	proven(proof.Proof{Level: proof.Contract})
	attach(proof.Boot, true, 2, "bios", "uefi-secure")
	proven(proof.Proof{Level: proof.Boot, SecureBoot: true})
	attach(proof.Contract, false, 3)
	proven(proof.Proof{SecureBoot: true})
	attach(proof.Contract, true, 4)
	reports, err := s.Reports(t.Context(), qemu)
	if err != nil || len(reports) != 2 {
		t.Fatalf("%d reports, want the boot's and the contract's newest (%v)", len(reports), err)
	}
	if text, err := reports[1].Document.Read(); err != nil || string(text) != "true 4" || !reports[1].Passed {
		t.Errorf("%q, %v", text, err)
	}
	// A later image with the same disk, but another spec, is proven as far.
	again := build(t, s, "node", "t2", two(1))
	if again.Proven["qemu"].Level != proof.Boot {
		t.Errorf("the same disk in another image: %+v", again.Proven)
	}
}

func TestCollectRemovesWhatNothingLeadsTo(t *testing.T) {
	s := newStore(t)
	a := build(t, s, "a", "t1", one(1))
	b := build(t, s, "b", "t1", one(2))
	d, err := s.Disk(t.Context(), a, "qemu")
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Attach(t.Context(), d, proof.Result{Level: proof.Contract, Passed: true, At: today}, []byte("report")); err != nil {
		t.Fatal(err)
	}
	collect(t, s)
	if unused, err := s.Unused(t.Context()); err != nil || unused != (store.Usage{}) {
		t.Errorf("unused %+v, %v", unused, err)
	}
	used, _ := s.Used(t.Context())
	would, err := s.Unused(t.Context(), a)
	if err != nil || would.Blobs == 0 || would.Bytes >= used.Bytes/2 {
		t.Errorf("without a, %+v of %+v would go (%v)", would, used, err)
	}
	shared, own, err := s.Shared(t.Context(), a)
	if err != nil || shared.Blobs < 4 || own.Blobs < 4 {
		t.Errorf("shared %+v, own %+v, %v", shared, own, err)
	}
	if _, err := s.Remove(t.Context(), store.Reference{Name: "a", Tag: "t1"}); err != nil {
		t.Fatal(err)
	}
	left := filepath.Join(s.Dir(), "arrival", "blob-123")
	if err := os.WriteFile(left, make([]byte, 1000), 0o600); err != nil {
		t.Fatal(err)
	}
	if freed := collect(t, s); freed.Bytes != would.Bytes+1000 || freed.Blobs != would.Blobs+1 {
		t.Errorf("freed %+v, said %+v", freed, would)
	}
	if _, err := os.Stat(left); !errors.Is(err, fs.ErrNotExist) {
		t.Error("what a killed process left is there")
	}
	rest, err := s.Disk(t.Context(), b, "qemu")
	if err != nil {
		t.Fatal(err)
	}
	content, err := rest.Open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = content.Close() }()
	formattest.Equal(t, content, disk(2))
	if index, err := os.ReadFile(filepath.Join(s.Dir(), "index.json")); err != nil || bytes.Contains(index, []byte(`"sha256-`)) {
		t.Errorf("reports of a disk that is gone are listed (%v): %s", err, index)
	}
}

// A disk that answers with an error now may answer tomorrow: what an image that
// can't be read consists of is not removed meanwhile.
func TestNothingIsCollectedWhereAnImageCannotBeRead(t *testing.T) {
	s := newStore(t)
	image := build(t, s, "node", "t1", one(1))
	before, err := s.Used(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	index := filepath.Join(s.Dir(), "blobs", "sha256", image.Digest.Encoded())
	if err := os.Rename(index, index+".away"); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(filepath.Base(index), index); err != nil { // ELOOP for whoever opens it
		t.Fatal(err)
	}
	if _, _, err := s.Collect(t.Context()); err == nil || !strings.Contains(err.Error(), image.Digest.String()) {
		t.Errorf("collecting: %v", err)
	}
	if err := os.Rename(index+".away", index); err != nil {
		t.Fatal(err)
	}
	if after, err := s.Used(t.Context()); err != nil || after != before {
		t.Errorf("%+v of %+v are left (%v)", after, before, err)
	}
}

func collect(t *testing.T, s *store.Store) store.Usage {
	t.Helper()
	freed, done, err := s.Collect(t.Context())
	if err != nil || !done {
		t.Fatal(done, err)
	}
	return freed
}

func TestNothingIsCollectedWhileImagesAreInUse(t *testing.T) {
	s := newStore(t)
	image := build(t, s, "node", "t1", one(1))
	d, err := s.Disk(t.Context(), image, "")
	if err != nil {
		t.Fatal(err)
	}
	content, err := d.Open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Remove(t.Context(), store.Reference{Name: "node", Tag: "t1"}); err != nil {
		t.Fatal(err)
	}
	if freed, done, err := s.Collect(t.Context()); done || err != nil || freed != (store.Usage{}) {
		t.Errorf("%+v, %v, %v", freed, done, err)
	}
	formattest.Equal(t, content, disk(1))
	if err := content.Close(); err != nil {
		t.Error(err)
	}
	collect(t, s)
	if used, err := s.Used(t.Context()); err != nil || used != (store.Usage{}) {
		t.Errorf("used %+v, %v", used, err)
	}
}

func TestADamagedStoreIsMendedByTheNextBuild(t *testing.T) {
	s := newStore(t)
	image := build(t, s, "node", "t1", two(1))
	blobs, err := filepath.Glob(filepath.Join(s.Dir(), "blobs", "sha256", "*"))
	if err != nil {
		t.Fatal(err)
	}
	for i, path := range blobs { // each in another way
		content, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		switch i % 3 {
		case 0:
			content = content[:len(content)/2]
		case 1:
			content[len(content)/2] ^= 1
		}
		if err := os.WriteFile(path, content, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	// What is damaged is found when it is read; then it is made anew.
	for range 10 {
		disks, err := s.Disks(t.Context(), image)
		for _, d := range disks {
			content, openErr := d.Open(t.Context())
			if openErr != nil {
				err = openErr
				break
			}
			_, convertErr := format.Converter{}.Convert(t.Context(), content, []format.Target{{Sink: nothing{}}})
			err = errors.Join(err, convertErr, content.Close())
		}
		if err == nil && len(disks) == 2 {
			break
		}
		if err != nil && fault.KindOf(err) != fault.Unverifiable {
			t.Fatalf("%s: %v", fault.KindOf(err), err)
		}
		_, _ = tryBuild(t, s, "node", "t1", two(1)) // may find further damage
	}
	image = build(t, s, "node", "t1", two(1))
	for infrastructure, want := range two(1) {
		d, err := s.Disk(t.Context(), image, infrastructure)
		if err != nil {
			t.Fatal(err)
		}
		content, err := d.Open(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		formattest.Equal(t, content, want)
		_ = content.Close()
	}
}

// nothing is a sink that keeps nothing.
type nothing struct{}

func (nothing) Codec() format.Codec           { return nil }
func (nothing) WriteBlock(format.Block) error { return nil }
func (nothing) Finish(format.Summary) error   { return nil }
