package packages

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/ProtonMail/go-crypto/openpgp"
	"github.com/klauspost/compress/gzip"

	"nodesmith.dev/nodesmith/internal/bundle"
	"nodesmith.dev/nodesmith/internal/distro"
	"nodesmith.dev/nodesmith/internal/fault"
	"nodesmith.dev/nodesmith/internal/fetch"
	"nodesmith.dev/nodesmith/internal/lock"
	"nodesmith.dev/nodesmith/internal/source/packages/step"
	"nodesmith.dev/nodesmith/internal/testenv"
)

// publisher is an archive's URL as locks name it; the test's server is its mirror.
const publisher = "http://publisher.invalid/debian"

// entry is a package of the test's archive: its content stands for a .deb.
type entry struct{ name, version, fields string }

func (e entry) content() string { return "the .deb of " + e.name + " " + e.version }

func (e entry) stanza() string {
	return fmt.Sprintf("Package: %s\nVersion: %s\nArchitecture: amd64\nFilename: pool/%s_%s.deb\nSize: %d\nSHA256: %s\n%s\n",
		e.name, e.version, e.name, e.version, len(e.content()), digestOf(e.content()), e.fields)
}

// main and security are the packages of two suites.
var (
	main = []entry{
		{"apt", "2.6.1", "Depends: libc6, libapt\n"},
		{"libapt", "2.6.1", "Depends: libc6\n"},
		{"dpkg", "1.21", "Essential: yes\nPre-Depends: libc6, tar\n"},
		{"tar", "1.34", "Essential: yes\nPre-Depends: libc6\n"},
		{"libc6", "2.36-9", ""},
		{"xz-utils", "5.4.1", "Depends: libc6\n"},
		{"emacs", "1:28.2+1", "Depends: libc6\n"},
	}
	security = []entry{
		{"tar", "1.34+deb12u1", "Essential: yes\nPre-Depends: libc6\n"},
		{"emacs", "1:28.2+1", "Depends: libc6\n"}, // the same in both
	}
)

// archive is a mirror of signed suites.
type archive struct {
	t     *testing.T
	mutex sync.Mutex
	files map[string]string
	asked []string
}

func (a *archive) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	a.mutex.Lock()
	data, ok := a.files[r.URL.Path]
	a.asked = append(a.asked, r.URL.Path)
	a.mutex.Unlock()
	if !ok {
		http.NotFound(w, r)
		return
	}
	_, _ = io.WriteString(w, data)
}

// suite publishes a suite's packages in one compression, signed by key.
func (a *archive) suite(suite, compression string, key *openpgp.Entity, entries []entry) {
	a.t.Helper()
	var plain strings.Builder
	for _, e := range entries {
		plain.WriteString(e.stanza())
		a.files["/pool/"+e.name+"_"+e.version+".deb"] = e.content()
	}
	packed := compress(a.t, plain.String(), compression)
	a.files["/dists/"+suite+"/main/binary-amd64/by-hash/SHA256/"+digestOf(packed)] = packed
	a.files["/dists/"+suite+"/InRelease"] = string(sign(a.t, releaseText("Codename", suite, "SHA256", fmt.Sprintf(
		"\n %s %d main/binary-amd64/Packages\n %s %d main/binary-amd64/Packages%s",
		digestOf(plain.String()), plain.Len(), digestOf(packed), len(packed), compression)), key))
}

func compress(t *testing.T, text, suffix string) string {
	t.Helper()
	var packed bytes.Buffer
	switch suffix {
	case ".gz":
		z := gzip.NewWriter(&packed)
		_, _ = io.WriteString(z, text)
		_ = z.Close()
	case ".xz":
		testenv.Need(t, "xz")
		cmd := exec.Command("xz", "--stdout")
		cmd.Stdin, cmd.Stdout = strings.NewReader(text), &packed
		if err := cmd.Run(); err != nil {
			t.Fatal(err)
		}
	}
	return packed.String()
}

// serve returns an archive with both suites, a cache in front of it and the
// release that names them.
func serve(t *testing.T) (*archive, *fetch.Cache, distro.Release) {
	t.Helper()
	key := newKey(t, "archive", 0)
	a := &archive{t: t, files: map[string]string{}}
	a.suite("bookworm", ".gz", key, main)
	a.suite("bookworm-security", ".xz", key, security)
	server := httptest.NewServer(a)
	t.Cleanup(server.Close)
	release := distro.Release{
		Distro: "debian", Version: "12", Architecture: "amd64", Keyring: armored(t, key),
		Archives: []distro.Archive{
			{URL: publisher, Suite: "bookworm", Components: []string{"main"}},
			{URL: publisher, Suite: "bookworm-security", Components: []string{"main"}},
		},
	}
	return a, fetch.New(t.TempDir(), map[string][]string{publisher: {server.URL}}), release
}

func take(t *testing.T) (*Snapshot, *archive, *fetch.Cache) {
	t.Helper()
	a, cache, release := serve(t)
	snapshot, err := Take(t.Context(), cache, release, nil, today)
	if err != nil {
		t.Fatal(err)
	}
	return snapshot, a, cache
}

func filesOf(t *testing.T, source bundle.Source) []bundle.File {
	t.Helper()
	files, err := source.Files()
	if err != nil {
		t.Fatal(err)
	}
	return files
}

func names(set []lock.Package) []string {
	var all []string
	for _, p := range set {
		all = append(all, p.Name+" "+p.Version)
	}
	return all
}

func TestTakeReadsEverySuite(t *testing.T) {
	snapshot, a, cache := take(t)
	if len(snapshot.Archives) != 2 || snapshot.Archives[0].Suite != "bookworm" || snapshot.Archives[1].Suite != "bookworm-security" {
		t.Errorf("archives %+v", snapshot.Archives)
	}
	for _, locked := range snapshot.Archives {
		if locked.URL != publisher || locked.Release != digestOf(a.files["/dists/"+locked.Suite+"/InRelease"]) {
			t.Errorf("archive %+v is not what the publisher signed", locked)
		}
	}
	if got, want := snapshot.Essential(), []string{"dpkg", "tar"}; !reflect.DeepEqual(got, want) {
		t.Errorf("essential %q, want %q", got, want)
	}
	// Only what is signed anew is asked for again.
	a.asked = nil
	if _, err := Take(t.Context(), cache, snapshot.Release, nil, today); err != nil {
		t.Fatal(err)
	}
	if want := []string{"/dists/bookworm/InRelease", "/dists/bookworm-security/InRelease"}; !reflect.DeepEqual(a.asked, want) {
		t.Errorf("asked for %q, want %q", a.asked, want)
	}
}

// repositories publishes a repository for each way that they differ from a
// distribution's archive, and returns them.
func (a *archive) repositories(key *openpgp.Entity) []Repository {
	agent, doc := entry{"agent", "1", "Depends: libc6\n"}, entry{"doc", "1", ""}
	for _, e := range []entry{agent, doc, {"flat", "1", ""}, {"odd", "1", ""}} {
		a.files["/pool/"+e.name+"_"+e.version+".deb"] = e.content()
	}
	index := func(path, text string) string {
		a.files[path] = text
		return digestOf(text) + " " + fmt.Sprint(len(text)) + " "
	}
	a.files["/dists/stable/InRelease"] = string(sign(a.t, releaseText("Codename", "", "Suite", "stable", "Architectures", "all amd64", "Acquire-By-Hash", "", "Valid-Until", "",
		"SHA256", "\n "+index("/dists/stable/main/binary-amd64/Packages", agent.stanza())+"main/binary-amd64/Packages\n "+
			index("/dists/stable/main/binary-all/Packages", doc.stanza())+"main/binary-all/Packages"), key))
	a.files["/deb/InRelease"] = string(sign(a.t, releaseText("Codename", "", "Suite", "", "Acquire-By-Hash", "",
		"SHA256", "\n "+index("/deb/Packages", entry{"flat", "1", ""}.stanza())+"Packages"), key))
	a.files["/dists/lab/Release"] = releaseText("Codename", "lab", "Acquire-By-Hash", "",
		"SHA256", "\n "+index("/dists/lab/main/binary-amd64/Packages", entry{"odd", "1", "Essential: yes\n"}.stanza())+"main/binary-amd64/Packages")
	ring := armored(a.t, key)
	return []Repository{
		{"stable", distro.Archive{URL: publisher, Suite: "stable", Components: []string{"main"}, Keyring: ring}},
		{"flat", distro.Archive{URL: publisher + "/deb", Suite: "/", Keyring: ring}},
		{"lab", distro.Archive{URL: publisher, Suite: "lab", Components: []string{"main"}, Unsigned: true}},
	}
}

func TestTakeReadsRepositoriesOfEveryForm(t *testing.T) {
	a, cache, release := serve(t)
	snapshot, err := Take(t.Context(), cache, release, a.repositories(newKey(t, "vendor", 0)), today)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := snapshot.Essential(), []string{"dpkg", "tar"}; !reflect.DeepEqual(got, want) {
		t.Errorf("essential %q, want %q: no repository decides that", got, want)
	}
	if len(snapshot.Archives) != 2 || len(snapshot.Further) != 3 || snapshot.Further[0].SignedBy == "" || snapshot.Further[2].SignedBy != "" {
		t.Errorf("archives %+v, further %+v", snapshot.Archives, snapshot.Further)
	}
	question, indices := snapshot.Question()
	files := filesOf(t, indices)
	for i, source := range question.Sources {
		if source.Further != (i >= 2) {
			t.Errorf("source %+v", source)
		}
	}
	var names []string
	for _, f := range files[4:] {
		names = append(names, f.Name)
	}
	if want := []string{
		"2/dists/stable/InRelease", "2/dists/stable/main/binary-amd64/Packages", "2/dists/stable/main/binary-all/Packages",
		"3/InRelease", "3/Packages", "4/dists/lab/Release", "4/dists/lab/main/binary-amd64/Packages",
	}; !reflect.DeepEqual(names, want) {
		t.Errorf("files %q, want %q", names, want)
	}
	set, err := snapshot.Resolve([]step.ID{{Name: "doc", Version: "1", Architecture: "amd64"}, {Name: "flat", Version: "1", Architecture: "amd64"}}, true)
	if err != nil || len(set.Archives) != 5 || set.Packages[1].URL != publisher+"/deb/pool/flat_1.deb" {
		t.Errorf("set %+v, %v", set, err)
	}
}

func TestTakeHoldsRepositoriesToTheirKeys(t *testing.T) {
	key, other := newKey(t, "vendor", 0), newKey(t, "other", 0)
	for name, test := range map[string]struct {
		spoil func(*archive, []Repository)
		want  string
	}{
		"signed by another":            {func(_ *archive, r []Repository) { r[0].Keyring = armored(t, other) }, "repository stable: "},
		"a flat one signed by another": {func(_ *archive, r []Repository) { r[1].Keyring = armored(t, other) }, "repository flat: "},
		"unsigned, with keys":          {func(_ *archive, r []Repository) { r[2].Unsigned, r[2].Keyring = false, armored(t, key) }, "404"},
		"no keys":                      {func(_ *archive, r []Repository) { r[0].Keyring = nil }, "no public key"},
		"an altered index": {func(a *archive, _ []Repository) {
			a.files["/deb/Packages"] = strings.Replace(a.files["/deb/Packages"], "flat", "evil", 1)
		}, "the lock says"},
		"an expired unsigned one": {func(a *archive, _ []Repository) {
			a.files["/dists/lab/Release"] = releaseText("Codename", "lab", "Valid-Until", "Sun, 01 Mar 2026 10:00:00 UTC")
		}, "expired on"},
	} {
		t.Run(name, func(t *testing.T) {
			a, cache, release := serve(t)
			repositories := a.repositories(key)
			test.spoil(a, repositories)
			if _, err := Take(t.Context(), cache, release, repositories, today); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("error %v, want one with %q", err, test.want)
			}
		})
	}
}

func TestTakeRefuses(t *testing.T) {
	stranger := newKey(t, "stranger", 0)
	tests := map[string]struct {
		spoil func(*archive, *distro.Release)
		kind  fault.Kind
		want  string
	}{
		"a suite signed by a stranger": {func(a *archive, _ *distro.Release) { a.suite("bookworm", ".gz", stranger, main) }, fault.Unverifiable, "signature does not hold"},
		"a suite that is not there":    {func(a *archive, _ *distro.Release) { delete(a.files, "/dists/bookworm-security/InRelease") }, fault.Network, "404"},
		"a component that is not":      {func(_ *archive, r *distro.Release) { r.Archives[0].Components = []string{"contrib"} }, fault.Unverifiable, "has no contrib/binary-amd64/Packages"},
		"an index that changed": {func(a *archive, _ *distro.Release) {
			for path := range a.files {
				if strings.Contains(path, "by-hash") {
					a.files[path] = compress(a.t, "Package: evil\n", ".gz")
				}
			}
		}, fault.Unverifiable, "the lock says"},
		"a keyring without a key": {func(_ *archive, r *distro.Release) { r.Keyring = nil }, fault.Unverifiable, "no public key"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a, cache, release := serve(t)
			test.spoil(a, &release)
			_, err := Take(t.Context(), cache, release, nil, today)
			if err == nil || fault.KindOf(err) != test.kind || !strings.Contains(err.Error(), test.want) {
				t.Errorf("%v error %v, want %v with %q", fault.KindOf(err), err, test.kind, test.want)
			}
		})
	}
}

func TestBootstrapHasWhatAptNeeds(t *testing.T) {
	snapshot, _, _ := take(t)
	bootstrap, err := snapshot.Bootstrap()
	if err != nil {
		t.Fatal(err)
	}
	got := names(bootstrap)
	slices.Sort(got)
	if want := []string{"apt 2.6.1", "dpkg 1.21", "libapt 2.6.1", "libc6 2.36-9", "tar 1.34+deb12u1", "xz-utils 5.4.1"}; !reflect.DeepEqual(got, want) {
		t.Errorf("bootstrap %q, want %q", got, want)
	}
	for _, p := range bootstrap {
		if p.URL != publisher+"/pool/"+p.Name+"_"+p.Version+".deb" || len(p.SHA256) != 64 || p.Size == 0 {
			t.Errorf("package %+v is not locked", p)
		}
	}
}

func TestQuestionHoldsTheVerifiedIndices(t *testing.T) {
	snapshot, a, _ := take(t)
	question, indices := snapshot.Question(step.Set{Name: "os", Install: []string{"apt"}})
	files := filesOf(t, indices)
	want := step.SolveConfig{
		Architecture: "amd64",
		Sources: []step.Source{
			{Dir: "0", Suite: "bookworm", Components: []string{"main"}},
			{Dir: "1", Suite: "bookworm-security", Components: []string{"main"}},
		},
		Sets: []step.Set{{Name: "os", Install: []string{"apt"}}},
	}
	if !reflect.DeepEqual(question, want) {
		t.Errorf("question %+v, want %+v", question, want)
	}
	var got []string
	for _, f := range files {
		got = append(got, f.Name)
		data := f.Data
		if f.Path != "" {
			var err error
			if data, err = os.ReadFile(f.Path); err != nil {
				t.Fatal(err)
			}
		}
		if strings.HasSuffix(f.Name, "InRelease") != bytes.HasPrefix(data, []byte(signedMessage)) || strings.HasSuffix(f.Name, "Packages") != bytes.HasPrefix(data, []byte("Package: ")) {
			t.Errorf("%s begins with %.40q", f.Name, data)
		}
	}
	if want := []string{
		"0/dists/bookworm/InRelease", "0/dists/bookworm/main/binary-amd64/Packages",
		"1/dists/bookworm-security/InRelease", "1/dists/bookworm-security/main/binary-amd64/Packages",
	}; !reflect.DeepEqual(got, want) {
		t.Errorf("files %q, want %q", got, want)
	}
	if string(files[0].Data) != a.files["/dists/bookworm/InRelease"] {
		t.Error("InRelease is not the signed file")
	}
}

// The lock that is kept has a tar that the archive had before.
func TestKeptPackagesThatNoIndexHasAreReadFromTheirFiles(t *testing.T) {
	snapshot, a, _ := take(t)
	_, plain := snapshot.Question()
	content := packed(t, "Package: tar\nVersion: 1.30\nArchitecture: amd64\nPre-Depends: libc6\nMaintainer: N <n@example.org>\nDescription: x\n of two lines\n")
	a.files["/pool/tar_1.30.deb"] = content
	older := lock.Package{Name: "tar", Version: "1.30", Architecture: "amd64", URL: publisher + "/pool/tar_1.30.deb", SHA256: digestOf(content), Size: int64(len(content))}
	a.asked = nil
	if err := snapshot.Keep(t.Context(), []lock.Package{{Name: "libc6", Version: "2.36-9", Architecture: "amd64"}, older}); err != nil {
		t.Fatal(err)
	}
	if want := []string{"/pool/tar_1.30.deb"}; !reflect.DeepEqual(a.asked, want) {
		t.Errorf("asked for %q, want %q: of what an index has, it tells", a.asked, want)
	}
	question, indices := snapshot.Question()
	files := filesOf(t, indices)
	last := files[len(files)-1]
	if last.Name != question.Kept || !strings.HasPrefix(string(last.Data), "Package: tar\nVersion: 1.30\n") || strings.Count(string(last.Data), "Package: ") != 1 {
		t.Errorf("%s (%s is kept) holds %q", last.Name, question.Kept, last.Data)
	}
	if plain.Key == indices.Key {
		t.Error("what is kept does not decide the key")
	}
	older.Version, older.SHA256 = "1.29", digestOf("another")
	if err := snapshot.Keep(t.Context(), []lock.Package{older}); fault.KindOf(err) != fault.Unverifiable {
		t.Errorf("a file of another digest: error %v", err)
	}
}

// packed returns a .deb of a control file alone.
func packed(t *testing.T, control string) string {
	t.Helper()
	testenv.Need(t, "dpkg-deb")
	root := filepath.Join(t.TempDir(), "root")
	if err := os.MkdirAll(filepath.Join(root, "DEBIAN"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(root, "DEBIAN/control"), []byte(control), 0o644); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("dpkg-deb", "--build", root, root+".deb").CombinedOutput(); err != nil {
		t.Fatalf("dpkg-deb: %v\n%s", err, out)
	}
	data, err := os.ReadFile(root + ".deb")
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func TestResolveLocksAptsAnswer(t *testing.T) {
	snapshot, _, _ := take(t)
	set, err := snapshot.Resolve([]step.ID{{Name: "tar", Version: "1.34+deb12u1", Architecture: "amd64"}, {Name: "emacs", Version: "1:28.2+1", Architecture: "amd64"}}, false)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := names(set.Packages), []string{"tar 1.34+deb12u1", "emacs 1:28.2+1"}; !reflect.DeepEqual(got, want) || len(set.Archives) != 2 {
		t.Errorf("set %q of %d archives, want %q of 2", got, len(set.Archives), want)
	}
	for _, id := range []step.ID{{Name: "vim", Version: "9", Architecture: "amd64"}, {Name: "tar", Version: "9", Architecture: "amd64"}, {Name: "tar", Version: "1.34", Architecture: "i386"}} {
		if _, err := snapshot.Resolve([]step.ID{id}, false); err == nil || !strings.Contains(err.Error(), "apt chose "+id.Name+" "+id.Version) {
			t.Errorf("%v: error %v", id, err)
		}
	}
}

func TestFetchReturnsVerifiedFiles(t *testing.T) {
	snapshot, a, cache := take(t)
	set, err := snapshot.Bootstrap()
	if err != nil {
		t.Fatal(err)
	}
	files, err := Fetch(t.Context(), cache, set)
	if err != nil {
		t.Fatal(err)
	}
	for i, f := range files {
		data, err := os.ReadFile(f.Path)
		if err != nil || digestOf(string(data)) != set[i].SHA256 || f.Name != Name(set[i]) {
			t.Errorf("%s holds %q, %v", f.Name, data, err)
		}
	}
	if len(files) != len(set) {
		t.Errorf("%d files of %d packages", len(files), len(set))
	}
	a.files["/pool/emacs_1:28.2+1.deb"] = "something else"
	emacs, err := snapshot.Resolve([]step.ID{{Name: "emacs", Version: "1:28.2+1", Architecture: "amd64"}}, false)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Fetch(t.Context(), cache, emacs.Packages); fault.KindOf(err) != fault.Unverifiable {
		t.Errorf("an altered package: error %v", err)
	}
	if _, err := Fetch(t.Context(), cache, []lock.Package{{Name: "x", URL: publisher + "/x"}}); fault.KindOf(err) != fault.Unverifiable {
		t.Errorf("a package without digest: error %v", err)
	}
}

func TestNamesAndKey(t *testing.T) {
	a := lock.Package{Name: "libstdc++6", Version: "1:12.2", Architecture: "amd64", SHA256: digestOf("a"), URL: "http://x/a", Size: 1}
	b := lock.Package{Name: "libc6", Version: "2", Architecture: "all", SHA256: digestOf("b")}
	if got, want := Name(a), "libstdc++6_"+digestOf("a")[:12]+"_amd64.deb"; got != want {
		t.Errorf("name %s, want %s", got, want)
	}
	if got, want := Names([]lock.Package{a, b}), []string{Name(a), Name(b)}; !reflect.DeepEqual(got, want) {
		t.Errorf("names %q, want %q", got, want)
	}
	key := Key([]lock.Package{a, b})
	moved := a
	moved.URL, moved.Ground = "http://y/a", true
	if Key([]lock.Package{moved, b}) != key {
		t.Error("where a package comes from decides the key")
	}
	tail := a
	tail.SHA256 = a.SHA256[:12] + hex.EncodeToString(make([]byte, 26))
	renamed := a
	renamed.Name = "libstdc++7"
	for name, other := range map[string][]lock.Package{"a digest": {tail, b}, "a name": {renamed, b}, "one less": {a}, "none": nil} {
		if Key(other) == key {
			t.Errorf("%s does not decide the key", name)
		}
	}
}

func TestGroundMarksACopy(t *testing.T) {
	set := lock.PackageSet{Packages: []lock.Package{{Name: "libc6"}, {Name: "emacs"}, {Name: "dpkg"}}}
	got := Ground(set, lock.PackageSet{Packages: []lock.Package{{Name: "dpkg"}, {Name: "libc6"}, {Name: "gone"}}})
	for i, want := range []bool{true, false, true} {
		if got.Packages[i].Ground != want {
			t.Errorf("%s is ground: %v, want %v", got.Packages[i].Name, !want, want)
		}
		if set.Packages[i].Ground {
			t.Errorf("%s changed in the caller's set", set.Packages[i].Name)
		}
	}
}
