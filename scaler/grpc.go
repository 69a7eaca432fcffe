package scaler

import (
	"context"
	"crypto/tls"
	"log/slog"
	"runtime/debug"
	"time"

	grpcprom "github.com/grpc-ecosystem/go-grpc-middleware/providers/prometheus"
	"github.com/grpc-ecosystem/go-grpc-middleware/v2/interceptors/recovery"
	pb "github.com/kedacore/keda/v2/pkg/scalers/externalscaler"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/reflection"
	"google.golang.org/grpc/status"

	"github.com/headgate/headgate/access"
	"github.com/headgate/headgate/internal/seldom"
)

// Limits of the gRPC server. KEDA opens one connection for all ScaledObjects of
// one address, and two streams for each push trigger.
const (
	maxStreams     = 20_000 // on one connection
	maxMessage     = 64 << 10
	maxHeader      = 16 << 10
	connectTimeout = 10 * time.Second
	idleTimeout    = 10 * time.Minute // without any stream
)

// GRPC is a gRPC server with the scaler, its health and reflection on it.
type GRPC struct {
	*grpc.Server
	Metrics *grpcprom.ServerMetrics // to be registered

	scaler *Server
	health *health.Server
	log    *slog.Logger
}

// NewGRPC returns a server that is not serving yet, for those whom the guard
// lets in. tlsConfig may be nil, for plain connections; where clientNames is not
// empty only clients with one of these names in their verified certificate are
// served.
func NewGRPC(scaler *Server, tlsConfig *tls.Config, clientNames []string, guard *access.Guard, log *slog.Logger) *GRPC {
	return newGRPC(scaler, tlsConfig, newDoorman(guard, clientNames), log)
}

func newGRPC(scaler *Server, tlsConfig *tls.Config, door *doorman, log *slog.Logger) *GRPC {
	g := &GRPC{
		Metrics: grpcprom.NewServerMetrics(grpcprom.WithServerHandlingTimeHistogram()),
		scaler:  scaler, health: health.NewServer(), log: log,
	}
	var panics seldom.Shared
	recovered := recovery.WithRecoveryHandlerContext(func(_ context.Context, fault any) error {
		scaler.series.panics.Inc()
		if leftOut, tell := panics.Tell(time.Now()); tell {
			log.Error("a call panicked", "panic", fault, "stack", string(debug.Stack()), "left_out", leftOut)
		}
		return status.Error(codes.Internal, "internal error")
	})
	options := []grpc.ServerOption{
		grpc.MaxConcurrentStreams(maxStreams),
		grpc.MaxRecvMsgSize(maxMessage),
		grpc.MaxHeaderListSize(maxHeader),
		grpc.InTapHandle(door.tap),
		grpc.ConnectionTimeout(connectTimeout),
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: 30 * time.Second, Timeout: 10 * time.Second, MaxConnectionIdle: idleTimeout}),
		// Clients may ask every ten seconds, also between calls.
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: 10 * time.Second, PermitWithoutStream: true}),
		grpc.ChainUnaryInterceptor(g.Metrics.UnaryServerInterceptor(), recovery.UnaryServerInterceptor(recovered), door.unary),
		grpc.ChainStreamInterceptor(g.Metrics.StreamServerInterceptor(), recovery.StreamServerInterceptor(recovered), door.stream),
	}
	if tlsConfig != nil {
		options = append(options, grpc.Creds(credentials.NewTLS(tlsConfig)))
	}
	g.Server = grpc.NewServer(options...)
	pb.RegisterExternalScalerServer(g.Server, scaler)
	healthpb.RegisterHealthServer(g.Server, g.health)
	reflection.Register(g.Server)
	g.serving(healthpb.HealthCheckResponse_NOT_SERVING)
	g.Metrics.InitializeMetrics(g.Server)
	return g
}

// serving tells the health of the whole and of its one service.
func (g *GRPC) serving(status healthpb.HealthCheckResponse_ServingStatus) {
	g.health.SetServingStatus("", status)
	g.health.SetServingStatus(pb.ExternalScaler_ServiceDesc.ServiceName, status)
}

// WatchHealth says that the scaler is serving once its first signals are there,
// and returns when it has said so, or ctx ends. From then on it serves what it
// can: each answer tells by itself when its signals are gone.
func (g *GRPC) WatchHealth(ctx context.Context) {
	for {
		_, next := g.scaler.signals.View()
		if g.scaler.signals.Ready() {
			g.serving(healthpb.HealthCheckResponse_SERVING)
			return
		}
		select {
		case <-next:
		case <-ctx.Done():
			return
		}
	}
}

// Shutdown ends the streams, lets the calls under way end, and breaks off those
// that do not within the limit.
func (g *GRPC) Shutdown(limit time.Duration) {
	g.health.Shutdown()
	g.scaler.Stop()
	ended := make(chan struct{})
	go func() {
		g.GracefulStop()
		close(ended)
	}()
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case <-ended:
	case <-timer.C:
		g.log.Warn("calls did not end in time and are broken off", "limit", limit)
		g.Stop()
		<-ended
	}
}
