package scaler

import (
	"context"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	pb "github.com/kedacore/keda/v2/pkg/scalers/externalscaler"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	reflectionpb "google.golang.org/grpc/reflection/grpc_reflection_v1"
	oldreflectionpb "google.golang.org/grpc/reflection/grpc_reflection_v1alpha"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/tap"

	"github.com/headgate/headgate/access"
)

// Call is one call that the gRPC server takes.
type Call struct {
	Method string      // with its service, as gRPC has it: /service/method
	Role   access.Role // of those who may make it
	Stream bool
}

// Calls lists all of them. One that is not here is refused.
func Calls() []Call {
	return []Call{
		{Method: pb.ExternalScaler_IsActive_FullMethodName, Role: access.Read},
		{Method: pb.ExternalScaler_StreamIsActive_FullMethodName, Role: access.Read, Stream: true},
		{Method: pb.ExternalScaler_GetMetricSpec_FullMethodName, Role: access.Read},
		{Method: pb.ExternalScaler_GetMetrics_FullMethodName, Role: access.Read},
		{Method: pb.ExternalScaler_StreamMetricSpec_FullMethodName, Role: access.Read, Stream: true},
		// Probes ask for the health, and have nothing to say of themselves.
		{Method: healthpb.Health_Check_FullMethodName, Role: access.Open},
		{Method: healthpb.Health_List_FullMethodName, Role: access.Open},
		{Method: healthpb.Health_Watch_FullMethodName, Role: access.Open, Stream: true},
		{Method: reflectionpb.ServerReflection_ServerReflectionInfo_FullMethodName, Role: access.Read, Stream: true},
		{Method: oldreflectionpb.ServerReflection_ServerReflectionInfo_FullMethodName, Role: access.Read, Stream: true},
	}
}

func findCall(method string) (Call, bool) {
	all := Calls()
	i := slices.IndexFunc(all, func(c Call) bool { return c.Method == method })
	if i < 0 {
		return Call{}, false
	}
	return all[i], true
}

// doorman lets calls in, or not, and bounds what they may hold.
type doorman struct {
	guard *access.Guard
	names []string // of certificates, one of which every caller has to have; none for any
	calls map[string]Call

	callLimit               time.Duration // for a call that is no stream, with the reading of its request
	mostStreams, mostOpen   int64
	streams, openForAnybody atomic.Int64 // streams of callers with a role, and others
}

const (
	callLimit   = 10 * time.Second
	mostStreams = 2 * mostRows // of triggers: two each
	mostOpen    = 64           // streams of health
)

func newDoorman(guard *access.Guard, names []string) *doorman {
	d := &doorman{guard: guard, names: names, calls: map[string]Call{}, callLimit: callLimit, mostStreams: mostStreams, mostOpen: mostOpen}
	for _, c := range Calls() {
		d.calls[c.Method] = c
	}
	return d
}

// tap is asked before anything of a call but its header is read. What is no
// stream has to come to its end in time. The context that is given ends with the
// call, and takes the timer with it.
func (d *doorman) tap(ctx context.Context, info *tap.Info) (context.Context, error) {
	if call, known := d.calls[info.FullMethodName]; !known || call.Stream {
		return ctx, nil
	}
	ctx, cancel := context.WithTimeout(ctx, d.callLimit)
	_ = cancel // is of no use: gRPC cancels the parent when the call is over
	return ctx, nil
}

// admit lets a caller in. The error is gRPC's.
func (d *doorman) admit(ctx context.Context, method string) (Call, access.Credentials, error) {
	credentials := credentialsOf(ctx)
	call, known := d.calls[method]
	if !known {
		return call, credentials, status.Errorf(codes.PermissionDenied, "nobody may make this call")
	}
	if !d.named(credentials) {
		return call, credentials, status.Error(codes.PermissionDenied, "the client's certificate has no name that may call the scaler")
	}
	_, err := d.guard.Admit(credentials, call.Role)
	if err == nil {
		return call, credentials, nil
	}
	d.guard.Refused(err)
	code := codes.PermissionDenied
	if err == access.ErrUnauthenticated {
		code = codes.Unauthenticated
	}
	return call, credentials, status.Error(code, err.Error())
}

// named reports whether a caller's verified certificate has one of the names,
// or none is needed.
func (d *doorman) named(c access.Credentials) bool {
	if len(d.names) == 0 {
		return true
	}
	certificate := c.Certificate()
	return certificate != nil && slices.ContainsFunc(d.names, func(name string) bool { return access.Named(certificate, name) })
}

// credentialsOf are what a caller says of itself.
func credentialsOf(ctx context.Context) access.Credentials {
	var c access.Credentials
	c.Authorization = strings.Join(metadata.ValueFromIncomingContext(ctx, "authorization"), ", ") // of several none counts
	if from, ok := peer.FromContext(ctx); ok {
		if info, secured := from.AuthInfo.(credentials.TLSInfo); secured {
			state := info.State // info itself would be on the heap in each call
			c.TLS = &state
		}
	}
	return c
}

func (d *doorman) unary(ctx context.Context, request any, info *grpc.UnaryServerInfo, handle grpc.UnaryHandler) (any, error) {
	if _, _, err := d.admit(ctx, info.FullMethod); err != nil {
		return nil, err
	}
	return handle(ctx, request)
}

func (d *doorman) stream(server any, stream grpc.ServerStream, info *grpc.StreamServerInfo, handle grpc.StreamHandler) error {
	call, credentials, err := d.admit(stream.Context(), info.FullMethod)
	if err != nil {
		return err
	}
	open, most := &d.streams, d.mostStreams
	if call.Role == access.Open {
		open, most = &d.openForAnybody, d.mostOpen
	}
	defer open.Add(-1)
	if open.Add(1) > most {
		return status.Errorf(codes.ResourceExhausted, "there are %d streams already, and no more may be open", most)
	}
	ctx, done := d.guard.Last(stream.Context(), credentials, call.Role)
	defer done()
	return handle(server, &lasting{stream, ctx})
}

// lasting is a stream that ends when its client may no longer have it.
type lasting struct {
	grpc.ServerStream
	ctx context.Context
}

func (l *lasting) Context() context.Context { return l.ctx }
