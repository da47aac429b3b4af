// Command guest is what the engine's tests run as a step.
package main

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"
)

func main() {
	switch os.Args[1] {
	case "sparse": // a file of 64 MiB with one block of data at its end
		if err := sparse("/out/sparse"); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	case "disk":
		if err := disk(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	case "first": // what each of /in's files begins with, as a file of /out
		if err := first(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	case "fail":
		for i := range 40 {
			fmt.Println("line", i)
		}
		fmt.Fprintln(os.Stderr, "the reason")
		os.Exit(3)
	case "killed": // itself; the first process of a container is killed from outside alone (pid_namespaces(7))
		if os.Getpid() == 1 {
			os.Exit(128 + int(syscall.SIGKILL)) // what runc makes of that
		}
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
	case "compiler": // a program of its own is, as the go command's compilers may be
		err := exec.Command(os.Args[0], "killed").Run()
		fmt.Fprintln(os.Stderr, "compile:", err)
		os.Exit(1)
	case "slow": // long enough for something to happen meanwhile
		fmt.Println("slow")
		time.Sleep(3 * time.Second)
		if err := os.WriteFile("/out/slow", []byte("done"), 0o644); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	case "sleep":
		fmt.Println("sleeping")
		time.Sleep(10 * time.Minute)
	}
}

func sparse(name string) error {
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	_, err = f.WriteAt([]byte("the end"), 64<<20-7)
	return err
}

// disk makes the map of a disk of 64 MiB (package diskmap): a file in its middle that
// can't be compressed, in a tree that lies beside the map, and metadata at its end.
func disk() error {
	random := make([]byte, 1<<20+300)
	rand.NewChaCha8([32]byte{}).Read(random)
	m := fmt.Sprintf(`{"size": %d, "files": [{"tree": "root", "path": "ZmlsZQ==", "size": %d}], "extents": [{"start": %d, "length": %d}]}`,
		64<<20, len(random), 20<<20, 2<<20)
	return errors.Join(sparse("/out/disk.metadata"), os.Mkdir("/out/tree", 0o755),
		os.WriteFile("/out/tree/file", random, 0o644), os.WriteFile("/out/disk.map", []byte(m), 0o644))
}

// first copies the first line of each file in the folders of /in to /out, in a
// file that is named after the step.
func first() error {
	names, err := filepath.Glob("/in/*/*")
	if err != nil {
		return err
	}
	var all []byte
	for _, name := range names {
		text, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		line, _, _ := bytes.Cut(text, []byte("\n"))
		all = append(all, line...)
	}
	return os.WriteFile("/out/"+os.Args[2], all, 0o644)
}
