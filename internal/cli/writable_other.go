//go:build !unix

package cli

// writable leaves the question to the first file that is made in the folder.
func writable(string) error { return nil }
