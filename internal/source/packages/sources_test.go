package packages

import (
	"strings"
	"testing"

	"nodesmith.dev/nodesmith/internal/deb"
	"nodesmith.dev/nodesmith/internal/distro"
	"nodesmith.dev/nodesmith/internal/distro/known"
	"nodesmith.dev/nodesmith/internal/keyring"
)

// nodeFiles is NodeFiles as a map.
func nodeFiles(t *testing.T, release distro.Release, repositories ...Repository) map[string]string {
	t.Helper()
	files, err := NodeFiles(release, repositories)
	if err != nil {
		t.Fatal(err)
	}
	content := map[string]string{}
	for _, f := range files {
		content[f.Path] = f.Content
	}
	if len(content) != len(files) {
		t.Errorf("%d files of %d paths", len(files), len(content))
	}
	return content
}

func TestTheNodesOwnSourcesAreThoseOfTheRelease(t *testing.T) {
	for distribution, versions := range known.Versions() {
		for _, version := range versions {
			r, _ := known.Release(distribution, version, "amd64")
			list := nodeFiles(t, r)[r.SourcesPath]
			for _, a := range r.Archives {
				line := "deb [signed-by=" + r.KeyringPath + "] " + a.URL + " " + a.Suite + " " + strings.Join(a.Components, " ") + "\n"
				stanza := "Types: deb\nURIs: " + a.URL + "\nSuites: " + a.Suite + "\nComponents: " + strings.Join(a.Components, " ") + "\nSigned-By: " + r.KeyringPath + "\n\n"
				want := line
				if strings.HasSuffix(r.SourcesPath, ".sources") {
					want = stanza
				}
				if !strings.Contains(list, want) {
					t.Errorf("%s %s: %s is %q, without %q", distribution, version, r.SourcesPath, list, want)
				}
			}
		}
	}
}

func TestArchivesOfTheSpecBringTheirKeysToTheNode(t *testing.T) {
	key := newKey(t, "company", 0)
	r, _ := known.Release("ubuntu", "24.04", "amd64")
	company := distro.Archive{URL: "https://archive.example.org/ubuntu", Suite: "noble", Components: []string{"main"}, Keyring: armored(t, key)}
	updates := company
	updates.Suite = "noble-updates"
	r.Archives = []distro.Archive{company, updates, r.Archives[2]}
	files := nodeFiles(t, r)
	if len(files) != 2 {
		t.Errorf("files %v, want the sources and one key", files)
	}
	var signedBy []string
	err := deb.Stanzas(strings.NewReader(files["/etc/apt/sources.list.d/ubuntu.sources"]), func(s deb.Stanza) (bool, error) {
		signedBy = append(signedBy, s["Signed-By"])
		return true, nil
	})
	if err != nil || len(signedBy) != 3 || signedBy[0] != signedBy[1] || signedBy[2] != r.KeyringPath {
		t.Fatalf("signed by %q, %v", signedBy, err)
	}
	if ring, err := keyring.Parse([]byte(files[signedBy[0]])); err != nil || ring.Keys[0].PrimaryKey.KeyIdString() != key.PrimaryKey.KeyIdString() {
		t.Errorf("%s: %v", signedBy[0], err)
	}
}

func TestRepositoriesAreFilesOfTheirOwn(t *testing.T) {
	one, two := newKey(t, "one", 0), newKey(t, "two", 0)
	r, _ := known.Release("ubuntu", "20.04", "amd64")
	files := nodeFiles(t, r,
		Repository{"docker", distro.Archive{URL: "https://a/linux", Suite: "focal", Components: []string{"stable", "test"}, Keyring: armored(t, one, two)}},
		Repository{"flat", distro.Archive{URL: "https://b", Suite: "/", Keyring: armored(t, one)}},
		Repository{"lab", distro.Archive{URL: "http://c", Suite: "s", Components: []string{"main"}, Unsigned: true}},
	)
	for path, want := range map[string]string{
		"/etc/apt/sources.list.d/docker.sources": "Types: deb\nURIs: https://a/linux\nSuites: focal\nComponents: stable test\nSigned-By: /etc/apt/keyrings/docker.asc\n\n",
		"/etc/apt/sources.list.d/flat.sources":   "Types: deb\nURIs: https://b\nSuites: /\nSigned-By: /etc/apt/keyrings/flat.asc\n\n",
		"/etc/apt/sources.list.d/lab.sources":    "Types: deb\nURIs: http://c\nSuites: s\nComponents: main\nTrusted: yes\n\n",
	} {
		if files[path] != want {
			t.Errorf("%s is %q, want %q", path, files[path], want)
		}
	}
	// apt 2.0 reads no further than a file's first block.
	if n := strings.Count(files["/etc/apt/keyrings/docker.asc"], "BEGIN PGP"); n != 1 || files["/etc/apt/keyrings/lab.asc"] != "" {
		t.Errorf("%d blocks in docker.asc, lab.asc %q", n, files["/etc/apt/keyrings/lab.asc"])
	}
}
