// Package faults holds the tests that break builds: killed at any moment, two at
// once, on a full file system, on damaged caches, with a clock that is off. What
// they build is a whole disk, from a tiny signed archive on this machine and
// without Kubernetes, so that one build takes seconds.
package faults
