package vsphere

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"reflect"
	"slices"
	"strings"
	"sync"

	vfault "github.com/vmware/govmomi/fault"
	"github.com/vmware/govmomi/session"
	"github.com/vmware/govmomi/session/cache"
	"github.com/vmware/govmomi/vapi/rest"
	"github.com/vmware/govmomi/vim25"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"

	"nodesmith.dev/nodesmith/internal/fault"
	"nodesmith.dev/nodesmith/internal/publish"
)

// Access is how a vCenter is reached, besides what the spec says.
type Access struct {
	// User is who logs in; nil if only a session file may know.
	User *url.Userinfo
	// CAs are certificates that vouch for the server's; nil for the system's.
	CAs *x509.CertPool
	// Persist keeps sessions in govc's files, as govc does.
	Persist bool
	// Retry is how often and how long single calls are tried again that are safe to
	// repeat: a step or a plan makes dozens of them.
	Retry publish.Policy
	// SessionsDir and RESTSessionsDir are where those lie; empty for govc's own.
	SessionsDir, RESTSessionsDir string
}

// userAgent is what vCenters log.
const userAgent = "nodesmith"

// client is a session with a vCenter that logs in again when it expired.
type client struct {
	*vim25.Client
	address *url.URL
	access  Access
	target  func(*soap.Client) error
	cache   cache.Session

	mu   sync.Mutex
	rest *rest.Client
}

// connect opens a session.
func connect(ctx context.Context, address, thumbprint string, access Access) (*client, error) {
	u, err := url.Parse(address)
	if err != nil {
		return nil, err
	}
	c := &client{address: u, access: access, Client: &vim25.Client{}}
	withUser := *u
	withUser.User = access.User
	c.cache = cache.Session{URL: &withUser, Passthrough: !access.Persist, DirSOAP: access.SessionsDir, DirREST: access.RESTSessionsDir}
	c.target = func(s *soap.Client) error {
		s.UserAgent = userAgent
		if thumbprint != "" {
			s.SetThumbprint(u.Host, thumbprint)
		}
		if access.CAs != nil {
			s.DefaultTransport().TLSClientConfig.RootCAs = access.CAs
		}
		s.Client.Transport = refusals{s.DefaultTransport(), access.Retry}
		return nil
	}
	if err := publish.Retry(ctx, access.Retry, classify, c.login); err != nil {
		return nil, err
	}
	plain := *c.Client
	c.Client.RoundTripper = &relogin{plain: &plain, policy: access.Retry, login: func(ctx context.Context) error {
		if access.User == nil {
			return noCredentials(u.Host)
		}
		return explain(u.Host, session.NewManager(&plain).Login(ctx, access.User))
	}}
	return c, nil
}

// login opens the session, with a user and password or from govc's file.
func (c *client) login(ctx context.Context) error {
	host := c.address.Host
	if c.access.User == nil { // else Login would save a session that is none
		ok, err := c.cache.Load(ctx, c.Client, c.target)
		if err == nil && !ok {
			return noCredentials(host)
		}
		return explain(host, err)
	}
	return explain(host, c.cache.Login(ctx, c.Client, c.target))
}

func noCredentials(host string) error {
	return fault.New(fault.Usage, "set GOVC_URL, GOVC_USERNAME and GOVC_PASSWORD, or run govc session.login",
		"%s: no user and password, and no session of govc's that is still valid", host)
}

// explain gives an error of connecting a remedy.
func explain(host string, err error) error {
	switch {
	case err == nil:
		return nil
	case vfault.Is(err, &types.InvalidLogin{}), rest.IsStatusError(err, http.StatusUnauthorized):
		return fault.New(fault.Usage, "GOVC_USERNAME and GOVC_PASSWORD say who logs in", "%s: user name or password is wrong", host)
	case soap.IsCertificateUntrusted(err):
		return fault.New(fault.Unverifiable, "compare `govc about.cert -k` with the administrator's, then set thumbprint or ca in the PublishTarget",
			"%s: nothing vouches for its certificate: %w", host, err)
	}
	return fmt.Errorf("%s: %w", host, err)
}

// close ends the session unless it is kept for the next command.
func (c *client) close(ctx context.Context) error {
	var err error
	if c.rest != nil {
		err = c.cache.Logout(ctx, c.rest)
	}
	err = errors.Join(err, c.cache.Logout(ctx, c.Client))
	c.Client.CloseIdleConnections()
	return err
}

// withREST calls do with a session of vCenter's REST API, which has tags and
// content libraries; a second time if the session has expired.
func (c *client) withREST(ctx context.Context, do func(*rest.Client) error) error {
	for again := true; ; again = false {
		session, err := c.restSession(ctx)
		if err != nil {
			return err
		}
		err = do(session)
		if !again || !rest.IsStatusError(err, http.StatusUnauthorized) {
			return err
		}
		c.mu.Lock()
		c.rest = nil
		c.mu.Unlock()
	}
}

func (c *client) restSession(ctx context.Context) (*rest.Client, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.rest != nil {
		return c.rest, nil
	}
	session := &rest.Client{}
	*session = *rest.NewClient(c.Client)
	if c.access.User == nil {
		ok, err := c.cache.Load(ctx, session, c.target)
		if err == nil && !ok {
			err = noCredentials(c.address.Host)
		}
		if err != nil {
			return nil, err
		}
	} else if err := c.cache.Login(ctx, session, c.target); err != nil {
		return nil, explain(c.address.Host, err)
	}
	session.Client.Client.Transport = refusals{session.DefaultTransport(), c.access.Retry}
	c.rest = session
	return session, nil
}

// relogin repeats calls: after it logged in again, if the session expired; those
// that the server refused to take; and those that change nothing, or nothing
// more the second time, if the connection broke.
type relogin struct {
	plain  *vim25.Client
	policy publish.Policy
	login  func(context.Context) error

	mu    sync.Mutex
	count int
}

// repeatable are the calls that are safe to repeat, by the begin of their names.
// WaitForUpdatesEx is not: a change whose answer was lost is not told again.
var repeatable = []string{
	"Retrieve", "ContinueRetrieve", "CreateFilter", "CreatePropertyCollector", "CreateContainerView", "Find",
	"CreateImportSpec", "RecommendDatastores", "HttpNfcLeaseGetManifest", "HttpNfcLeaseProgress", "SetField", "SessionIsActive", "DestroyView",
}

// RoundTrip implements soap.RoundTripper.
func (r *relogin) RoundTrip(ctx context.Context, request, response soap.HasFault) error {
	name := reflect.TypeOf(request).Elem().Name()
	safe := slices.ContainsFunc(repeatable, func(begin string) bool { return strings.HasPrefix(name, begin) })
	passes := func(err error) publish.Class {
		_, refused := errors.AsType[refusal](err)
		if !refused && (!safe || soap.IsSoapFault(err)) {
			return publish.Final
		}
		return classify(err)
	}
	return publish.Retry(ctx, r.policy, passes, func(ctx context.Context) error {
		reflect.ValueOf(response).Elem().SetZero()
		return r.once(ctx, request, response)
	})
}

// once makes a call, again if the session has expired.
func (r *relogin) once(ctx context.Context, request, response soap.HasFault) error {
	r.mu.Lock()
	seen := r.count
	r.mu.Unlock()
	err := r.plain.RoundTrip(ctx, request, response)
	if err == nil || !vfault.Is(err, &types.NotAuthenticated{}) {
		return err
	}
	r.mu.Lock()
	if seen == r.count { // nobody else did
		if err := r.login(ctx); err != nil {
			r.mu.Unlock()
			return err
		}
		r.count++
	}
	r.mu.Unlock()
	reflect.ValueOf(response).Elem().SetZero()
	return r.plain.RoundTrip(ctx, request, response)
}

// refusals turns answers that say "later" into errors of a type of their own:
// govmomi has them as text alone.
// Requests that are safe to repeat are repeated.
type refusals struct {
	http.RoundTripper
	policy publish.Policy
}

// refusal is such an answer.
type refusal struct{ status string }

func (r refusal) Error() string { return r.status }

// later are the statuses that pass.
var later = map[int]bool{
	http.StatusTooManyRequests: true, http.StatusBadGateway: true, http.StatusServiceUnavailable: true, http.StatusGatewayTimeout: true,
}

// RoundTrip implements http.RoundTripper.
func (r refusals) RoundTrip(request *http.Request) (response *http.Response, err error) {
	if request.Method != http.MethodGet {
		return r.once(request)
	}
	err = publish.Retry(request.Context(), r.policy, classify, func(context.Context) (err error) {
		response, err = r.once(request)
		return err
	})
	return response, err
}

func (r refusals) once(request *http.Request) (*http.Response, error) {
	response, err := r.RoundTripper.RoundTrip(request)
	if err == nil && later[response.StatusCode] {
		return nil, errors.Join(refusal{response.Status}, response.Body.Close())
	}
	return response, err
}

// passing are vSphere's faults that may pass.
var passing = []types.BaseMethodFault{
	&types.NotAuthenticated{}, &types.TaskInProgress{}, &types.ConcurrentAccess{}, &types.HostCommunication{}, &types.Timedout{}, &types.RequestCanceled{},
}

// Classify tells the errors of vCenters apart.
func (*Publisher) Classify(err error) publish.Class { return classify(err) }

func classify(err error) publish.Class {
	if _, ok := errors.AsType[refusal](err); ok {
		return publish.Throttled
	}
	for status := range later {
		if rest.IsStatusError(err, status) {
			return publish.Throttled
		}
	}
	for _, f := range passing {
		if vfault.Is(err, f) {
			return publish.Retryable
		}
	}
	return publish.Classify(err)
}
