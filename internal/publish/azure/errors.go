package azure

import (
	"context"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"

	"nodesmith.dev/nodesmith/internal/fault"
	"nodesmith.dev/nodesmith/internal/publish"
)

// refusal is an answer of Azure's that is an error, without what was asked.
type refusal struct {
	status        int
	code, message string
	after         time.Duration
	cause         error // nil, or an *azcore.ResponseError, which is not printed
}

func (r *refusal) Error() string {
	text := fmt.Sprintf("Azure answers %d", r.status)
	if r.code != "" {
		text += " " + r.code
	}
	if r.message != "" {
		text += ": " + r.message
	}
	return text
}

// Unwrap gives errors.As the SDK's error.
func (r *refusal) Unwrap() error { return r.cause }

// RetryAfter is when Azure wants to be asked again.
func (r *refusal) RetryAfter() time.Duration { return r.after }

// throttled are what Azure answers who asks too often.
var throttled = []int{http.StatusTooManyRequests, http.StatusServiceUnavailable}

// passing are answers that another try may not get.
var passing = []int{http.StatusRequestTimeout, http.StatusInternalServerError, http.StatusBadGateway, http.StatusGatewayTimeout}

// passingCodes are those of answers whose status would be for good.
var passingCodes = []string{
	// Something else changes the same resource.
	"AnotherOperationInProgress", "OperationPreempted", "Conflict", "GalleryImageVersionUpdateConflict", "PendingDelete", "BlobBeingRehydrated",
	// The body did not arrive as it was sent.
	"Md5Mismatch", "Crc64Mismatch", "OperationTimedOut", "RequestBodyInvalid", "IncompleteBody",
}

// Classify says what can be done about an error of Azure's.
func Classify(err error) publish.Class {
	if _, ok := errors.AsType[*expiredError](err); ok {
		return publish.Retryable
	}
	if unanswered, ok := errors.AsType[*unansweredError](err); ok && unanswered.passes() {
		return publish.Retryable
	}
	r, ok := errors.AsType[*refusal](err)
	switch {
	case !ok:
		return publish.Classify(err)
	case slices.Contains(throttled, r.status):
		return publish.Throttled
	case slices.Contains(passing, r.status), slices.Contains(passingCodes, r.code):
		return publish.Retryable
	}
	return publish.Final
}

// explain turns an error of the SDK into one that says what Azure said, with a
// remedy, and holds no address.
func explain(err error) error {
	if err == nil {
		return nil
	}
	if _, ok := errors.AsType[*refusal](err); ok {
		return err
	}
	if unavailable(err) {
		return fault.New(fault.MissingHost, "log in with `az login`, or set AZURE_TENANT_ID, AZURE_CLIENT_ID and AZURE_CLIENT_SECRET (docs/publishing.md)",
			"no credentials for Azure: %w", err)
	}
	answer, ok := errors.AsType[*azcore.ResponseError](err)
	if !ok {
		return err
	}
	r := &refusal{status: answer.StatusCode, code: answer.ErrorCode, cause: answer}
	if answer.RawResponse != nil {
		r.message = messageOf(answer.RawResponse)
		r.after = retryAfter(answer.RawResponse.Header, time.Now())
	}
	if r.code == "AuthenticationFailed" || r.code == "InvalidAuthenticationInfo" {
		return fault.New(fault.Remote, remedies[http.StatusUnauthorized], "%w", r)
	}
	if remedy, ok := remedies[r.status]; ok {
		return fault.New(fault.Remote, remedy, "%w", r)
	}
	return r
}

// remedies are what a user can do about an answer.
var remedies = map[int]string{
	http.StatusUnauthorized: "log in again with `az login`: the credentials are of no use (any more)",
	http.StatusForbidden:    "give who you are logged in as the permissions that docs/publishing.md lists",
}

// unavailable says whether the chain of credentials found none that is of use.
func unavailable(err error) bool {
	if _, ok := errors.AsType[*azidentity.AuthenticationRequiredError](err); ok {
		return true
	}
	failed, ok := errors.AsType[*azidentity.AuthenticationFailedError](err)
	if ok {
		return failed.RawResponse == nil || failed.RawResponse.StatusCode < http.StatusInternalServerError
	}
	return strings.Contains(err.Error(), "DefaultAzureCredential: failed to acquire a token")
}

// isNotFound says whether Azure answers that something is not there.
func isNotFound(err error) bool {
	answer, ok := errors.AsType[*azcore.ResponseError](err)
	return ok && answer.StatusCode == http.StatusNotFound
}

// hasCode says whether Azure answers with one of some codes.
func hasCode(err error, codes ...string) bool {
	answer, ok := errors.AsType[*azcore.ResponseError](err)
	return ok && slices.Contains(codes, answer.ErrorCode)
}

// expiredError says that the address with which a disk is written is no longer
// good: another try asks for a new one.
type expiredError struct{ error }

func (e *expiredError) Unwrap() error { return e.error }

// maxMessage bounds what is printed of an answer, in bytes.
const maxMessage = 400

// signature matches what may sign an address, should Azure repeat it.
var signature = regexp.MustCompile(`(?i)\b(sig|se|sp|sv|sr|skoid|sktid)=[^&\s"']+`)

// messageOf returns the first line of what an answer says. The SDK has read the
// body already and left it to be read again.
func messageOf(response *http.Response) string {
	if response.Body == nil {
		return ""
	}
	body, err := io.ReadAll(io.LimitReader(response.Body, 64<<10))
	if err != nil {
		return ""
	}
	var arm struct {
		Error struct {
			Message string `json:"message"`
		} `json:"error"`
	}
	var storage struct {
		Message string `xml:"Message"`
	}
	message := ""
	if json.Unmarshal(body, &arm) == nil {
		message = arm.Error.Message
	} else if xml.Unmarshal(body, &storage) == nil {
		message = storage.Message
	}
	message, _, _ = strings.Cut(strings.TrimSpace(message), "\n")
	message = signature.ReplaceAllString(message, "$1=...")
	return message[:min(len(message), maxMessage)]
}

// retryAfter reads when Azure wants to be asked again.
func retryAfter(header http.Header, now time.Time) time.Duration {
	for _, name := range []string{"Retry-After-Ms", "X-Ms-Retry-After-Ms"} {
		if ms, err := strconv.Atoi(header.Get(name)); err == nil && ms > 0 {
			return time.Duration(ms) * time.Millisecond
		}
	}
	value := header.Get("Retry-After")
	if seconds, err := strconv.Atoi(value); err == nil && seconds > 0 {
		return time.Duration(seconds) * time.Second
	}
	if at, err := http.ParseTime(value); err == nil {
		return max(0, at.Sub(now))
	}
	return 0
}

// sleep waits unless ctx ends before.
func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// refusalOf finds what Azure answered in an error.
func refusalOf(err error) (*refusal, bool) { return errors.AsType[*refusal](err) }
