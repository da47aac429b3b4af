package deb

import (
	"reflect"
	"strings"
	"testing"
)

// libc6 of Debian 12, shortened.
const libc6 = `Package: libc6
Source: glibc
Version: 2.36-9+deb12u10
Installed-Size: 12987
Architecture: amd64
Replaces: libc6-amd64
Depends: libgcc-s1, libcrypt1 (>= 1:4.4.10-10~)
Pre-Depends: dpkg:any (>= 1.17) | busybox
Provides: libc6-2.36 (= 2.36), libc-any
Description: GNU C Library: Shared libraries
Multi-Arch: same
Filename: pool/main/g/glibc/libc6_2.36-9+deb12u10_amd64.deb
Size: 2758208
SHA256: 1e6a7ef4d9a4ee4e5a7b6e2c9e3e5c4a5d5d6f7f8a9b0c1d2e3f405162738495
`

func TestReadIndexKeepsWhatABuildNeeds(t *testing.T) {
	index, err := ReadIndex(strings.NewReader(libc6 + "\n" + strings.Replace(libc6, "Package: libc6\n", "Package: bash\nEssential: yes\n", 1)))
	if err != nil {
		t.Fatal(err)
	}
	want := Package{
		Name: "libc6", Version: "2.36-9+deb12u10", Architecture: "amd64",
		Filename: "pool/main/g/glibc/libc6_2.36-9+deb12u10_amd64.deb",
		SHA256:   "1e6a7ef4d9a4ee4e5a7b6e2c9e3e5c4a5d5d6f7f8a9b0c1d2e3f405162738495",
		Size:     2758208, InstalledSize: 12987 << 10,
		Depends:  []Alternatives{{"dpkg", "busybox"}, {"libgcc-s1"}, {"libcrypt1"}},
		Provides: []string{"libc6-2.36", "libc-any"},
	}
	if len(index.Packages) != 2 || !reflect.DeepEqual(index.Packages[0], want) {
		t.Errorf("got %+v\nwant %+v", index.Packages, want)
	}
	if !index.Packages[1].Essential {
		t.Error("bash is not essential")
	}
}

// dpkg-scanpackages begins every file name so.
func TestReadIndexTakesNamesFromHere(t *testing.T) {
	index, err := ReadIndex(strings.NewReader(strings.Replace(libc6, "Filename: pool", "Filename: ./pool", 1)))
	if err != nil || index.Packages[0].Filename != "pool/main/g/glibc/libc6_2.36-9+deb12u10_amd64.deb" {
		t.Errorf("%+v, %v", index, err)
	}
}

func TestReadIndexRefuses(t *testing.T) {
	without := func(field string) string {
		var kept []string
		for line := range strings.SplitSeq(libc6, "\n") {
			if !strings.HasPrefix(line, field+":") {
				kept = append(kept, line)
			}
		}
		return strings.Join(kept, "\n")
	}
	with := func(field, value string) string { return without(field) + field + ": " + value + "\n" }
	tests := map[string]struct{ text, want string }{
		"no name":                  {without("Package"), "has no Package"},
		"no version":               {without("Version"), `package "libc6" has no Version`},
		"no architecture":          {without("Architecture"), "has no Architecture"},
		"no file name":             {without("Filename"), "has no Filename"},
		"no digest":                {without("SHA256"), "has no SHA256"},
		"no size":                  {without("Size"), "has no Size"},
		"a size that is text":      {with("Size", "big"), "not a number of bytes"},
		"a negative size":          {with("Size", "-1"), "not a number of bytes"},
		"a size of 0":              {with("Size", "0"), "not a number of bytes"},
		"a size over 64 bits":      {with("Size", "99999999999999999999"), "not a number of bytes"},
		"a negative installed one": {with("Installed-Size", "-4"), "not a number of KiB"},
		"a short digest":           {with("SHA256", "abcd"), "not a SHA-256 digest"},
		"a path as digest":         {with("SHA256", strings.Repeat("../", 21)+"x"), "not a SHA-256 digest"},
		"an absolute file name":    {with("Filename", "/etc/passwd"), "leaves the archive"},
		"a file name above":        {with("Filename", "../x.deb"), "leaves the archive"},
		"a file name out and in":   {with("Filename", "pool/../../x.deb"), "leaves the archive"},
		"a file name from here up": {with("Filename", "./../x.deb"), "leaves the archive"},
		"no field":                 {"libc6\n", "package index: line 1"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			if _, err := ReadIndex(strings.NewReader(test.text)); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("error %v, want one with %q", err, test.want)
			}
		})
	}
}

func TestParseDependsKeepsNames(t *testing.T) {
	tests := map[string]struct {
		field string
		want  []Alternatives
	}{
		"empty":            {"", nil},
		"one":              {"libc6", []Alternatives{{"libc6"}}},
		"versions":         {"libc6 (>= 2.34), zlib1g (= 1:1.2.13.dfsg-1)", []Alternatives{{"libc6"}, {"zlib1g"}}},
		"alternatives":     {"default-mta | mail-transport-agent", []Alternatives{{"default-mta", "mail-transport-agent"}}},
		"architecture":     {"perl:any, python3:any (>= 3.11)", []Alternatives{{"perl"}, {"python3"}}},
		"no space":         {"debconf(>= 0.5)|debconf-2.0", []Alternatives{{"debconf", "debconf-2.0"}}},
		"stray separators": {", a, , b | ,", []Alternatives{{"a"}, {"b"}}},
		"several lines":    {"a,\nb", []Alternatives{{"a"}, {"b"}}},
		"restrictions":     {"gcc [amd64] <!nocheck>", []Alternatives{{"gcc"}}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			if got := ParseDepends(test.field); !reflect.DeepEqual(got, test.want) {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
}

func TestClosure(t *testing.T) {
	index := &Index{Packages: []Package{
		{Name: "apt", Depends: ParseDepends("libc6, gnupg-backend, gone | sh")},
		{Name: "libc6", Depends: ParseDepends("libgcc-s1")},
		{Name: "libgcc-s1", Depends: ParseDepends("libc6")}, // they need each other
		{Name: "gpgv", Provides: []string{"gnupg-backend"}},
		{Name: "dash", Provides: []string{"sh"}},
		{Name: "decoy", Provides: []string{"gpgv", "libc6"}},
		{Name: "either", Depends: ParseDepends("dash | gpgv")},
		{Name: "broken", Depends: ParseDepends("nowhere | nothing")},
		{Name: "deep", Depends: ParseDepends("broken")},
	}}
	tests := map[string]struct {
		names []string
		want  []string
		err   string
	}{
		"what needs nothing":           {names: []string{"gpgv"}, want: []string{"gpgv"}},
		"dependencies first, cycles":   {names: []string{"libc6"}, want: []string{"libgcc-s1", "libc6"}},
		"provides and alternatives":    {names: []string{"apt"}, want: []string{"libgcc-s1", "libc6", "gpgv", "dash", "apt"}},
		"the first alternative":        {names: []string{"either"}, want: []string{"dash", "either"}},
		"each once":                    {names: []string{"dash", "either", "sh"}, want: []string{"dash", "either"}},
		"nothing asked":                {},
		"a name that is not there":     {names: []string{"emacs"}, err: "package emacs, which the build needs"},
		"a dependency that is not":     {names: []string{"broken"}, err: "package nowhere | nothing, which broken needs"},
		"a dependency further down":    {names: []string{"deep"}, err: "which broken needs"},
		"a real package over provider": {names: []string{"gnupg-backend"}, want: []string{"gpgv"}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			closure, err := index.Closure(test.names...)
			if test.err != "" {
				if err == nil || !strings.Contains(err.Error(), test.err) {
					t.Errorf("error %v, want one with %q", err, test.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, p := range closure {
				got = append(got, p.Name)
			}
			if !reflect.DeepEqual(got, test.want) {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
}
