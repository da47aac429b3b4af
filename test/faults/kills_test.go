//go:build !all

package faults

// kills is the number of builds that make test kills, one after the other; make
// test-all kills 1,000.
const kills, rows = 5, 1

// damagedDatabases is one; make test-all damages all.
var damagedDatabases = []database{{"runc-overlayfs/metadata_v2.db", 2, 2}}
