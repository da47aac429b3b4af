// Package peers holds the benchmarks that build an operating system with
// nodesmith and with what people use otherwise, from the same packages, in one
// run: its root file system beside mmdebstrap's, a bootable disk beside mkosi's,
// and a node's image beside a plain system that cloud-init makes the same node.
package peers
