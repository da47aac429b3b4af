package remote

import (
	"errors"
	"net/http"
	"testing"
)

// passed notes that a request was let through; nothing leaves the machine.
type passed struct{ urls []string }

func (p *passed) RoundTrip(r *http.Request) (*http.Response, error) {
	p.urls = append(p.urls, r.URL.String())
	return &http.Response{StatusCode: http.StatusOK, Body: http.NoBody, Request: r}, nil
}

func TestOtherMachinesNeedTLS(t *testing.T) {
	for _, test := range []struct {
		url   string
		plain bool
		want  bool
	}{
		{"https://registry.example.com/v2/", false, true},
		{"http://registry.example.com/v2/", false, false},
		{"http://10.1.2.3:5000/v2/", false, false},
		{"http://registry.local/v2/", false, false},
		{"http://localhost.example.com/v2/", false, false},
		{"http://localhost:5000/v2/", false, true},
		{"http://127.0.0.1:5000/v2/", false, true},
		{"http://[::1]:5000/v2/", false, true},
		{"http://registry.example.com/v2/", true, true},
	} {
		next := &passed{}
		r, err := http.NewRequest(http.MethodGet, test.url, nil)
		if err != nil {
			t.Fatal(err)
		}
		answer, err := guard{next, test.plain}.RoundTrip(r)
		if err == nil {
			_ = answer.Body.Close()
		}
		if got := err == nil && len(next.urls) == 1; got != test.want || !test.want && !errors.Is(err, errPlain) {
			t.Errorf("%s, plain %v: let through %v (%v)", test.url, test.plain, got, err)
		}
	}
}
