package azure

import (
	"context"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"

	"nodesmith.dev/nodesmith/internal/publish"
)

// await waits until what Resource Manager was asked for is done. Begin has got
// the poller, or an error.
func await[T any](ctx context.Context, run *publish.Run, every time.Duration, poller *runtime.Poller[T], err error) (T, error) {
	var none T
	if err != nil {
		return none, err
	}
	for !poller.Done() {
		run.Alive()
		response, err := poller.Poll(ctx)
		if err != nil {
			return none, err
		}
		if poller.Done() {
			break
		}
		wait := every
		if after := retryAfter(response.Header, time.Now()); after > 0 {
			wait = min(after, time.Minute)
		}
		if err := sleep(ctx, wait); err != nil {
			return none, err
		}
	}
	return poller.Result(ctx)
}
