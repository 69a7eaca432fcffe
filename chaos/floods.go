package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	pb "github.com/kedacore/keda/v2/pkg/scalers/externalscaler"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
)

const (
	manyClients = 400
	floodLasts  = 10 * time.Second
)

// under lets many clients do something again and again for a time, and reports
// what of the rest did not go on meanwhile.
func (w *World) under(ctx context.Context, many int, do func(flooding context.Context)) error {
	began := time.Now()
	flooding, stop := context.WithCancel(ctx)
	var all sync.WaitGroup
	for range many {
		all.Go(func() {
			for flooding.Err() == nil {
				do(flooding)
				_ = pause(flooding, 100*time.Millisecond)
			}
		})
	}
	err := pause(ctx, floodLasts)
	s, took := w.watch.last(), time.Since(began)
	stop()
	all.Wait()
	if ago := took - s.at.Sub(began); err == nil && (!s.normal() || ago > 3*time.Second) {
		return fmt.Errorf("under the flood: %v, %v ago", s, ago)
	}
	_, answers := w.watch.since(began)
	for _, a := range answers {
		if a.code != codes.OK {
			return errors.Join(err, fmt.Errorf("under the flood the scaler answers %v, %.1f s in", a.code, a.at.Sub(began).Seconds()))
		}
	}
	return err
}

// flood opens connections to an address that say next to nothing, while honest
// clients have to get through.
func flood(address func(*World) string) func(context.Context, *World) error {
	return func(ctx context.Context, w *World) error {
		return w.under(ctx, manyClients, func(flooding context.Context) {
			conn, err := net.DialTimeout("tcp", address(w), time.Second)
			if err != nil {
				return
			}
			defer conn.Close()
			for _, c := range []byte("POST /v1/items HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n") {
				if _, err := conn.Write([]byte{c}); err != nil || pause(flooding, 500*time.Millisecond) != nil {
					return
				}
			}
		})
	}
}

// floodStreams opens thousands of streams to the scaler, each for another
// ScaledObject, and never reads from them.
func floodStreams(ctx context.Context, w *World) error {
	const connections, streams = 60, 50
	var mu sync.Mutex
	next := 0
	return w.under(ctx, connections, func(flooding context.Context) {
		conn, err := grpc.NewClient(w.scalerAddress, grpc.WithTransportCredentials(insecure.NewCredentials()))
		if err != nil {
			return
		}
		defer conn.Close()
		mu.Lock()
		first := next
		next += streams
		mu.Unlock()
		for n := range streams {
			_, err := pb.NewExternalScalerClient(conn).StreamIsActive(flooding, &pb.ScaledObjectRef{
				Namespace: "flood", Name: fmt.Sprint("pipeline-", first+n),
				ScalerMetadata: map[string]string{"scalerAddress": w.scalerAddress, "coordinatorIds": coordinatorID},
			})
			if err != nil {
				return
			}
		}
		_ = pause(flooding, floodLasts)
	})
}

// floodStatusPage asks both controllers for the page and for its stream of
// changes, and reads no more than that there is an answer.
func floodStatusPage(ctx context.Context, w *World) error {
	var mu sync.Mutex
	next := 0
	return w.under(ctx, manyClients, func(flooding context.Context) {
		mu.Lock()
		n := next
		next++
		mu.Unlock()
		address, path := []string{w.addressA, w.addressB}[n%2], []string{"/v1/stream", "/", "/v1/status", "/v1/history"}[n/2%4]
		conn, err := net.DialTimeout("tcp", address, time.Second)
		if err != nil {
			return
		}
		defer conn.Close()
		if _, err := fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: %s\r\n\r\n", path, address); err != nil {
			return
		}
		_ = conn.SetReadDeadline(time.Now().Add(2 * time.Second))
		if _, err := bufio.NewReaderSize(conn, 16).Peek(1); err == nil && path == "/v1/stream" {
			_ = pause(flooding, floodLasts)
		}
	})
}

// bigBodies sends bodies that are too large to every path that takes one.
func bigBodies(ctx context.Context, w *World) error {
	for range 20 {
		for _, path := range []string{"/v1/items", "/v1/feedback", "/v1/providers/ibkr/scale"} {
			method := http.MethodPost
			if strings.HasSuffix(path, "scale") {
				method = http.MethodPut
			}
			request, err := http.NewRequestWithContext(ctx, method, "http://"+w.pipelineAddress+path, strings.NewReader(`{"key":"`+strings.Repeat("x", 8<<20)+`"}`))
			if err != nil {
				return err
			}
			response, err := http.DefaultClient.Do(request)
			if err != nil {
				continue // the server may hang up before all is sent
			}
			response.Body.Close()
			if response.StatusCode != http.StatusRequestEntityTooLarge {
				return fmt.Errorf("%s of 8 MB was answered %s", path, response.Status)
			}
		}
	}
	return nil
}
