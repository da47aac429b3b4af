package testenv

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
)

// User is an ordinary user of this machine.
type User struct {
	Name string
	// Dir is the user's home: a folder that everybody may enter.
	Dir        string
	credential syscall.Credential
}

// NewUser makes a user with subordinate ids, as `useradd` makes one for a person,
// for as long as the test runs.
func NewUser(t testing.TB) *User {
	t.Helper()
	NeedRoot(t)
	Need(t, "useradd", "userdel", "newuidmap", "newgidmap")
	dir, err := os.MkdirTemp("", "nodesmith-user-")
	if err != nil {
		t.Fatal(err)
	}
	u := &User{Name: fmt.Sprintf("nodesmith-%d", os.Getpid()), Dir: filepath.Join(dir, "home")}
	t.Cleanup(func() {
		run(t, "userdel", u.Name)
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	run(t, "useradd", "--no-create-home", "--home-dir", u.Dir, "--shell", "/bin/sh", u.Name)
	known, err := user.Lookup(u.Name)
	if err != nil {
		t.Fatal(err)
	}
	for _, id := range []struct {
		text string
		into *uint32
	}{{known.Uid, &u.credential.Uid}, {known.Gid, &u.credential.Gid}} {
		n, err := strconv.ParseUint(id.text, 10, 32)
		if err != nil {
			t.Fatal(err)
		}
		*id.into = uint32(n)
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	u.Mkdir(t, u.Dir)
	return u
}

// Mkdir makes a folder that is the user's.
func (u *User) Mkdir(t testing.TB, dir string) {
	t.Helper()
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(dir, int(u.credential.Uid), int(u.credential.Gid)); err != nil {
		t.Fatal(err)
	}
}

// Program copies a program to where the user may run it, and returns its path.
func (u *User) Program(t testing.TB, path string) string {
	t.Helper()
	in, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = in.Close() }() // only read
	copied := filepath.Join(filepath.Dir(u.Dir), filepath.Base(path))
	out, err := os.OpenFile(copied, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o755)
	if err != nil {
		t.Fatal(err)
	}
	if _, err = io.Copy(out, in); err != nil {
		t.Fatal(err)
	}
	if err := out.Close(); err != nil {
		t.Fatal(err)
	}
	return copied
}

// Command is a command of the user's, started in the user's home, without this
// process's environment.
func (u *User) Command(ctx context.Context, name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, name, args...)
	credential := u.credential
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &credential}
	cmd.Dir = u.Dir
	cmd.Env = []string{"HOME=" + u.Dir, "USER=" + u.Name, "LOGNAME=" + u.Name, "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
	return cmd
}

func run(t testing.TB, name string, args ...string) {
	t.Helper()
	if out, err := exec.CommandContext(context.Background(), name, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s %v: %v\n%s", name, args, err, out)
	}
}
