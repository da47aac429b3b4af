package faults

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp"
	"github.com/ProtonMail/go-crypto/openpgp/armor"
	"github.com/ProtonMail/go-crypto/openpgp/clearsign"
	"github.com/ProtonMail/go-crypto/openpgp/packet"

	"nodesmith.dev/nodesmith/internal/deb"
	"nodesmith.dev/nodesmith/internal/distro"
	"nodesmith.dev/nodesmith/internal/distro/known"
	"nodesmith.dev/nodesmith/internal/fetch"
	"nodesmith.dev/nodesmith/internal/host"
	"nodesmith.dev/nodesmith/internal/lock"
	"nodesmith.dev/nodesmith/internal/source/packages"
	"nodesmith.dev/nodesmith/internal/testenv"
)

// archiveURL is what locks call the archive; its servers are mirrors.
const archiveURL = "http://archive.company.invalid/debian"

// systemPackages make a system on which dpkg runs, toolPackages what disks are
// made with; both with what they depend on.
var (
	systemPackages = []string{"dpkg", "tar", "diffutils", "dash", "coreutils", "sed", "mawk", "base-passwd", "libc-bin", "libcap2-bin", "iputils-ping"}
	toolPackages   = []string{"xz-utils", "e2fsprogs"}
)

// archive is a Debian archive on this machine: a few of Debian's own packages,
// signed with a key of the test's.
type archive struct {
	release distro.Release
	// system and tools are the packages' names.
	system, tools []string
	// inRelease and index are its files, pool maps a path to a package file.
	inRelease, index string
	pool             map[string]string
	date             time.Time
	key              *openpgp.Entity
}

// theArchive is made once: its packages are fetched from Debian's archive.
var theArchive = sync.OnceValues(makeArchive)

// needArchive returns the archive.
func needArchive(t testing.TB) *archive {
	t.Helper()
	testenv.NeedRoot(t)
	testenv.Need(t, "runc")
	a, err := theArchive()
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func makeArchive() (*archive, error) {
	settings, err := host.Read()
	if err != nil {
		return nil, err
	}
	debian, ok := known.Release("debian", "12", "amd64")
	if !ok {
		return nil, fmt.Errorf("there is no Debian 12")
	}
	cache := fetch.New(filepath.Join(settings.CacheDir, "downloads"), settings.Mirrors)
	debian.Archives = debian.Archives[:1]
	snapshot, err := packages.Take(theContext, cache, debian, nil, time.Now())
	if err != nil {
		return nil, err
	}
	a := &archive{release: debian, pool: map[string]string{}, date: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)}
	var all []lock.Package
	for _, set := range []struct {
		roots []string
		names *[]string
	}{{systemPackages, &a.system}, {toolPackages, &a.tools}} {
		closure, err := snapshot.Closure(set.roots...)
		if err != nil {
			return nil, err
		}
		for _, p := range closure {
			*set.names = append(*set.names, p.Name)
		}
		all = append(all, closure...)
	}
	files, err := packages.Fetch(theContext, cache, all)
	if err != nil {
		return nil, err
	}
	for i, p := range all {
		path := "pool/" + packages.Name(p)
		if _, has := a.pool[path]; has {
			continue
		}
		a.pool[path] = files[i].Path
		a.index += fmt.Sprintf("Package: %s\nVersion: %s\nArchitecture: %s\nFilename: %s\nSize: %d\nSHA256: %s\n\n", p.Name, p.Version, p.Architecture, path, p.Size, p.SHA256)
	}
	a.release.Presets = map[string]string{"tmp/.keep": ""} // base-files' otherwise
	a.release.Archives = []distro.Archive{{URL: archiveURL, Suite: "bookworm", Components: []string{"main"}}}
	if err := a.addClock(); err != nil {
		return nil, err
	}
	return a, a.sign()
}

// clockPackage has the library that turns the clock; it is in the archive where
// there is a compiler.
const clockPackage = "clock"

// addClock compiles and packs it.
func (a *archive) addClock() error {
	if _, err := exec.LookPath("gcc"); err != nil {
		return nil //nolint:nilerr // the test that needs it says so
	}
	tree := filepath.Join(workDir, clockPackage)
	for name, text := range map[string]string{
		"usr/lib/.keep": "", "DEBIAN/control": "Package: clock\nVersion: 1\nArchitecture: amd64\nMaintainer: Company <archive@company.invalid>\nDescription: turns the clock\n",
	} {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(tree, name)), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(tree, name), []byte(text), 0o644); err != nil {
			return err
		}
	}
	path := "pool/clock_1_amd64.deb"
	a.pool[path] = tree + ".deb"
	for _, args := range [][]string{
		{"gcc", "-O2", "-shared", "-fPIC", "-o", filepath.Join(tree, "usr/lib/clock.so"), "testdata/clock.c"},
		{"dpkg-deb", "--root-owner-group", "--build", tree, a.pool[path]},
	} {
		if out, err := exec.CommandContext(theContext, args[0], args[1:]...).CombinedOutput(); err != nil {
			return fmt.Errorf("%v: %w\n%s", args, err, out)
		}
	}
	data, err := os.ReadFile(a.pool[path])
	if err != nil {
		return err
	}
	sum := sha256.Sum256(data)
	a.index += fmt.Sprintf("Package: clock\nVersion: 1\nArchitecture: amd64\nFilename: %s\nSize: %d\nSHA256: %s\n\n", path, len(data), hex.EncodeToString(sum[:]))
	return nil
}

// sign makes the InRelease file and the keyring that its signature holds with.
func (a *archive) sign() (err error) {
	config := &packet.Config{Time: func() time.Time { return a.date }, Algorithm: packet.PubKeyAlgoEdDSA}
	if a.key, err = openpgp.NewEntity("Company", "archive of a test", "archive@company.invalid", config); err != nil {
		return err
	}
	var keyring, signed bytes.Buffer
	w, err := armor.Encode(&keyring, openpgp.PublicKeyType, nil)
	if err != nil {
		return err
	}
	if err := a.key.Serialize(w); err != nil {
		return err
	}
	if err := w.Close(); err != nil {
		return err
	}
	a.release.Keyring = keyring.Bytes()
	const layout = "Mon, 02 Jan 2006 15:04:05 UTC"
	sum := sha256.Sum256([]byte(a.index))
	text, err := clearsign.Encode(&signed, a.key.PrivateKey, config)
	if err != nil {
		return err
	}
	fmt.Fprintf(text, "Origin: Company\nSuite: stable\nCodename: bookworm\nDate: %s\nValid-Until: %s\nArchitectures: amd64\nComponents: main\nSHA256:\n %s %d main/binary-amd64/Packages\n",
		a.date.Format(layout), a.date.AddDate(2, 0, 0).Format(layout), hex.EncodeToString(sum[:]), len(a.index))
	if err := text.Close(); err != nil {
		return err
	}
	a.inRelease = signed.String()
	return nil
}

// ServeHTTP serves the archive.
func (a *archive) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	path := strings.TrimPrefix(r.URL.Path, "/")
	switch path {
	case "dists/bookworm/InRelease":
		_, _ = w.Write([]byte(a.inRelease))
	case "dists/bookworm/main/binary-amd64/Packages":
		_, _ = w.Write([]byte(a.index))
	default:
		if file, ok := a.pool[path]; ok {
			http.ServeFile(w, r, file)
			return
		}
		http.NotFound(w, r)
	}
}

// serve starts a mirror; around may change what it answers.
func (a *archive) serve(t testing.TB, around func(http.Handler) http.Handler) string {
	t.Helper()
	handler := http.Handler(a)
	if around != nil {
		handler = around(handler)
	}
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	return server.URL
}

// lock returns the lock of the archive as it is.
func (a *archive) lock(index []byte) (*lock.Lock, error) {
	byName, err := packagesOf(index)
	if err != nil {
		return nil, err
	}
	l := &lock.Lock{Architecture: "amd64", Epoch: a.date}
	for _, name := range a.system {
		l.OS.Packages = append(l.OS.Packages, byName[name])
	}
	for _, name := range a.tools {
		l.Tools.Packages = append(l.Tools.Packages, byName[name])
	}
	return l, nil
}

// packagesOf reads an index of the archive.
func packagesOf(index []byte) (map[string]lock.Package, error) {
	read, err := deb.ReadIndex(bytes.NewReader(index))
	if err != nil {
		return nil, err
	}
	byName := map[string]lock.Package{}
	for _, p := range read.Packages {
		byName[p.Name] = lock.Package{
			Name: p.Name, Version: p.Version, Architecture: p.Architecture, URL: archiveURL + "/" + p.Filename, SHA256: p.SHA256, Size: p.Size, Ground: true,
		}
	}
	return byName, nil
}

// writeFile is os.WriteFile for tests.
func writeFile(t testing.TB, name string, data []byte) {
	t.Helper()
	if err := os.WriteFile(name, data, 0o644); err != nil {
		t.Fatal(err)
	}
}
