// Command guest is what the engine's tests run as a step.
package main

import (
	"bytes"
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
		f, err := os.Create("/out/disk.raw")
		if err == nil {
			_, err = f.WriteAt([]byte("the end"), 64<<20-7)
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	case "disk": // the same with data that can't be compressed in its middle
		random := make([]byte, 1<<20+300)
		rand.NewChaCha8([32]byte{}).Read(random)
		f, err := os.Create("/out/disk.raw")
		if err == nil {
			_, err = f.WriteAt(random, 20<<20+17)
		}
		if err == nil {
			_, err = f.WriteAt([]byte("the end"), 64<<20-7)
		}
		if err != nil {
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
