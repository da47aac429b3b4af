package aws

import (
	"errors"
	"net/http"
	"slices"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/smithy-go"

	"nodesmith.dev/nodesmith/internal/fault"
	"nodesmith.dev/nodesmith/internal/publish"
)

var (
	throttles  = retry.IsErrorThrottles(retry.DefaultThrottles)
	retryables = retry.IsErrorRetryables(retry.DefaultRetryables)
)

// remedies are what a user can do about errors that do not pass, by AWS's codes.
var remedies = []struct {
	codes  []string
	remedy string
}{
	{
		[]string{"ExpiredToken", "ExpiredTokenException", "RequestExpired", "AuthFailure", "UnrecognizedClientException", "InvalidClientTokenId", "InvalidToken"},
		"get new credentials (aws sso login, or as your account has it) and run the same command again: it goes on where it stopped",
	},
	{
		[]string{"UnauthorizedOperation", "AccessDenied", "AccessDeniedException"},
		"docs/publishing.md has the policy that the credentials need",
	},
	{
		[]string{"ResourceLimitExceeded", "SnapshotLimitExceeded", "ConcurrentSnapshotLimitExceeded", "AMIQuotaExceeded", "ServiceQuotaExceededException"},
		"ask AWS for a higher quota, or retract images that are no longer used",
	},
}

// Classify tells what AWS answers apart.
func (p *Publisher) Classify(err error) publish.Class { return classify(err) }

func classify(err error) publish.Class {
	if throttles.IsErrorThrottle(err) == aws.TrueTernary {
		return publish.Throttled
	}
	if answer, ok := errors.AsType[*awshttp.ResponseError](err); ok {
		switch answer.HTTPStatusCode() {
		case http.StatusServiceUnavailable, http.StatusTooManyRequests:
			return publish.Throttled
		case http.StatusInternalServerError, http.StatusBadGateway, http.StatusGatewayTimeout, http.StatusRequestTimeout:
			return publish.Retryable
		}
	}
	// The answer of a broken connection is one that can't be read.
	if _, ok := errors.AsType[*smithy.DeserializationError](err); ok {
		return publish.Retryable
	}
	if class := publish.Classify(err); class != publish.Final {
		return class
	}
	if retryables.IsErrorRetryable(err) == aws.TrueTernary {
		return publish.Retryable
	}
	return publish.Final
}

// explain gives an error that does not pass a kind and a remedy.
func explain(err error) error {
	if err == nil || classify(err) != publish.Final || fault.KindOf(err) != fault.Internal {
		return err
	}
	answer, ok := errors.AsType[smithy.APIError](err)
	if !ok {
		return err
	}
	for _, r := range remedies {
		if slices.Contains(r.codes, answer.ErrorCode()) {
			return fault.New(fault.Remote, r.remedy, "%w", err)
		}
	}
	return fault.New(fault.Remote, "", "%w", err)
}

// is says whether AWS answered with one of some codes.
func is(err error, codes ...string) bool {
	answer, ok := errors.AsType[smithy.APIError](err)
	return ok && slices.Contains(codes, answer.ErrorCode())
}
