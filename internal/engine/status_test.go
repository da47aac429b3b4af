package engine

import (
	"context"
	"net"
	"testing"

	controlapi "github.com/moby/buildkit/api/services/control"
	"github.com/moby/buildkit/client"
	"google.golang.org/grpc"
	"google.golang.org/grpc/test/bufconn"
)

// deafServer waits for a solve of the asked name as BuildKit's does: whatever
// becomes of who asked.
type deafServer struct {
	controlapi.UnimplementedControlServer
	asked, end chan struct{}
}

func (s *deafServer) Status(*controlapi.StatusRequest, grpc.ServerStreamingServer[controlapi.StatusResponse]) error {
	close(s.asked)
	<-s.end
	return nil
}

func TestNobodyWaitsForTheEventsOfASolveThatWillNotCome(t *testing.T) {
	deaf := &deafServer{asked: make(chan struct{}), end: make(chan struct{})}
	defer close(deaf.end)
	server := grpc.NewServer(grpc.ChainStreamInterceptor(whileAsked))
	controlapi.RegisterControlServer(server, deaf)
	pipe := bufconn.Listen(1 << 16)
	go func() { _ = server.Serve(pipe) }()
	defer server.Stop()
	interrupted := make(chan struct{})
	c, err := client.New(t.Context(), "passthrough:///deaf", untilInterrupted(interrupted), client.WithContextDialer(
		func(ctx context.Context, _ string) (net.Conn, error) { return pipe.DialContext(ctx) }))
	if err != nil {
		t.Fatal(err)
	}
	stream, err := c.ControlClient().Status(t.Context(), &controlapi.StatusRequest{Ref: "never"})
	if err != nil {
		t.Fatal(err)
	}
	<-deaf.asked
	close(interrupted)
	if event, err := stream.Recv(); err == nil {
		t.Errorf("an event: %v", event)
	}
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	server.GracefulStop() // waits for every call that is served
}
