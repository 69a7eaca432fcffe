// Package storm is a crowd of clients that a scaler has to survive: they say
// nothing, do not listen, leave streams unread, cancel what they ask, and come
// back. Beside them a well-behaved client measures how long it waits.
package storm

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"sync/atomic"
	"time"

	pb "github.com/kedacore/keda/v2/pkg/scalers/externalscaler"
	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"github.com/headgate/headgate/e2e/cluster"
)

// How long a server may keep a connection whose client is of no use. The
// scaler gives a silent one 10 s, and asks a deaf one after 30 s whether it is
// still there, for 10 s more.
const (
	silentLimit = 20 * time.Second
	deafLimit   = 60 * time.Second
)

const (
	unreadAtMost  = 20 * time.Second // of a stream that nobody reads
	cancelAtMost  = 3 * time.Millisecond
	cancelPause   = 250 * time.Millisecond
	comeBackPause = time.Second
	callLimit     = 10 * time.Second // of a call that has to be answered
	perConnection = 10               // clients that share one
	atFirst       = 8 * time.Second  // within which those with a rhythm of their own begin
)

// Crowd says how many clients there are of each kind.
type Crowd struct {
	Silent     int // connect and never send
	Deaf       int // open streams and ask, and never read from the connection
	Unread     int // open streams and never receive
	Cancelling int // give up within 3 ms of asking
	ComingBack int // connect, ask once and go, half of them by a reset
}

// Clients is how many there are.
func (c Crowd) Clients() int {
	return c.Silent + c.Deaf + c.Unread + c.Cancelling + c.ComingBack
}

// Storm is a crowd against one scaler.
type Storm struct {
	Address  string
	Triggers []*pb.ScaledObjectRef // that the clients ask for
	Crowd    Crowd

	silent, deaf, streams, cancelled, reconnected atomic.Int64
}

// Counts is what the crowd has done so far.
func (s *Storm) Counts() map[string]int64 {
	return map[string]int64{
		"silent_connections_closed_by_scaler": s.silent.Load(),
		"deaf_connections_closed_by_scaler":   s.deaf.Load(),
		"streams_left_unread":                 s.streams.Load(),
		"calls_cancelled":                     s.cancelled.Load(),
		"reconnections":                       s.reconnected.Load(),
	}
}

// Introduce asks once for each trigger, so that the scaler knows all of them:
// what it keeps of one outlasts the storm.
func (s *Storm) Introduce(ctx context.Context) error {
	conn, err := dial(s.Address)
	if err != nil {
		return err
	}
	defer conn.Close()
	for _, trigger := range s.Triggers {
		if _, err := pb.NewExternalScalerClient(conn).GetMetricSpec(ctx, trigger); err != nil {
			return fmt.Errorf("ask for the spec of %s: %w", trigger.GetName(), err)
		}
	}
	return nil
}

// Run lets the crowd loose until ctx ends; then all of it is gone. It ends
// earlier, with an error, where the scaler does what it should not: refuse a
// connection or a call, or keep a connection whose client is of no use.
func (s *Storm) Run(ctx context.Context) error {
	opening, err := s.opening()
	if err != nil {
		return err
	}
	group, ctx := errgroup.WithContext(ctx)
	for range s.Crowd.Silent {
		group.Go(func() error { return s.beSilent(ctx) })
	}
	for range s.Crowd.Deaf {
		group.Go(func() error { return s.beDeaf(ctx, opening) })
	}
	shared := func(clients int, each func(context.Context, pb.ExternalScalerClient) error) {
		for first := 0; first < clients; first += perConnection {
			group.Go(func() error {
				return s.share(ctx, min(perConnection, clients-first), each)
			})
		}
	}
	shared(s.Crowd.Unread, s.leaveUnread)
	shared(s.Crowd.Cancelling, s.cancel)
	for range s.Crowd.ComingBack {
		group.Go(func() error { return s.comeBack(ctx) })
	}
	return group.Wait()
}

// trigger is any of the triggers.
func (s *Storm) trigger() *pb.ScaledObjectRef { return s.Triggers[rand.IntN(len(s.Triggers))] }

// connect makes a bare connection, which is closed when ctx ends.
func (s *Storm) connect(ctx context.Context) (conn net.Conn, release func(), err error) {
	conn, err = new(net.Dialer).DialContext(ctx, "tcp", s.Address)
	if err != nil {
		return nil, nil, err
	}
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	return conn, func() { stop(); conn.Close() }, nil
}

// awaitClose reads whatever comes until the peer has closed.
func awaitClose(conn net.Conn, limit time.Duration) error {
	if err := conn.SetReadDeadline(time.Now().Add(limit)); err != nil {
		return err
	}
	if _, err := io.Copy(io.Discard, conn); errors.Is(err, os.ErrDeadlineExceeded) {
		return err
	}
	return nil // closed, or reset
}

// beSilent connects again and again, and says nothing until the scaler closes.
func (s *Storm) beSilent(ctx context.Context) error {
	cluster.Pause(ctx, rand.N(atFirst))
	for {
		conn, release, err := s.connect(ctx)
		if err == nil {
			if err = awaitClose(conn, silentLimit); err != nil {
				err = fmt.Errorf("a connection on which nothing was said is open after %v: %w", silentLimit, err)
			}
			release()
		}
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return err
		}
		s.silent.Add(1)
	}
}

// beDeaf asks for much on a connection, gives the scaler no room for an answer,
// and looks only when the scaler should have closed.
func (s *Storm) beDeaf(ctx context.Context, opening []byte) error {
	cluster.Pause(ctx, rand.N(atFirst))
	for {
		conn, release, err := s.connect(ctx)
		if err == nil {
			if _, err = conn.Write(opening); err == nil && cluster.Pause(ctx, deafLimit) {
				if err = awaitClose(conn, time.Second); err != nil {
					err = fmt.Errorf("a connection that nobody reads from is open after %v: %w", deafLimit, err)
				}
			}
			release()
		}
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return err
		}
		s.deaf.Add(1)
	}
}

// share lets clients use one connection.
func (s *Storm) share(ctx context.Context, clients int, each func(context.Context, pb.ExternalScalerClient) error) error {
	conn, err := dial(s.Address)
	if err != nil {
		return err
	}
	defer conn.Close()
	group, ctx := errgroup.WithContext(ctx)
	for range clients {
		group.Go(func() error {
			for ctx.Err() == nil {
				if err := each(ctx, pb.NewExternalScalerClient(conn)); err != nil && ctx.Err() == nil {
					return err
				}
			}
			return nil
		})
	}
	return group.Wait()
}

// leaveUnread opens a stream, never receives, and ends it after a while.
func (s *Storm) leaveUnread(ctx context.Context, client pb.ExternalScalerClient) error {
	ctx, cancel := context.WithTimeout(ctx, time.Second+rand.N(unreadAtMost))
	defer cancel()
	var err error
	if rand.IntN(2) == 0 {
		_, err = client.StreamIsActive(ctx, s.trigger())
	} else {
		_, err = client.StreamMetricSpec(ctx, s.trigger())
	}
	if err != nil {
		return fmt.Errorf("open a stream: %w", err)
	}
	s.streams.Add(1)
	<-ctx.Done()
	return nil
}

// cancel asks and gives up at once, wherever the question is by then.
func (s *Storm) cancel(ctx context.Context, client pb.ExternalScalerClient) error {
	if !cluster.Pause(ctx, cancelPause/2+rand.N(cancelPause)) {
		return nil
	}
	asking, cancel := context.WithTimeout(ctx, rand.N(cancelAtMost))
	defer cancel()
	var err error
	switch ref := s.trigger(); rand.IntN(4) {
	case 0:
		_, err = client.IsActive(asking, ref)
	case 1:
		_, err = client.GetMetricSpec(asking, ref)
	case 2:
		_, err = client.GetMetrics(asking, &pb.GetMetricsRequest{ScaledObjectRef: ref, MetricName: Metric})
	case 3:
		_, err = client.StreamIsActive(asking, ref)
	}
	switch status.Code(err) {
	case codes.OK, codes.Canceled, codes.DeadlineExceeded:
		s.cancelled.Add(1)
		return nil
	}
	return fmt.Errorf("a call that is given up: %w", err)
}

// comeBack connects, asks once and goes, and does so again and again.
func (s *Storm) comeBack(ctx context.Context) error {
	for cluster.Pause(ctx, comeBackPause/2+rand.N(comeBackPause)) {
		if err := s.visit(ctx); err != nil && ctx.Err() == nil {
			return err
		}
		s.reconnected.Add(1)
	}
	return nil
}

func (s *Storm) visit(ctx context.Context) error {
	abrupt := rand.IntN(2) == 0
	conn, err := dial(s.Address, grpc.WithContextDialer(func(ctx context.Context, address string) (net.Conn, error) {
		conn, err := new(net.Dialer).DialContext(ctx, "tcp", address)
		if err == nil && abrupt {
			err = conn.(*net.TCPConn).SetLinger(0) // closing resets
		}
		return conn, err
	}))
	if err != nil {
		return err
	}
	defer conn.Close()
	ctx, cancel := context.WithTimeout(ctx, callLimit)
	defer cancel()
	if _, err := pb.NewExternalScalerClient(conn).IsActive(ctx, s.trigger()); err != nil {
		return fmt.Errorf("a call on a new connection: %w", err)
	}
	return nil
}

func dial(address string, options ...grpc.DialOption) (*grpc.ClientConn, error) {
	return grpc.NewClient("passthrough:///"+address, append(options, grpc.WithTransportCredentials(insecure.NewCredentials()))...)
}
