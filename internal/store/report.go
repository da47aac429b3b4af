package store

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
	specs "github.com/opencontainers/image-spec/specs-go"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"

	"nodesmith.dev/nodesmith/internal/proof"
)

// Report is the report of one run of verify on a disk.
type Report struct {
	proof.Result
	Document Document
}

// referrersTag is the tag under which a layout or a registry lists what refers to
// a manifest (OCI distribution specification 1.1, "Referrers Tag Schema").
func referrersTag(subject digest.Digest) string {
	return subject.Algorithm().String() + "-" + subject.Encoded()
}

// subjectOf returns the digest of which an entry of index.json lists the
// referrers; "" if it does not.
func subjectOf(d ocispecs.Descriptor) digest.Digest {
	encoded, ok := strings.CutPrefix(d.Annotations[ocispecs.AnnotationRefName], digest.SHA256.String()+"-")
	subject := digest.NewDigestFromEncoded(digest.SHA256, encoded)
	if !ok || d.MediaType != ocispecs.MediaTypeImageIndex || subject.Validate() != nil {
		return ""
	}
	return subject
}

// referrers returns what refers to a manifest; nothing where that can't be read.
func (s *Store) referrers(entries []ocispecs.Descriptor, subject digest.Digest) []ocispecs.Descriptor {
	for _, d := range entries {
		if subjectOf(d) == subject {
			var index ocispecs.Index
			if err := s.readJSON(d, maxManifest, &index); err != nil {
				return nil
			}
			return index.Manifests
		}
	}
	return nil
}

// resultsOf reads the annotations of reports.
func resultsOf(reports []ocispecs.Descriptor) []proof.Result {
	var results []proof.Result
	for _, d := range reports {
		if r, ok := resultOf(d); ok {
			results = append(results, r)
		}
	}
	return results
}

func resultOf(d ocispecs.Descriptor) (proof.Result, bool) {
	level, ok := proof.Parse(d.Annotations[levelAnnotation])
	at, err := time.Parse(time.RFC3339, d.Annotations[ocispecs.AnnotationCreated])
	r := proof.Result{Level: level, Passed: d.Annotations[verdictAnnotation] == passed, At: at}
	if firmware := d.Annotations[firmwareAnnotation]; firmware != "" {
		r.Firmware = strings.Split(firmware, ",")
	}
	return r, ok && err == nil
}

// Attach keeps the report of a run of verify with the disk. It takes the place of
// an older one of the same level on the same firmware.
func (s *Store) Attach(ctx context.Context, disk *Disk, result proof.Result, report []byte) (err error) {
	session, err := s.Begin(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, session.Close()) }()
	verdict := failed
	if result.Passed {
		verdict = passed
	}
	annotations := map[string]string{
		levelAnnotation: result.Level.String(), verdictAnnotation: verdict,
		ocispecs.AnnotationCreated: result.At.UTC().Format(time.RFC3339),
	}
	if len(result.Firmware) > 0 {
		annotations[firmwareAnnotation] = strings.Join(result.Firmware, ",")
	}
	member, err := s.attach(document{
		artifactType: fmt.Sprintf(ReportType, result.Level), data: report, subject: &disk.Manifest, annotations: annotations,
		title: fmt.Sprintf("%s-%s.%s.json", disk.Image, disk.Infrastructure, result.Level),
	})
	if err != nil {
		return err
	}
	member.Annotations = annotations
	return s.refer(ctx, disk.Manifest.Digest, []ocispecs.Descriptor{member})
}

// refer adds to what refers to a disk's manifest, and notes with the disk's images
// how far it is proven then.
func (s *Store) refer(ctx context.Context, subject digest.Digest, added []ocispecs.Descriptor) error {
	return s.update(ctx, func(entries []ocispecs.Descriptor) ([]ocispecs.Descriptor, error) {
		merged := newest(append(s.referrers(entries, subject), added...))
		index, err := s.writeJSON(ocispecs.MediaTypeImageIndex, ocispecs.Index{
			Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispecs.MediaTypeImageIndex, Manifests: merged,
		})
		if err == nil {
			err = s.blobs.Sync()
		}
		if err != nil {
			return nil, err
		}
		index.Annotations = map[string]string{ocispecs.AnnotationRefName: referrersTag(subject)}
		entries = slices.DeleteFunc(entries, func(d ocispecs.Descriptor) bool { return subjectOf(d) == subject })
		entries = append(entries, index)
		return s.reprove(ctx, entries, subject)
	})
}

// reprove notes anew how far the images with that disk are proven.
func (s *Store) reprove(ctx context.Context, entries []ocispecs.Descriptor, subject digest.Digest) ([]ocispecs.Descriptor, error) {
	for n, d := range entries {
		if !isImage(d) {
			continue
		}
		i := imageOf(d)
		index, err := s.contents(i)
		if err != nil {
			continue // says so when it is used
		}
		if !slices.ContainsFunc(index.Manifests, func(m ocispecs.Descriptor) bool { return m.Digest == subject }) {
			continue
		}
		disks, err := s.Disks(ctx, i)
		if err != nil {
			continue
		}
		i.Proven = provenIn(s, entries, disks)
		entries[n] = i.entry(tagOf(d))
	}
	return entries, nil
}

// newest leaves out reports that a newer one of the same level on the same
// firmware replaced. The order is that of time.
func newest(reports []ocispecs.Descriptor) []ocispecs.Descriptor {
	at := func(d ocispecs.Descriptor) time.Time {
		r, _ := resultOf(d)
		return r.At
	}
	reports = slices.Clone(reports)
	slices.SortStableFunc(reports, func(a, b ocispecs.Descriptor) int { return at(a).Compare(at(b)) })
	var kept []ocispecs.Descriptor
	for n, d := range reports {
		replaced := slices.ContainsFunc(reports[n+1:], func(other ocispecs.Descriptor) bool {
			return other.Digest == d.Digest || other.ArtifactType == d.ArtifactType && d.Annotations[levelAnnotation] != "" &&
				other.Annotations[firmwareAnnotation] == d.Annotations[firmwareAnnotation]
		})
		if !replaced {
			kept = append(kept, d)
		}
	}
	return kept
}

// Reports lists the reports of a disk, oldest first.
func (s *Store) Reports(_ context.Context, disk *Disk) ([]Report, error) {
	index, err := s.index()
	if err != nil {
		return nil, err
	}
	var reports []Report
	for _, m := range s.referrers(index.Manifests, disk.Manifest.Digest) {
		result, ok := resultOf(m)
		if !ok || !s.blobs.Has(m) {
			continue
		}
		d, err := s.document(m)
		if err != nil {
			return nil, fmt.Errorf("report of %s: %w", disk.Reference(), err)
		}
		d.Infrastructure = disk.Infrastructure
		reports = append(reports, Report{result, d})
	}
	return reports, nil
}

// Proven says how far a disk was proven.
func (s *Store) Proven(_ context.Context, disk *Disk) (proof.Proof, error) {
	index, err := s.index()
	if err != nil {
		return proof.Proof{}, err
	}
	return proof.Of(resultsOf(s.referrers(index.Manifests, disk.Manifest.Digest)), disk.Firmware), nil
}
