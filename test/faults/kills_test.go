//go:build !all

package faults

// kills is the number of builds that make test kills; make test-all kills 1,000.
const kills = 5
