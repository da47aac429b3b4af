package faults

import (
	"maps"
	"slices"
	"strings"
	"testing"

	"nodesmith.dev/nodesmith/internal/diff"
	"nodesmith.dev/nodesmith/internal/format/known"
	"nodesmith.dev/nodesmith/internal/lock"
	"nodesmith.dev/nodesmith/internal/testenv"
)

// otherMachine runs a build with one CPU, another host name and umask.
var otherMachine = []string{"unshare", "--uts", "sh", "-c", `hostname other.company.invalid && umask 077 && exec taskset --cpu-list 0 "$0"`}

// otherEnvironment is that of a user far away.
var otherEnvironment = []string{"GOMAXPROCS=1", "TZ=Pacific/Kiritimati", "LC_ALL=tr_TR.UTF-8", "LANG=tr_TR.UTF-8", "LANGUAGE=tr", "HOME=/nonexistent", "USER=someone"}

// One lock gives the same bytes on an empty engine with one CPU, in another
// zone, locale, umask and host name, 400 days later.
func TestTheSameLockGivesTheSameBytesOnAnotherMachine(t *testing.T) {
	testenv.Need(t, "unshare", "taskset")
	a := needArchive(t)
	cleanBuild(t)
	b := newBuild(t, a.serve(t, nil))
	b.Now, b.wrapper = b.Now.AddDate(0, 0, 400), otherMachine
	b.must(t, otherEnvironment...)
	equalsClean(t, b)
}

// withClock is the build with the clock of all programs of the system that is
// installed turned on by so many days: a library is preloaded from the first
// package on. Times that the kernel gives to files are real.
func (b build) withClock(t *testing.T, days string) build {
	t.Helper()
	testenv.Need(t, "gcc", "dpkg-deb")
	byName, err := packagesOf([]byte(needArchive(t).index))
	if err != nil {
		t.Fatal(err)
	}
	l := *b.Lock
	l.OS.Packages = slices.DeleteFunc(slices.Clone(l.OS.Packages), func(p lock.Package) bool { return p.Name == clockPackage })
	l.OS.Packages = append(l.OS.Packages, byName[clockPackage])
	b.Lock = &l
	presets := map[string]string{"etc/ld.so.preload": "/usr/lib/clock.so\n", clockFile: days + "\n"}
	maps.Copy(presets, b.Release.Presets)
	presets[clockFile] = days + "\n"
	b.Release.Presets = presets
	return b
}

// clockFile is where the library reads how many days to add.
const clockFile = "etc/clock-days"

// differOnlyInTheirClocks fails unless two disks differ in clockFile alone.
func differOnlyInTheirClocks(t *testing.T, a, b string) {
	t.Helper()
	var sides [2]diff.Disk
	for i, name := range []string{a, b} {
		file, err := known.OpenFile(name, "raw")
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = file.Close() }() // only read
		sides[i] = diff.Disk{Name: name, Source: file}
	}
	r, err := diff.Disks(t.Context(), sides[0], sides[1], false)
	if err != nil {
		t.Fatal(err)
	}
	if len(r.Files) != 1 || !strings.HasSuffix(r.Files[0].Path, "/"+clockFile) || r.Blocks.DifferingPages != 1 {
		t.Errorf("more differs than the file that says which day it is:\n%s", differences(t, a, b))
	}
}

// What dpkg, maintainer scripts and the tools that they call take from the clock
// does not get into the image.
func TestProgramsThatSeeALaterDayMakeTheSameFiles(t *testing.T) {
	a := needArchive(t)
	today := newBuild(t, a.serve(t, nil)).withClock(t, "+000")
	today.must(t)
	later := today.withClock(t, "+400")
	raw := today.output("raw")
	later = later.elsewhere(t)
	later.must(t)
	differOnlyInTheirClocks(t, raw, later.output("raw"))
}
