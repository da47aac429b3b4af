package fetch

import (
	"net/url"
	"testing"
)

func TestWhatAnAddressSaysInConfidenceIsNotShown(t *testing.T) {
	for address, want := range map[string]string{
		"https://images.example.com/node.ova":                         "https://images.example.com/node.ova",
		"https://me:hush@images.example.com/node.ova":                 "https://me:xxxxx@images.example.com/node.ova",
		"https://account.blob.example.com/node.vhd?sv=2024&sig=hush":  "https://account.blob.example.com/node.vhd?...",
		"https://bucket.example.com/node.raw?X-Amz-Signature=hush#me": "https://bucket.example.com/node.raw?...#me",
	} {
		parsed, err := url.Parse(address)
		if err != nil {
			t.Fatal(err)
		}
		if got := Redacted(parsed); got != want {
			t.Errorf("%s is shown as %s, want %s", address, got, want)
		}
		if parsed.String() != address {
			t.Errorf("%s has become %s", address, parsed)
		}
	}
}
