//go:build all

package faults

// kills is the number of builds that make test-all kills, in rows side by side.
const kills, rows = 1000, 2

// damagedDatabases are the engine's: the first pages of each, which have
// checksums, then half of the others.
var damagedDatabases = []database{
	{"cache.db", 0, 1}, {"cache.db", 2, 2},
	{"history.db", 0, 1}, {"history.db", 2, 2},
	{"runc-overlayfs/containerdmeta.db", 0, 1}, {"runc-overlayfs/containerdmeta.db", 2, 2},
	{"runc-overlayfs/metadata_v2.db", 0, 1}, {"runc-overlayfs/metadata_v2.db", 2, 2},
	{"runc-overlayfs/snapshots/metadata.db", 0, 1}, {"runc-overlayfs/snapshots/metadata.db", 2, 2},
}
