package scaler

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
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
	promread "github.com/headgate/headgate/metrics"
	"github.com/headgate/headgate/pressure"
)

var quiet = slog.New(slog.DiscardHandler)

// tokenOf is the token of a client that has only that role.
func tokenOf(role access.Role) string { return "the-token-that-may-" + string(role) }

// oneOfEach is a guard with a client for each role.
func oneOfEach(t *testing.T) *access.Guard {
	t.Helper()
	text := "clients:\n"
	for _, role := range access.Roles() {
		sum := sha256.Sum256([]byte(tokenOf(role)))
		text += fmt.Sprintf("  - {name: %s, token_sha256: %s, roles: [%s]}\n", role, hex.EncodeToString(sum[:]), role)
	}
	file := filepath.Join(t.TempDir(), "access.yaml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	guard, err := access.New(file, quiet)
	if err != nil {
		t.Fatal(err)
	}
	return guard
}

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
	g := NewGRPC(server, nil, nil, oneOfEach(t), quiet)
	conn := serveGRPC(t, g.Server)
	t.Cleanup(server.Stop)
	for _, method := range served(g.Server) {
		call, _ := findCall(method)
		for _, client := range []struct {
			name, authorization string
			role                access.Role
		}{
			{"a stranger", "", ""},
			{"a wrong token", "Bearer wrong", ""},
			{"a reader", "Bearer " + tokenOf(access.Read), access.Read},
			{"a feeder", "Bearer " + tokenOf(access.Feed), access.Feed},
			{"a controller", "Bearer " + tokenOf(access.Apply), access.Apply},
			{"an operator", "Bearer " + tokenOf(access.Override), access.Override},
		} {
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			if client.authorization != "" {
				ctx = metadata.AppendToOutgoingContext(ctx, "authorization", client.authorization)
			}
			got := status.Code(ask(ctx, conn, method))
			cancel()
			want := codes.OK
			switch {
			case call.Role == access.Open || client.role == call.Role:
			case client.role == "":
				want = codes.Unauthenticated
			default:
				want = codes.PermissionDenied
			}
			refused := got == codes.Unauthenticated || got == codes.PermissionDenied
			if want == codes.OK && refused || want != codes.OK && got != want {
				t.Errorf("%s by %s is answered %v, want %v", method, client.name, got, want)
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
		"authorization", "Bearer wrong", "authorization", "Bearer "+tokenOf(access.Read)))
	door := newDoorman(oneOfEach(t), nil)
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
