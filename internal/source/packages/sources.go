package packages

import (
	"fmt"
	"path"
	"strings"

	"nodesmith.dev/nodesmith/internal/distro"
	"nodesmith.dev/nodesmith/internal/keyring"
)

// Where apt has its further sources and the keys that they name
// (sources.list(5), apt-secure(8)).
const (
	sourcesDir  = "/etc/apt/sources.list.d"
	keyringsDir = "/etc/apt/keyrings"
)

// NodeFile is a file that the node's own package management goes by.
type NodeFile struct{ Path, Content string }

// NodeFiles returns the files that make the release's archives, and further
// repositories, the node's own: lists of sources, each bound to the keys that
// may sign it.
func NodeFiles(release distro.Release, repositories []Repository) ([]NodeFile, error) {
	var files []NodeFile
	var list strings.Builder
	keys := map[string]bool{}
	for _, archive := range release.Archives {
		signedBy := release.KeyringPath
		if archive.Keyring != nil {
			ring, err := keyring.Parse(archive.Keyring)
			if err != nil {
				return nil, fmt.Errorf("the keyring of %s %w", archive.URL, err)
			}
			signedBy = path.Join(keyringsDir, ring.Fingerprints()[0]+".asc")
			if !keys[signedBy] {
				keys[signedBy] = true
				files = append(files, NodeFile{signedBy, string(ring.Armored)})
			}
		}
		if path.Ext(release.SourcesPath) == ".sources" {
			list.WriteString(stanza(archive, signedBy))
		} else {
			fmt.Fprintf(&list, "deb [signed-by=%s] %s %s\n", signedBy, archive.URL, strings.Join(append([]string{archive.Suite}, archive.Components...), " "))
		}
	}
	files = append(files, NodeFile{release.SourcesPath, list.String()})
	for _, r := range repositories {
		signedBy := ""
		if !r.Unsigned {
			ring, err := keyring.Parse(r.Keyring)
			if err != nil {
				return nil, fmt.Errorf("repository %s: the keyring %w", r.Name, err)
			}
			signedBy = path.Join(keyringsDir, r.Name+".asc")
			files = append(files, NodeFile{signedBy, string(ring.Armored)})
		}
		files = append(files, NodeFile{path.Join(sourcesDir, r.Name+".sources"), stanza(r.Archive, signedBy)})
	}
	return files, nil
}

// stanza returns an archive as sources.list(5) has it in deb822 style. An
// archive that no key signs is trusted because its user has said so.
func stanza(archive distro.Archive, signedBy string) string {
	var s strings.Builder
	fmt.Fprintf(&s, "Types: deb\nURIs: %s\nSuites: %s\n", archive.URL, archive.Suite)
	if len(archive.Components) > 0 {
		fmt.Fprintf(&s, "Components: %s\n", strings.Join(archive.Components, " "))
	}
	if signedBy == "" {
		s.WriteString("Trusted: yes\n\n")
	} else {
		fmt.Fprintf(&s, "Signed-By: %s\n\n", signedBy)
	}
	return s.String()
}
