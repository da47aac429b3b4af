package awsmodel

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
)

// Request is one that passed.
type Request struct {
	Service, Region, Operation string
	// Input is what it said, by the model's names. Blocks of snapshots and parts of
	// objects are left out.
	Input map[string]any
	// Status is the answer's.
	Status int
}

// Recorder is a handler that stands before an emulator.
type Recorder struct {
	next    http.Handler
	models  map[string]*model
	blocks  snapshots
	objects objects

	mu       sync.Mutex
	requests []Request
	bad      []string
}

// New returns a Recorder before next that knows the models of the botocore in a
// virtual environment.
func New(t testing.TB, venv string, next http.Handler) *Recorder {
	t.Helper()
	return newRecorder(load(t, venv), next)
}

func newRecorder(models map[string]*model, next http.Handler) *Recorder {
	return &Recorder{
		next: next, models: models, blocks: snapshots{all: map[string]*snapshot{}}, objects: objects{all: map[string]map[int]part{}},
	}
}

// Requests returns those that asked for an operation, in order; all with "".
func (r *Recorder) Requests(operation string) []Request {
	r.mu.Lock()
	defer r.mu.Unlock()
	var picked []Request
	for _, request := range r.requests {
		if operation == "" || request.Operation == operation {
			picked = append(picked, request)
		}
	}
	return picked
}

// Forget forgets the requests, not the violations and not the snapshots.
func (r *Recorder) Forget() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.requests = nil
}

// Violations returns what the real services would have refused.
func (r *Recorder) Violations() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.bad)
}

// scope is the part of a signature that says whom it is for.
var scope = regexp.MustCompile(`Credential=[^/]+/[0-9]+/([^/]+)/([^/]+)/aws4_request`)

// ServeHTTP records and checks a request, and passes it on.
func (r *Recorder) ServeHTTP(w http.ResponseWriter, in *http.Request) {
	body, err := io.ReadAll(in.Body)
	if err != nil {
		panic(http.ErrAbortHandler) // cut off: a return would be an answer
	}
	in.Body = io.NopCloser(bytes.NewReader(body))
	request := Request{Operation: in.Method + " " + in.URL.Path}
	if found := scope.FindStringSubmatch(in.Header.Get("Authorization")); found != nil {
		request.Region, request.Service = found[1], found[2]
	}
	var bad []string
	m := r.models[request.Service]
	if m != nil {
		operation, input, err := m.decode(in, body)
		if err != nil {
			bad = append(bad, err.Error())
		}
		if operation != "" {
			request.Operation, request.Input = operation, input
			if shape := m.Operations[operation].Input; shape != nil && input != nil {
				bad = append(bad, m.check(operation, shape.Shape, input)...)
			}
		}
	} else {
		bad = append(bad, fmt.Sprintf("%s %s: service %q is not known", in.Method, in.URL.Path, request.Service))
	}
	// A token is what the service said itself: moto's are UUIDs, EBS's are not.
	bad = slices.DeleteFunc(bad, func(b string) bool { return strings.HasPrefix(b, "GetSnapshotBlock.BlockToken is ") })
	answer := httptest.NewRecorder()
	bad = append(bad, r.blocks.before(request, body)...)
	bad = append(bad, r.objects.before(request, body)...)
	r.next.ServeHTTP(answer, in)
	request.Status = answer.Code
	r.blocks.after(request, body, answer.Body.Bytes())
	r.objects.after(request, body)
	delete(request.Input, "BlockData")
	delete(request.Input, "Body")
	r.mu.Lock()
	r.requests, r.bad = append(r.requests, request), append(r.bad, bad...)
	r.mu.Unlock()
	for key, values := range answer.Header() {
		w.Header()[key] = values
	}
	w.WriteHeader(answer.Code)
	_, _ = w.Write(answer.Body.Bytes())
}
