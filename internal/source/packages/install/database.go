package install

import (
	"archive/tar"
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"slices"
	"strings"
	"time"

	"nodesmith.dev/nodesmith/internal/deb"
)

// dpkg's database, relative to the tree's root: what
// https://git.dpkg.org/cgit/dpkg/dpkg.git/tree/lib/dpkg/dpkg.h calls ADMINDIR and
// what is below it.
const (
	adminDir    = "var/lib/dpkg"
	statusFile  = adminDir + "/status"
	infoDir     = adminDir + "/info"
	triggersDir = adminDir + "/triggers"
	// infoFormat is the second form of infoDir: names with an architecture where a
	// package may be there for several.
	infoFormat = "1\n"
)

// maxControl bounds what a package says of itself (bytes). Debian's longest is 2 MiB.
const maxControl = 32 << 20

// unpackedStatus says of a package that it shall be installed, that nothing went
// wrong and that it is yet to be configured (dpkg(1)).
const unpackedStatus = "install ok unpacked"

// newSuffix is where dpkg has a conffile until it configures the package.
const newSuffix = ".dpkg-new"

// record is what dpkg knows of a package once it is unpacked.
type record struct {
	name, architecture string // of the package
	qualified          string // with its architecture, if it may be there for several
	forDpkg            bool   // it takes dpkg to unpack this one
	control            []byte // its stanza
	files              []controlFile
	conffiles          []string // absolute paths
	contents           []string // absolute paths, in the archive's order
}

// controlFile is a file of a package's control.tar.
type controlFile struct {
	header  *tar.Header
	content []byte
}

// readRecord reads what the package file says, without the list of its contents.
func readRecord(ctx context.Context, file string) (_ *record, err error) {
	archive, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer archive.Close()
	data, err := deb.ControlTar(ctx, archive)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, data.Close()) }()
	r := &record{}
	members := tar.NewReader(io.LimitReader(data, maxControl))
	for {
		header, err := members.Next()
		if errors.Is(err, io.EOF) {
			break // to the end, where the compressor's checksum stands
		}
		if err != nil {
			return nil, fmt.Errorf("control.tar: %w", err)
		}
		if header.Typeflag != tar.TypeReg {
			continue
		}
		content, err := io.ReadAll(members)
		if err != nil {
			return nil, fmt.Errorf("control.tar: %s: %w", header.Name, err)
		}
		r.add(header, content)
	}
	if _, err := io.Copy(io.Discard, data); err != nil {
		return nil, fmt.Errorf("control.tar: %w", err)
	}
	// dpkg makes the digests if there are none, from version 1.20 on.
	r.forDpkg = r.forDpkg || !r.has("md5sums")
	return r, r.identify()
}

// add takes a member of control.tar.
func (r *record) add(header *tar.Header, content []byte) {
	header.Name = path.Clean(header.Name)
	switch header.Name {
	case "control":
		r.control = bytes.TrimSpace(content)
		return
	case "conffiles":
		for line := range strings.Lines(string(content)) {
			switch name := strings.TrimSpace(line); {
			case strings.HasPrefix(name, "/"):
				r.conffiles = append(r.conffiles, name)
			case name != "": // with a flag (deb-conffiles(5)), which says what an upgrade does
				r.forDpkg = true
			}
		}
	}
	r.files = append(r.files, controlFile{header, content})
}

// has says whether control.tar has that file.
func (r *record) has(name string) bool {
	return slices.ContainsFunc(r.files, func(f controlFile) bool { return f.header.Name == name })
}

// identify reads the names from the stanza.
func (r *record) identify() error {
	err := deb.Stanzas(bytes.NewReader(r.control), func(stanza deb.Stanza) (bool, error) {
		r.name, r.architecture, r.qualified = stanza["Package"], stanza["Architecture"], infoName(stanza)
		return false, nil
	})
	if err != nil {
		return fmt.Errorf("control file: %w", err)
	}
	if r.name == "" || strings.ContainsAny(r.qualified, "/ \n") {
		return fmt.Errorf("control file: %q is no name of a package", r.qualified)
	}
	return nil
}

// infoName is what the names of a package's files in infoDir begin with.
func infoName(stanza deb.Stanza) string {
	if stanza["Multi-Arch"] == "same" {
		return stanza["Package"] + ":" + stanza["Architecture"]
	}
	return stanza["Package"]
}

// note lists an entry of the package's files, and has a conffile written beside the
// name that it gets when the package is configured.
func (r *record) note(header *tar.Header) {
	name := "/" + deb.InTree(header.Name)
	r.contents = append(r.contents, name)
	if r.forDpkg {
		return
	}
	if slices.Contains(r.conffiles, name) {
		header.Name += newSuffix
	}
	if header.Typeflag == tar.TypeLink && slices.Contains(r.conffiles, "/"+deb.InTree(header.Linkname)) {
		header.Linkname += newSuffix
	}
}

// stanza is the package's part of dpkg's status file.
func (r *record) stanza() []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "%s\nStatus: %s\n", r.control, unpackedStatus)
	if len(r.conffiles) > 0 {
		b.WriteString("Conffiles:\n")
		for _, name := range r.conffiles {
			fmt.Fprintf(&b, " %s newconffile\n", name)
		}
	}
	b.WriteByte('\n')
	return b.Bytes()
}

// interests calls add for each trigger that the package waits for (deb-triggers(5)),
// with what dpkg notes of it.
func (r *record) interests(add func(trigger, note string)) {
	for _, file := range r.files {
		if file.header.Name != "triggers" {
			continue
		}
		lines := bufio.NewScanner(bytes.NewReader(file.content))
		for lines.Scan() {
			words := strings.Fields(lines.Text())
			if len(words) != 2 {
				continue // a comment, or none
			}
			switch words[0] {
			case "interest", "interest-await":
				add(words[1], r.qualified)
			case "interest-noawait":
				add(words[1], r.qualified+"/noawait")
			}
		}
	}
}

// unpackedIn returns the packages that dpkg has yet to configure: name -> infoName.
func unpackedIn(status io.Reader) (map[string]string, error) {
	names := map[string]string{}
	err := deb.Stanzas(status, func(stanza deb.Stanza) (bool, error) {
		if stanza["Status"] == unpackedStatus {
			names[stanza["Package"]] = infoName(stanza)
		}
		return true, nil
	})
	return names, err
}

// writeDatabase writes dpkg's records of unpacked packages, in this order.
func writeDatabase(root *os.Root, records []*record, epoch time.Time) error {
	for _, dir := range []string{infoDir, triggersDir, adminDir + "/updates"} {
		if err := root.MkdirAll(dir, 0o755); err != nil {
			return err
		}
	}
	var status, fileTriggers bytes.Buffer
	triggers := map[string]string{}
	for _, r := range records {
		if err := r.writeInfo(root, epoch); err != nil {
			return fmt.Errorf("what dpkg is to know of %s: %w", r.name, err)
		}
		status.Write(r.stanza())
		r.interests(func(trigger, note string) {
			if strings.HasPrefix(trigger, "/") {
				fmt.Fprintf(&fileTriggers, "%s %s\n", trigger, note)
			} else {
				triggers[trigger] += note + "\n"
			}
		})
	}
	files := map[string]string{
		infoDir + "/format": infoFormat, statusFile: status.String(), triggersDir + "/File": fileTriggers.String(),
	}
	for trigger, notes := range triggers {
		files[triggersDir+"/"+trigger] = notes
	}
	for name, text := range files {
		if err := errors.Join(root.WriteFile(name, []byte(text), 0o644), root.Chtimes(name, epoch, epoch)); err != nil {
			return err
		}
	}
	return nil
}

// writeInfo writes the package's own files of the database.
func (r *record) writeInfo(root *os.Root, epoch time.Time) error {
	for _, file := range r.files {
		name := infoDir + "/" + r.qualified + "." + file.header.Name
		mode := file.header.FileInfo().Mode().Perm()
		if err := root.WriteFile(name, file.content, mode); err != nil {
			return err
		}
		if err := errors.Join(root.Chmod(name, mode), root.Chtimes(name, file.header.ModTime, file.header.ModTime)); err != nil {
			return err
		}
	}
	name := infoDir + "/" + r.qualified + ".list"
	list := []byte(strings.Join(r.contents, "\n") + "\n")
	return errors.Join(root.WriteFile(name, list, 0o644), root.Chtimes(name, epoch, epoch))
}
