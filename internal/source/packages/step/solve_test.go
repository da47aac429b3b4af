package step

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"nodesmith.dev/nodesmith/internal/testenv"
)

func TestParseSimulationReadsApt(t *testing.T) {
	tests := map[string]struct {
		out  string
		want []ID
	}{
		"nothing to do": {"Reading package lists...\nBuilding dependency tree...\n0 upgraded, 0 newly installed, 0 to remove and 0 not upgraded.\n", nil},
		"a new package": {
			"NOTE: This is only a simulation!\nThe following NEW packages will be installed:\n  jq\nInst libonig5 (6.9.8-1 Debian:12.10/oldstable [amd64])\nConf libonig5 (6.9.8-1 Debian:12.10/oldstable [amd64])\n",
			[]ID{{"libonig5", "6.9.8-1", "amd64"}},
		},
		"an upgrade":             {"Inst tzdata [2024a-0+deb12u1] (2025b-0+deb12u1 Debian:12.10/oldstable [all])\n", []ID{{"tzdata", "2025b-0+deb12u1", "all"}}},
		"several origins":        {"Inst libssl3 [3.0.15-1] (3.0.17-1~deb12u2 Debian:12.10/oldstable, Debian-Security:12/oldstable-security [amd64])\n", []ID{{"libssl3", "3.0.17-1~deb12u2", "amd64"}}},
		"what it breaks for now": {"Inst libc6 [2.36-9+deb12u4] (2.36-9+deb12u10 Debian:12.10/oldstable [amd64]) [libc-bin:amd64 ]\n", []ID{{"libc6", "2.36-9+deb12u10", "amd64"}}},
		"nothing that it breaks": {"Inst perl-base [5.36.0-7] (5.36.0-7+deb12u2 Debian:12.10/oldstable [amd64]) []\n", []ID{{"perl-base", "5.36.0-7+deb12u2", "amd64"}}},
		"an epoch and a plus":    {"Inst libstdc++6 (1:12.2.0-14+deb12u1 Debian:12.10/oldstable [amd64])\n", []ID{{"libstdc++6", "1:12.2.0-14+deb12u1", "amd64"}}},
		"another architecture":   {"Inst libc6:i386 (2.36-9 Debian:12.10/oldstable [i386])\n", []ID{{"libc6", "2.36-9", "i386"}}},
		"an archive of no name":  {"Inst a (1.0  [amd64])\n", []ID{{"a", "1.0", "amd64"}}},
		"apt's order": {
			"Inst b (2 X:1/s [all])\nConf b (2 X:1/s [all])\nInst a (1 X:1/s [amd64])\n",
			[]ID{{"b", "2", "all"}, {"a", "1", "amd64"}},
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			got, err := parseSimulation([]byte(test.out))
			if err != nil || !reflect.DeepEqual(got, test.want) {
				t.Errorf("got %v, %v; want %v", got, err, test.want)
			}
		})
	}
}

func TestParseSimulationRefusesWhatItDoesNotKnow(t *testing.T) {
	for _, line := range []string{"Inst a", "Inst a (1.0)", "Inst a (1.0 Debian:12/stable)", "Inst a 1.0 [amd64]", "Inst a [1.0] [amd64]", "Inst  (1.0 X [amd64])"} {
		if ids, err := parseSimulation([]byte("Inst b (2 X:1/s [all])\n" + line + "\n")); err == nil || !strings.Contains(err.Error(), line) {
			t.Errorf("%q: %v, %v", line, ids, err)
		}
	}
}

// epoch is the time of the test's steps.
var epoch = time.Unix(1_700_000_000, 0)

// repository lays out a suite as Snapshot.Question does, of the stanzas.
func repository(t *testing.T, stanzas ...string) string {
	t.Helper()
	repo := t.TempDir()
	publish(t, filepath.Join(repo, "0", "dists", "bookworm"), "main/binary-amd64/Packages", stanzas...)
	return repo
}

// publish writes an index of the stanzas and the Release file in dir that has
// its digest.
func publish(t *testing.T, dir, index string, stanzas ...string) {
	t.Helper()
	var text strings.Builder
	for _, s := range stanzas {
		name, _, _ := strings.Cut(strings.TrimPrefix(s, "Package: "), "\n")
		fmt.Fprintf(&text, "%sArchitecture: amd64\nMaintainer: N <n@example.org>\nDescription: x\n of several\n lines\nFilename: pool/%s.deb\nSize: 1\nSHA256: %064x\n\n", s, name, text.Len())
	}
	release := fmt.Sprintf("Origin: Debian\nLabel: Debian\nSuite: oldstable\nCodename: bookworm\nDate: Sun, 01 Mar 2026 09:00:00 UTC\nArchitectures: amd64\nComponents: main\nSHA256:\n %x %d %s\n",
		sha256.Sum256([]byte(text.String())), text.Len(), index)
	for name, text := range map[string]string{"Release": release, index: text.String()} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

func solve(t *testing.T, repo string, sets ...Set) (Answer, error) {
	t.Helper()
	return solveWith(t, repo, nil, sets...)
}

// solveWith is solve with further sources.
func solveWith(t *testing.T, repo string, further []Source, sets ...Set) (Answer, error) {
	t.Helper()
	return solveConfig(t, SolveConfig{Repo: repo, Sets: sets}, further...)
}

// solveConfig completes the configuration for a repository's one suite, and
// further sources.
func solveConfig(t *testing.T, config SolveConfig, further ...Source) (Answer, error) {
	t.Helper()
	testenv.Need(t, "apt-get")
	config.Architecture, config.Out = "amd64", filepath.Join(t.TempDir(), "answer.json")
	config.Sources = append([]Source{{Dir: "0", Suite: "bookworm", Components: []string{"main"}}}, further...)
	if err := Solve(t.Context(), config, epoch); err != nil {
		return nil, err
	}
	data, err := os.ReadFile(config.Out)
	if err != nil {
		t.Fatal(err)
	}
	var answer Answer
	if err := json.Unmarshal(data, &answer); err != nil {
		t.Fatal(err)
	}
	return answer, nil
}

// A repository has newer versions than the release, one of them in a flat one.
func TestOnlySetsThatAskHavePackagesOfFurtherSources(t *testing.T) {
	repo := repository(t, "Package: libc6\nVersion: 2.36-9\n", "Package: bash\nVersion: 5.2\nDepends: libc6\n")
	publish(t, filepath.Join(repo, "1", "dists", "bookworm"), "main/binary-amd64/Packages",
		"Package: bash\nVersion: 5.3\nDepends: libc6\n", "Package: agent\nVersion: 1\nDepends: helper\n")
	publish(t, filepath.Join(repo, "2"), "Packages", "Package: helper\nVersion: 1\nDepends: bash\n")
	answer, err := solveWith(t, repo,
		[]Source{{Dir: "1", Suite: "bookworm", Components: []string{"main"}, Further: true}, {Dir: "2", Suite: "/", Further: true}},
		Set{Name: "os", Install: []string{"bash"}},
		Set{Name: "extra", Install: []string{"agent"}, On: []string{"os"}, Further: true},
		Set{Name: "newer", Install: []string{"bash"}, On: []string{"os"}, Further: true},
		Set{Name: "again", Install: []string{"bash"}},
		Set{Name: "on newer", Install: []string{"helper", "bash"}, On: []string{"os", "newer"}, Further: true},
	)
	if err != nil {
		t.Fatal(err)
	}
	libc6, bash := ID{"libc6", "2.36-9", "amd64"}, ID{"bash", "5.2", "amd64"}
	for set, want := range map[string][]ID{
		"os": {libc6, bash}, "again": {libc6, bash},
		"extra": {{"helper", "1", "amd64"}, {"agent", "1", "amd64"}},
		"newer": {{"bash", "5.3", "amd64"}}, "on newer": {{"helper", "1", "amd64"}},
	} {
		if !reflect.DeepEqual(answer[set], want) {
			t.Errorf("set %s is %v, want %v", set, answer[set], want)
		}
	}
}

// What is installed is the very package that the index has, by all fields that apt
// tells versions apart by: it is not installed once more with others of its source, as
// apt 3 would.
func TestAPackageThatIsThereIsNotInstalledAgain(t *testing.T) {
	repo := repository(t,
		"Package: libc6\nVersion: 2.36-9\nInstalled-Size: 12986\n",
		"Package: libkeys\nSource: keys\nVersion: 1.6\nInstalled-Size: 41\nMulti-Arch: same\nDepends: libc6 (>= 2.14), libc6 (<< 3)\nBreaks: keys (<< 1)\nReplaces: keys (<< 1)\n",
		"Package: keys\nVersion: 1.6\nInstalled-Size: 93\nMulti-Arch: foreign\nDepends: libkeys (= 1.6)\n",
	)
	answer, err := solve(t, repo, Set{Name: "os", Install: []string{"libkeys"}}, Set{Name: "extra", Install: []string{"keys"}, On: []string{"os"}})
	if err != nil {
		t.Fatal(err)
	}
	if want := []ID{{"keys", "1.6", "amd64"}}; !reflect.DeepEqual(answer["extra"], want) {
		t.Errorf("on a system with libkeys, keys needs %v, want %v", answer["extra"], want)
	}
}

// An earlier lock has a bash that the archive has no longer.
func TestSetsGoOnTopOfWhatIsGiven(t *testing.T) {
	repo := repository(t,
		"Package: libc6\nVersion: 2.36-9\n",
		"Package: bash\nVersion: 5.3\nPre-Depends: libc6\n",
		"Package: agent\nVersion: 1\nDepends: bash\n",
		"Package: newer\nVersion: 1\nDepends: bash (>= 5.3)\n",
	)
	kept := "Package: bash\nVersion: 5.2\nArchitecture: amd64\nPre-Depends: libc6\nMaintainer: N <n@example.org>\nDescription: x\n"
	if err := os.WriteFile(filepath.Join(repo, "kept"), []byte(kept), 0o644); err != nil {
		t.Fatal(err)
	}
	given := []ID{{"libc6", "2.36-9", "amd64"}, {"bash", "5.2", "amd64"}}
	sets := []Set{
		{Name: "os", Given: given},
		{Name: "agent", Install: []string{"agent"}, On: []string{"os"}},
		{Name: "newer", Install: []string{"newer"}, On: []string{"os"}},
	}
	config := SolveConfig{Repo: repo, Kept: "kept", Sets: sets}
	answer, err := solveConfig(t, config)
	if err != nil {
		t.Fatal(err)
	}
	for set, want := range map[string][]ID{
		"os":    given,
		"agent": {{"agent", "1", "amd64"}},
		"newer": {{"bash", "5.3", "amd64"}, {"newer", "1", "amd64"}},
	} {
		if !reflect.DeepEqual(answer[set], want) {
			t.Errorf("set %s is %v, want %v", set, answer[set], want)
		}
	}
	config.Kept = ""
	if _, err := solveConfig(t, config); err == nil || !strings.Contains(err.Error(), "1 installed packages are in no index") {
		t.Errorf("without the stanza of what is kept: error %v", err)
	}
}

// Apt itself solves, on an index of ours.
func TestSolveAsksApt(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	repo := repository(t,
		"Package: libc6\nVersion: 2.36-9\n",
		"Package: bash\nVersion: 5.2\nEssential: yes\nPre-Depends: libc6 (>= 2)\nRecommends: completion\n",
		"Package: completion\nVersion: 1\nDepends: bash\n",
		"Package: jq\nVersion: 1.6\nDepends: libonig\n",
		"Package: jq\nVersion: 1.7\nDepends: libonig\n",
		"Package: onig5\nVersion: 6.9\nDepends: libc6\nProvides: libonig\n",
		"Package: rival\nVersion: 1\nConflicts: bash\n",
		"Package: orphan\nVersion: 1\nDepends: gone\n",
	)
	answer, err := solve(t, repo, Set{Name: "os", Install: []string{"bash"}}, Set{Name: "extra", Install: []string{"jq"}, On: []string{"os"}},
		Set{Name: "alone", Install: []string{"jq=1.6"}}, Set{Name: "there", Install: []string{"bash"}, On: []string{"os"}})
	if err != nil {
		t.Fatal(err)
	}
	libc6, onig5 := ID{"libc6", "2.36-9", "amd64"}, ID{"onig5", "6.9", "amd64"}
	for set, want := range map[string][]ID{
		"os":    {libc6, {"bash", "5.2", "amd64"}}, // what is recommended stays away
		"extra": {onig5, {"jq", "1.7", "amd64"}},   // libc6 is there
		"there": nil,
	} {
		if !reflect.DeepEqual(answer[set], want) {
			t.Errorf("set %s is %v, want %v", set, answer[set], want)
		}
	}
	if n := len(answer["alone"]); n == 0 || answer["alone"][n-1] != (ID{"jq", "1.6", "amd64"}) {
		t.Errorf("set alone is %v, want it to end with jq 1.6", answer["alone"])
	}
	if left, err := os.ReadDir(os.TempDir()); err != nil || len(left) > 0 {
		t.Errorf("apt's state is left: %v, %v", left, err)
	}
	for name, test := range map[string]struct {
		sets []Set
		want string
	}{
		"a package that is not there":    {[]Set{{Name: "os", Install: []string{"emacs"}}}, `package set "os": apt-get install`},
		"a dependency that is not":       {[]Set{{Name: "os", Install: []string{"orphan"}}}, "gone"},
		"one that would remove another":  {[]Set{{Name: "os", Install: []string{"bash"}}, {Name: "extra", Install: []string{"rival"}, On: []string{"os"}}}, `package set "extra"`},
		"a set on one that is not there": {[]Set{{Name: "extra", Install: []string{"jq"}, On: []string{"os"}}}, `is on "os", which is no earlier set`},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := solve(t, repo, test.sets...); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("error %v, want one with %q", err, test.want)
			}
		})
	}
}

func TestSolveRefusesAnIndexThatIsNotTheReleases(t *testing.T) {
	repo := repository(t, "Package: libc6\nVersion: 2.36-9\n")
	index := filepath.Join(repo, "0/dists/bookworm/main/binary-amd64/Packages")
	if err := os.WriteFile(index, []byte("Package: evil\nVersion: 1\nArchitecture: amd64\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if answer, err := solve(t, repo, Set{Name: "os", Install: []string{"libc6"}}); err == nil {
		t.Errorf("apt took it and answered %v", answer)
	}
}
