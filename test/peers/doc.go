// Package peers holds the benchmarks that build an operating system with
// nodesmith and with what people use otherwise, from the same packages, in one
// run.
package peers
