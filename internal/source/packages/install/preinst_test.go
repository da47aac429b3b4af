package install

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"nodesmith.dev/nodesmith/internal/testenv"
)

// unpackedFrom unpacks one package and returns its file and the tree.
func unpackedFrom(t *testing.T, s source) (file, root string) {
	t.Helper()
	testenv.Need(t, "dpkg-deb")
	from, names := pack(t, []source{s})
	root = t.TempDir()
	config := UnpackConfig{}
	config.From, config.Out, config.Packages = from, root, names
	if err := Unpack(t.Context(), config, time.Unix(1_700_000_000, 0)); err != nil {
		t.Fatal(err)
	}
	return filepath.Join(from, names[0]), root
}

func TestPreinstRunsAsForAPackageThatWasNeverInstalled(t *testing.T) {
	file, root := unpackedFrom(t, source{name: "first", fields: "Architecture: amd64\nMulti-Arch: same\n", files: map[string]string{
		"usr/bin/first": "1", "etc/first": "2", "DEBIAN/conffiles": "/etc/first\n", "DEBIAN/templates": "Template: first/q\n",
		"DEBIAN/preinst": "#!/bin/sh\ncd \"${0%/*}\"\necho \"$# $1 $DPKG_MAINTSCRIPT_NAME $DPKG_MAINTSCRIPT_PACKAGE $DPKG_MAINTSCRIPT_ARCH $DEBIAN_FRONTEND\" > ../../../../said\nsed -n s/Package://p control >> ../../../../said\ncat templates >> ../../../../said\n",
	}})
	if err := runPreinst(t.Context(), root, file); err != nil {
		t.Fatal(err)
	}
	said, err := os.ReadFile(filepath.Join(root, "said"))
	if want := "1 install preinst first amd64 noninteractive\n first\nTemplate: first/q\n"; err != nil || string(said) != want {
		t.Errorf("the script says %q, %v; want %q", said, err, want)
	}
	if _, err := os.Stat(filepath.Join(root, controlDir)); err == nil {
		t.Error("the package's own files are still where dpkg has them for a while")
	}
}

// Such a script takes its package's files for another's, or for those of before.
func TestAPreinstThatChangesItsOwnFilesIsAnError(t *testing.T) {
	for name, change := range map[string]string{
		"removed": "rm usr/share/first/a", "moved": "mv usr/share/first/a usr/share/first/b", "written": "echo more >> usr/share/first/a",
		"replaced": "rm usr/share/first/a; mkdir usr/share/first/a", "made a link": "ln -sf /dev/null usr/share/first/a",
		"directory": "rm -r usr/share/first",
	} {
		t.Run(name, func(t *testing.T) {
			file, root := unpackedFrom(t, source{name: "first", files: map[string]string{
				"usr/share/first/a": "1", "DEBIAN/preinst": "#!/bin/sh\ncd \"${0%/*}/../../../..\"\n" + change + "\n",
			}})
			err := runPreinst(t.Context(), root, file)
			if err == nil || !strings.Contains(err.Error(), "preinst script changed /usr/share/first") {
				t.Errorf("error %v", err)
			}
		})
	}
}

func TestAFailingPreinstIsAnError(t *testing.T) {
	file, root := unpackedFrom(t, source{name: "first", files: map[string]string{"DEBIAN/preinst": "#!/bin/sh\nexit 7\n"}})
	if err := runPreinst(t.Context(), root, file); err == nil || !strings.Contains(err.Error(), "preinst install: exit status 7") {
		t.Errorf("error %v", err)
	}
}
