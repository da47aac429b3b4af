package store

// The types of what an image is made of. docs/store.md describes each.
const (
	// ImageType is the artifact type of the OCI index that NAME:TAG names.
	ImageType = "application/vnd.nodesmith.image.v1"
	// DiskType is that of a disk's manifest, DiskConfigType of its configuration.
	DiskType       = "application/vnd.nodesmith.disk.v1"
	DiskConfigType = "application/vnd.nodesmith.disk.config.v1+json"
	// LockType, SpecType and ManifestType are those of documents in the index.
	LockType     = "application/vnd.nodesmith.lock.v1alpha1+yaml"
	SpecType     = "application/vnd.nodesmith.spec.v1alpha1+yaml"
	ManifestType = "application/vnd.nodesmith.manifest.v1alpha1+json"
	// ReportType is that of a report of verify, with the level in its place.
	ReportType = "application/vnd.nodesmith.report.%s.v1+json"
)

// Annotations of the index's descriptors of disks and their documents.
const infrastructureAnnotation = "dev.nodesmith.infrastructure"

// Annotations of the descriptors in index.json: what a list of images shows,
// without opening anything else.
const (
	nameAnnotation            = "dev.nodesmith.name"
	osAnnotation              = "dev.nodesmith.os"
	kubernetesAnnotation      = "dev.nodesmith.kubernetes"
	architectureAnnotation    = "dev.nodesmith.architecture"
	infrastructuresAnnotation = "dev.nodesmith.infrastructures"
	sizeAnnotation            = "dev.nodesmith.size"
	storedAnnotation          = "dev.nodesmith.stored"
	provenAnnotation          = "dev.nodesmith.proven"
	keyAnnotation             = "dev.nodesmith.key"
	originsAnnotation         = "dev.nodesmith.origins"
)

// Annotations of reports.
const (
	levelAnnotation    = "dev.nodesmith.report.level"
	verdictAnnotation  = "dev.nodesmith.report.verdict"
	firmwareAnnotation = "dev.nodesmith.report.firmware"
)

// The values of verdictAnnotation.
const (
	passed = "pass"
	failed = "fail"
)

// Bounds of documents, in bytes: registries take manifests of 4 MiB; a lock, a
// list of modules or a report is far below the other one.
const (
	maxManifest = 4 << 20
	maxDocument = 64 << 20
	maxIndex    = 256 << 20 // of index.json, which is this machine's own
)
