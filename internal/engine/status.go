package engine

import (
	"context"
	"time"

	controlapi "github.com/moby/buildkit/api/services/control"
	"github.com/moby/buildkit/client"
	"google.golang.org/grpc"
)

// BuildKit's client asks for a solve's events by a call of its own, beside the one
// that solves, and waits for both. Where the second never got to the engine, since
// its context ended first, the engine waits six seconds for a solve of that name,
// whatever becomes of who asked, and so would an interrupted build.

// sayHow is how long an interrupted build still listens how its steps end.
const sayHow = 1 * time.Second

// untilInterrupted makes a client's calls for events end soon after interrupted is
// closed.
func untilInterrupted(interrupted <-chan struct{}) client.ClientOpt {
	return client.WithGRPCDialOption(grpc.WithChainStreamInterceptor(func(ctx context.Context, description *grpc.StreamDesc,
		conn *grpc.ClientConn, method string, open grpc.Streamer, options ...grpc.CallOption) (grpc.ClientStream, error) {
		if method != controlapi.Control_Status_FullMethodName {
			return open(ctx, description, conn, method, options...)
		}
		ctx, cancel := context.WithCancel(ctx)
		go func() {
			defer cancel()
			select {
			case <-ctx.Done(): // the solve has ended, or the call failed
				return
			case <-interrupted:
			}
			select {
			case <-ctx.Done():
			case <-time.After(sayHow):
			}
		}()
		stream, err := open(ctx, description, conn, method, options...)
		if err != nil {
			cancel()
		}
		return stream, err
	}))
}

// whileAsked makes a server's calls for events end when who asked has gone. What
// still waits for the solve then finds nobody to tell, within those six seconds.
func whileAsked(server any, stream grpc.ServerStream, info *grpc.StreamServerInfo, serve grpc.StreamHandler) error {
	if info.FullMethod != controlapi.Control_Status_FullMethodName {
		return serve(server, stream)
	}
	served := make(chan error, 1)
	go func() { served <- serve(server, stream) }()
	select {
	case err := <-served:
		return err
	case <-stream.Context().Done():
		return context.Cause(stream.Context())
	}
}
