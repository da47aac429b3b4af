package v1alpha1

import "testing"

func TestDistanceCountsEdits(t *testing.T) {
	for _, test := range []struct {
		a, b string
		want int
	}{
		{"", "", 0},
		{"", "abc", 3},
		{"debian", "debian", 0},
		{"debain", "debian", 1}, // neighbours swapped
		{"debin", "debian", 1},
		{"debiian", "debian", 1},
		{"dobian", "debian", 1},
		{"kitten", "sitting", 3},
		{"ca", "abc", 3}, // no second edit inside a swap
	} {
		if got := distance(test.a, test.b); got != test.want {
			t.Errorf("distance(%q, %q) = %d, want %d", test.a, test.b, got, test.want)
		}
		if got := distance(test.b, test.a); got != test.want {
			t.Errorf("distance(%q, %q) = %d, want %d", test.b, test.a, got, test.want)
		}
	}
}

func TestNearestNamesOnlyMisspellings(t *testing.T) {
	names := []string{"os", "kubernetes", "infrastructures", "packages", "files"}
	for found, want := range map[string]string{
		"kuberntes":      "kubernetes",
		"Kubernetes":     "kubernetes",
		"infrastructure": "infrastructures",
		"package":        "packages",
		"file":           "files",
		"so":             "",
		"x":              "",
		"networking":     "",
		"":               "",
	} {
		if got := nearest(found, names); got != want {
			t.Errorf("nearest(%q) = %q, want %q", found, got, want)
		}
	}
}
