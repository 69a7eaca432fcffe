package scaler

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	pb "github.com/kedacore/keda/v2/pkg/scalers/externalscaler"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/headgate/headgate/access"
	"github.com/headgate/headgate/access/accesstest"
	promread "github.com/headgate/headgate/metrics"
	"github.com/headgate/headgate/pressure"
)

var quiet = slog.New(slog.DiscardHandler)

func newTestServer() *Server {
	signals := NewSignals(&prom{have: map[string]promread.Observation{"bars": queue(0, pressure.OK)}}, time.Hour, time.Second, staleAfter, quiet)
	return NewServer(signals, quiet)
}

// served lists the calls that a server takes, as it says itself.
func served(s *grpc.Server) (methods []string) {
	for service, info := range s.GetServiceInfo() {
		for _, m := range info.Methods {
			methods = append(methods, "/"+service+"/"+m.Name)
		}
	}
	slices.Sort(methods)
	return methods
}

func TestEveryCallThatIsServedHasARole(t *testing.T) {
	g := NewGRPC(newTestServer(), nil, nil, access.Everyone(), quiet)
	defer g.Stop()
	var listed []string
	for _, c := range Calls() {
		listed = append(listed, c.Method)
		if c.Role == "" {
			t.Errorf("%s has no role", c.Method)
		}
		if c.Role == access.Open && !strings.HasPrefix(c.Method, "/grpc.health.") {
			t.Errorf("%s is open to everyone", c.Method)
		}
	}
	slices.Sort(listed)
	if diff := cmp.Diff(listed, served(g.Server)); diff != "" {
		t.Errorf("the list (-) is not what is served (+):\n%s", diff)
	}
}

func TestStrangersReadersAndTheWrongRoleAreToldApartOnEveryCall(t *testing.T) {
	server := newTestServer()
	g := NewGRPC(server, nil, nil, accesstest.Guard(t), quiet)
	conn := serveGRPC(t, g.Server)
	t.Cleanup(server.Stop)
	for _, method := range served(g.Server) {
		call, _ := findCall(method)
		for _, client := range accesstest.Clients() {
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			if client.Authorization != "" {
				ctx = metadata.AppendToOutgoingContext(ctx, "authorization", client.Authorization)
			}
			got := status.Code(ask(ctx, conn, method))
			cancel()
			want := codes.OK
			switch {
			case client.May(call.Role):
			case !client.Known():
				want = codes.Unauthenticated
			default:
				want = codes.PermissionDenied
			}
			refused := got == codes.Unauthenticated || got == codes.PermissionDenied
			if want == codes.OK && refused || want != codes.OK && got != want {
				t.Errorf("%s by %s is answered %v, want %v", method, client.Name, got, want)
			}
		}
	}
}

// ask makes a call with an empty message and returns what comes first: nil for
// an answer.
func ask(ctx context.Context, conn *grpc.ClientConn, method string) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := conn.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true, ClientStreams: true}, method)
	if err != nil {
		return err
	}
	// A call that is refused early ends before it is sent; why is then received.
	if err := stream.SendMsg(&pb.ScaledObjectRef{}); err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	stream.CloseSend()
	var answer pb.IsActiveResponse // the fields of others are passed over
	return stream.RecvMsg(&answer)
}

func TestACallThatIsNotListedIsRefused(t *testing.T) {
	door := newDoorman(access.Everyone(), nil)
	if _, _, err := door.admit(t.Context(), "/externalscaler.ExternalScaler/New"); status.Code(err) != codes.PermissionDenied {
		t.Errorf("%v, want PermissionDenied", err)
	}
}

func TestTwoAuthorizationsAreNone(t *testing.T) {
	ctx := metadata.NewIncomingContext(t.Context(), metadata.Pairs(
		"authorization", "Bearer wrong", "authorization", "Bearer "+accesstest.Token(access.Read)))
	door := newDoorman(accesstest.Guard(t), nil)
	if _, _, err := door.admit(ctx, pb.ExternalScaler_IsActive_FullMethodName); status.Code(err) != codes.Unauthenticated {
		t.Errorf("%v, want Unauthenticated", err)
	}
}

func TestACallWhoseRequestDoesNotComeIsEnded(t *testing.T) {
	door := newDoorman(access.Everyone(), nil)
	door.callLimit = 50 * time.Millisecond
	conn := serveGRPC(t, newGRPC(newTestServer(), nil, door, quiet).Server)
	stream, err := conn.NewStream(t.Context(), &grpc.StreamDesc{ClientStreams: true}, pb.ExternalScaler_IsActive_FullMethodName)
	if err != nil {
		t.Fatal(err)
	}
	if err := stream.RecvMsg(&pb.IsActiveResponse{}); err == nil || status.Code(err) == codes.OK {
		t.Errorf("the call ends with %v", err)
	}
}

func TestOnlySoManyGRPCStreamsAreOpenAndHealthHasItsOwn(t *testing.T) {
	door := newDoorman(access.Everyone(), nil)
	door.mostStreams, door.mostOpen = 2, 1
	server := newTestServer()
	conn := serveGRPC(t, newGRPC(server, nil, door, quiet).Server)
	t.Cleanup(server.Stop)
	client := pb.NewExternalScalerClient(conn)
	open := func() (func(), error) {
		ctx, cancel := context.WithCancel(t.Context())
		t.Cleanup(cancel)
		stream, err := client.StreamMetricSpec(ctx, object("coordinatorIds", "bars"))
		if err != nil {
			return cancel, err
		}
		_, err = stream.Recv()
		return cancel, err
	}
	first, err := open()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := open(); err != nil {
		t.Fatal(err)
	}
	if _, err := open(); status.Code(err) != codes.ResourceExhausted {
		t.Errorf("a third stream: %v", err)
	}
	watch := func() error {
		stream, err := healthpb.NewHealthClient(conn).Watch(t.Context(), &healthpb.HealthCheckRequest{})
		if err == nil {
			_, err = stream.Recv()
		}
		return err
	}
	if err := watch(); err != nil {
		t.Errorf("the health is not told beside them: %v", err)
	}
	if err := watch(); status.Code(err) != codes.ResourceExhausted {
		t.Errorf("a second stream of the health: %v", err)
	}
	first()
	for deadline := time.Now().Add(time.Minute); ; { // there is a place once the call has ended
		if _, err := open(); err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal("a stream that ended holds its place")
		}
	}
}
