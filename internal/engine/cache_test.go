package engine

import (
	"maps"
	"path/filepath"
	"strings"
	"testing"

	"nodesmith.dev/nodesmith/internal/fault"
)

func TestCachesAreNamedAsBuildKitsOtherClientsNameThem(t *testing.T) {
	here, err := filepath.Abs("cache")
	if err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		cache Cache
		kind  string // of the entry
		want  map[string]string
		wrong string
	}{
		"from a registry":       {cache: Cache{From: []string{"type=registry,ref=r.example.com/c:1"}}, kind: "registry", want: map[string]string{"ref": "r.example.com/c:1"}},
		"from a folder":         {cache: Cache{From: []string{"type=local,src=cache"}}, kind: "local", want: map[string]string{"src": here}},
		"to a folder":           {cache: Cache{To: []string{"type=local,dest=/c"}}, kind: "local", want: map[string]string{"dest": "/c", "mode": "max"}},
		"to a registry, little": {cache: Cache{To: []string{`type=registry,ref=r,mode=min,"registry.insecure=true"`}}, kind: "registry", want: map[string]string{"ref": "r", "mode": "min", "registry.insecure": "true"}},
		"nothing":               {cache: Cache{From: []string{""}}, wrong: "want type=registry"},
		"no type":               {cache: Cache{From: []string{"r.example.com/c"}}, wrong: "is not NAME=VALUE"},
		"an unknown type":       {cache: Cache{To: []string{"type=ftp,dest=x"}}, wrong: "type=local,dest=DIR"},
		"the other direction":   {cache: Cache{To: []string{"type=local,src=x"}}, wrong: "it lacks dest="},
		"an empty value":        {cache: Cache{To: []string{"type=local,dest="}}, wrong: "is not NAME=VALUE"},
		"a quote left open":     {cache: Cache{To: []string{`type=local,"dest=x`}}, wrong: `cache "type=local`},
	} {
		t.Run(name, func(t *testing.T) {
			parsed, err := test.cache.parse()
			if test.wrong != "" {
				if err == nil || fault.KindOf(err) != fault.Usage || !strings.Contains(err.Error(), test.wrong) {
					t.Errorf("%v, want %q", err, test.wrong)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			entries := append(parsed.from, parsed.to...)
			if len(entries) != 1 || entries[0].Type != test.kind || !maps.Equal(entries[0].Attrs, test.want) {
				t.Errorf("%+v", entries)
			}
		})
	}
}
