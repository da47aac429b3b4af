package v1alpha1

import "strings"

// maxSuggest bounds the length of what is compared: the time grows with its square.
const maxSuggest = 128

// nearest returns the candidate that found is most likely a misspelling of, or
// "" if none is near. Case does not count. About a third of the characters may
// be wrong; of equally near candidates the first wins.
func nearest(found string, candidates []string) string {
	if found == "" || len(found) > maxSuggest {
		return ""
	}
	best, bestDistance := "", max(1, len(found)/3)+1
	for _, candidate := range candidates {
		if len(candidate) > maxSuggest || candidate == found {
			continue
		}
		d := distance(strings.ToLower(found), strings.ToLower(candidate))
		// Where half of it is different it is another word: 11 is not 12.
		if d < bestDistance && 2*d < len(candidate) {
			best, bestDistance = candidate, d
		}
	}
	return best
}

// distance is the optimal string alignment distance of a and b: the number of
// bytes to insert, delete, replace or swap with their neighbour to get from one
// to the other (Damerau-Levenshtein without editing a substring twice).
func distance(a, b string) int {
	// Three rows of the usual table are alive at a time.
	before, previous, row := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range previous {
		previous[j] = j
	}
	for i := 1; i <= len(a); i++ {
		row[0] = i
		for j := 1; j <= len(b); j++ {
			replace := previous[j-1]
			if a[i-1] != b[j-1] {
				replace++
			}
			row[j] = min(previous[j]+1, row[j-1]+1, replace)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
		before, previous, row = previous, row, before
	}
	return previous[len(b)]
}
