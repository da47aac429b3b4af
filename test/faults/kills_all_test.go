//go:build all

package faults

// kills is the number of builds that make test-all kills.
const kills = 1000
