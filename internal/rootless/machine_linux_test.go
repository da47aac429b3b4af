package rootless

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"nodesmith.dev/nodesmith/internal/fault"
)

// good are the files of a host that lets ada build.
func good() map[string]string {
	return map[string]string{
		"etc/subuid": "root:1:1\nada:100000:65536\n", "etc/subgid": "1000:100000:60000\nada:200000:6000\n",
		"proc/sys/user/max_user_namespaces": "28633\n",
		"proc/self/status":                  "Name:\tnodesmith\nCapBnd:\t00000000a80425fb\nNoNewPrivs:\t0\n",
	}
}

func TestWhatAHostLacksForARootlessBuildIsNamed(t *testing.T) {
	for name, test := range map[string]struct {
		change  map[string]string
		without string // a program that is not there
		refused trial
		want    []string
	}{
		"nothing":              {},
		"no uidmap":            {without: "newuidmap", want: []string{"the program newuidmap", "apt-get install uidmap"}},
		"no runc":              {without: "runc", want: []string{"the program runc", "apt-get install runc"}},
		"nobody's ids":         {change: map[string]string{"etc/subuid": "bob:100000:65536\n"}, want: []string{"/etc/subuid: it gives 0", "usermod --add-subuids 100000-165535 ada"}},
		"too few ids":          {change: map[string]string{"etc/subgid": "ada:100000:1000\n"}, want: []string{"/etc/subgid: it gives 1000"}},
		"a broken line":        {change: map[string]string{"etc/subgid": "ada:100000\nada:1:-5\n\n"}, want: []string{"/etc/subgid: it gives 0"}},
		"ids of a host":        {change: map[string]string{"proc/self/uid_map": "         0          0 4294967295\n"}},
		"ids in two ranges":    {change: map[string]string{"proc/self/gid_map": "0 1001 1\n1 300000 205999\n"}},
		"ids of a container":   {change: map[string]string{"proc/self/uid_map": "0 1001 1\n1 100000 65536\n"}, want: []string{"not all that /etc/subuid gives exist", "as its root and --privileged"}},
		"ids but one":          {change: map[string]string{"proc/self/gid_map": "0 1001 1\n1 300000 205998\n"}, want: []string{"not all that /etc/subgid gives exist"}},
		"no namespaces":        {change: map[string]string{"proc/sys/user/max_user_namespaces": "0\n"}, want: []string{"user.max_user_namespaces"}},
		"Debian's old switch":  {change: map[string]string{"proc/sys/kernel/unprivileged_userns_clone": "0\n"}, want: []string{"kernel.unprivileged_userns_clone=1"}},
		"that switch, on":      {change: map[string]string{"proc/sys/kernel/unprivileged_userns_clone": "1\n"}},
		"AppArmor":             {change: map[string]string{"proc/sys/kernel/apparmor_restrict_unprivileged_userns": "1\n"}, want: []string{"AppArmor forbids them", "docs/engines.md"}},
		"AppArmor, unconfined": {change: map[string]string{"proc/sys/kernel/apparmor_restrict_unprivileged_userns": "1\n", "proc/self/attr/current": "unconfined\n"}, want: []string{"AppArmor forbids them"}},
		"AppArmor's profile":   {change: map[string]string{"proc/sys/kernel/apparmor_restrict_unprivileged_userns": "1\n", "proc/self/attr/current": "nodesmith (unconfined)\n"}},
		"no new privileges":    {change: map[string]string{"proc/self/status": "CapBnd:\t00000000a80425fb\nNoNewPrivs:\t1\n"}, want: []string{"no_new_privs", "without --security-opt no-new-privileges"}},
		"no capabilities":      {change: map[string]string{"proc/self/status": "CapBnd:\t0000000000000000\nNoNewPrivs:\t0\n"}, want: []string{"--cap-add=SETUID --cap-add=SETGID"}},
		"only those two":       {change: map[string]string{"proc/self/status": "CapBnd:\t00000000000000c0\nNoNewPrivs:\t0\n"}},
		"seccomp":              {refused: trial{namespaces: syscall.EPERM}, want: []string{"user namespaces", "operation not permitted", "seccomp=unconfined"}},
		"Podman's seccomp":     {refused: trial{hostname: syscall.EPERM}, want: []string{"no host names in them (operation not permitted)", "seccomp=unconfined"}},
		"AppArmor on mounts":   {refused: trial{proc: syscall.EACCES}, want: []string{"a security module forbids it", "apparmor=unconfined"}},
		"a masked /proc":       {refused: trial{proc: syscall.EPERM}, want: []string{"a /proc for steps", "systempaths=unconfined"}},
		"several":              {change: map[string]string{"etc/subuid": ""}, without: "newgidmap", want: []string{"newgidmap", "/etc/subuid"}},
	} {
		t.Run(name, func(t *testing.T) {
			files := good()
			for path, text := range test.change {
				files[path] = text
			}
			m := machine{root: t.TempDir(), user: &user.User{Username: "ada", Uid: "1000"}}
			for path, text := range files {
				path = filepath.Join(m.root, path)
				if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), 0o644)); err != nil {
					t.Fatal(err)
				}
			}
			m.find = func(program string) (string, error) {
				if program == test.without {
					return "", exec.ErrNotFound
				}
				return "/usr/bin/" + program, nil
			}
			m.try = func() trial { return test.refused }
			err := m.lacks()
			if (err != nil) != (len(test.want) > 0) || (err != nil && fault.KindOf(err) != fault.MissingHost) {
				t.Fatal(err)
			}
			for _, want := range test.want {
				if !strings.Contains(fmt.Sprint(err), want) {
					t.Errorf("no %q in: %v", want, err)
				}
			}
		})
	}
}

// RootlessKit runs programs that fail before the command begins: what they say must
// not be lost.
func TestOnlyTheCommandsEndIsTheCommandsEnd(t *testing.T) {
	failed := exec.CommandContext(t.Context(), "sh", "-c", "exit 7").Run()
	code, is := ExitCode(ended(fmt.Errorf("child exited: %w", failed)))
	if !is || code != 7 {
		t.Errorf("the command's end: %d, %v", code, is)
	}
	err := ended(fmt.Errorf("failed to setup UID/GID map: %w", fmt.Errorf("newuidmap failed: not allowed: %w", failed)))
	if _, is := ExitCode(err); is || !strings.Contains(err.Error(), "not allowed") {
		t.Errorf("newuidmap's end: %v", err)
	}
	if code, is := ExitCode(ended(nil)); !is || code != 0 {
		t.Errorf("success: %d, %v", code, is)
	}
}
