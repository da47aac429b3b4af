package faultproxy

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// echo answers with what it got, and counts.
func echo(heard *atomic.Int64) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		heard.Add(1)
		_, _ = w.Write(body)
	})
}

func TestFaultsHitTheRequestsThatTheyAreMeantFor(t *testing.T) {
	gone := func(answer *http.Response, body []byte, err error) bool { return err != nil }
	for name, test := range map[string]struct {
		do    Effect
		heard int64 // what the server carried out
		want  func(*http.Response, []byte, error) bool
	}{
		"answered in the server's place": {Answer(503, http.Header{"Retry-After": {"1"}}, "busy"), 0, func(answer *http.Response, body []byte, err error) bool {
			return err == nil && answer.StatusCode == 503 && string(body) == "busy" && answer.Header.Get("Retry-After") == "1"
		}},
		"cut in the request":     {CutRequest(100), 0, gone},
		"carried out, no answer": {CutAnswer(0), 1, gone},
		"cut in the answer": {CutAnswer(10), 1, func(_ *http.Response, body []byte, err error) bool {
			return errors.Is(err, io.ErrUnexpectedEOF) && len(body) == 10
		}},
		"slow": {Slow(time.Millisecond), 1, func(answer *http.Response, body []byte, err error) bool {
			return err == nil && answer.StatusCode == 200 && len(body) == 1000
		}},
	} {
		t.Run(name, func(t *testing.T) {
			var heard atomic.Int64
			p := Start(t, echo(&heard), Options{})
			fault := p.Add(Fault{Match: func(r *http.Request) bool { return r.URL.Path == "/b" }, Skip: 1, Do: test.do})
			client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
			send := func(path string) (*http.Response, []byte, error) {
				answer, err := client.Post(p.URL+path, "", strings.NewReader(strings.Repeat("x", 1000)))
				if err != nil {
					return nil, nil, err
				}
				defer answer.Body.Close()
				body, err := io.ReadAll(answer.Body)
				return answer, body, err
			}
			for _, path := range []string{"/a", "/b"} {
				if _, body, err := send(path); err != nil || len(body) != 1000 {
					t.Fatalf("%s before the fault: %d bytes, %v", path, len(body), err)
				}
			}
			heard.Store(0)
			if answer, body, err := send("/b"); !test.want(answer, body, err) || heard.Load() != test.heard {
				t.Errorf("got %v %q %v, the server heard %d", answer, body, err, heard.Load())
			}
			if _, body, err := send("/b"); err != nil || len(body) != 1000 || p.Hits(fault) != 1 {
				t.Errorf("after the fault: %d bytes, %v, %d hits", len(body), err, p.Hits(fault))
			}
		})
	}
}

func TestLinkHoldsItsRateAndDelay(t *testing.T) {
	var heard atomic.Int64
	const rate, size = 20 << 20, 4 << 20
	p := Start(t, echo(&heard), Options{TLS: true, Link: Link{Rate: rate, Delay: 10 * time.Millisecond}})
	body := bytes.Repeat([]byte{7}, size)
	start := time.Now()
	answer, err := p.Server.Client().Post(p.URL, "", bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	got, err := io.ReadAll(answer.Body)
	if err != nil || !bytes.Equal(got, body) {
		t.Fatalf("%d bytes came back: %v", len(got), err)
	}
	// No upper bound: the machine may be busy.
	if took, least := time.Since(start), 200*time.Millisecond+20*time.Millisecond; took < least {
		t.Errorf("took %v, at %d bytes/s and a round trip of 20 ms at least %v", took, rate, least)
	}
}

func TestWhatIsForwardedBreaksMidwayOrIsDamaged(t *testing.T) {
	var heard atomic.Int64
	server := httptest.NewServer(echo(&heard))
	t.Cleanup(server.Close)
	p := Start(t, Forward(t, server.URL, nil), Options{TLS: true})
	send := func() (string, error) {
		answer, err := p.Server.Client().Post(p.URL, "", strings.NewReader(strings.Repeat("x", 1000)))
		if err != nil {
			return "", err
		}
		defer answer.Body.Close()
		body, err := io.ReadAll(answer.Body)
		return string(body), err
	}
	p.Add(Fault{Do: CutMidway(100)})
	if body, err := send(); err == nil || heard.Load() != 0 {
		t.Errorf("cut midway: got %q, the server heard %d whole ones", body, heard.Load())
	}
	p.Add(Fault{Do: Flip(1)})
	if body, err := send(); err != nil || body != "\x87"+strings.Repeat("x", 999) {
		t.Errorf("flipped: got %q, %v", body, err)
	}
	if body, err := send(); err != nil || body != strings.Repeat("x", 1000) || p.Requests() != 3 {
		t.Errorf("then: got %q, %v, after %d requests", body, err, p.Requests())
	}
}
