package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"testing"
	"time"

	"github.com/headgate/headgate/access"
	"github.com/headgate/headgate/coordinator"
	"github.com/headgate/headgate/coordinator/client"
	"github.com/headgate/headgate/coordinator/feedback"
	"github.com/headgate/headgate/coordinator/httpapi"
	"github.com/headgate/headgate/pressure"
)

func eventsGroup() group {
	return group{
		name: "events",
		about: "From a feedback event to the rate that it changes. Within the process that is one call, which returns when the provider's rate is the new one; " +
			"the row is the 99th of a hundred calls. Over HTTP it is a POST on a kept connection of the loopback, and the peer is a bare net/http server that reads as much and answers as much. " +
			"The last row is until a follower of the stream of changes has the new rate.",
		measure: measureEvents,
	}
}

// loop is a gate that follows events.
type loop struct {
	gate *coordinator.Coordinator
	bus  *feedback.Bus
}

func newLoop() (*loop, error) {
	quiet := slog.New(slog.DiscardHandler)
	l := &loop{gate: coordinator.New(coordinator.WithLogger(quiet)), bus: feedback.NewBus(quiet)}
	l.bus.Subscribe("provider", feedback.NewHandler(l.gate, feedback.DefaultStep(), 0, provider).Handle)
	return l, l.gate.Register(coordinator.Provider{Name: provider, BasePerSecond: 1000, Burst: 100, FloorPerSecond: 1})
}

// event alternates between the worst level and the best.
func event(i int) pressure.Event {
	e := pressure.Event{CoordinatorID: "bars-coord", QueueSize: 100, Capacity: 10_000, Level: pressure.OK, Source: "store", Time: time.Now()}
	if i%2 == 0 {
		e.Level, e.QueueSize = pressure.Hard, 9000
	}
	return e
}

// rateAfter is the rate that the event asks for.
func rateAfter(i int) float64 {
	if i%2 == 0 {
		return 1
	}
	return 1000
}

// follows checks that the rate is what the last event asks for.
func (l *loop) follows(i int) error {
	want := rateAfter(i)
	state, err := l.gate.State(provider)
	if err == nil && state.EffectivePerSecond != want {
		err = fmt.Errorf("after event %d the rate is %v, want %v", i, state.EffectivePerSecond, want)
	}
	return err
}

func measureEvents(ctx context.Context, rounds int) ([]Row, error) {
	inProcess, err := inProcessP99(ctx, rounds)
	if err != nil {
		return nil, err
	}
	const limit = 20 // microseconds
	rows := []Row{atMost(1).against("in-process event -> changed rate, p99", "µs", "limit", inProcess.Seconds()*1e6, limit)}

	l, err := newLoop()
	if err != nil {
		return nil, err
	}
	defer l.gate.Close()
	ours := httptest.NewServer(httpapi.New(ctx, l.gate, l.bus, slog.New(slog.DiscardHandler), access.Everyone()))
	defer ours.Close()
	body := func(i int) []byte {
		e := event(i)
		return fmt.Appendf(nil, `{"coordinator_id":"bars-coord","queue_size":%d,"capacity":10000,"level":"%s","source":"store","ts":%.6f}`,
			e.QueueSize, e.Level.String(), float64(e.Time.UnixMicro())/1e6)
	}
	probe := func(i int) (int, []byte, error) { return post(ours.URL+"/v1/feedback", body(i)) }
	status, answer, err := probe(0)
	if err == nil && status/100 != 2 {
		err = fmt.Errorf("the event was answered %d %s", status, answer)
	}
	if err == nil {
		err = l.follows(0)
	}
	if err != nil {
		return nil, err
	}
	bare := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, err := io.ReadAll(r.Body); err != nil {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		w.WriteHeader(status)
		_, _ = w.Write(answer)
	}))
	defer bare.Close()
	sends := func(url string) func(b *testing.B) {
		return func(b *testing.B) {
			i := 0
			for b.Loop() {
				i++
				if got, answer, err := post(url, body(i)); err != nil || got != status {
					b.Fatal(got, string(answer), err)
				}
			}
		}
	}
	bareTrip := contender{"net/http", sends(bare.URL)}
	all, err := byTurns(ctx, rounds, contender{"headgate", sends(ours.URL + "/v1/feedback")}, bareTrip)
	if err != nil {
		return nil, err
	}
	o, p := medianRound(all, 0, 1)
	rows = append(rows, atMost(2).against("HTTP event -> changed rate, loopback", "µs", "bare net/http round trip", o.nsPerOp/1e3, p.nsPerOp/1e3))

	seen, unfollow, err := follow(ctx, ours.URL)
	if err != nil {
		return nil, err
	}
	defer unfollow()
	i := 0 // of the event before; from run to run, for one that changes nothing is not told
	if _, _, err := post(ours.URL+"/v1/feedback", body(i)); err != nil {
		return nil, err
	}
	all, err = byTurns(ctx, rounds, contender{"follower", func(b *testing.B) {
		for b.Loop() {
			i++
			if got, answer, err := post(ours.URL+"/v1/feedback", body(i)); err != nil || got != status {
				b.Fatal(got, string(answer), err)
			}
			for rate := range seen {
				if rate == rateAfter(i) {
					break
				}
			}
		}
	}}, bareTrip)
	if err != nil {
		return nil, err
	}
	o, p = medianRound(all, 0, 1)
	// No peer does this. The limit allows for the two ways that are gone one after
	// the other: that of the event, and that of the change to its follower.
	return append(rows, atMost(4).against("HTTP event -> changed rate at a follower, loopback", "µs", "bare net/http round trip", o.nsPerOp/1e3, p.nsPerOp/1e3)), nil
}

// follow tells each rate of the provider that a follower of the changes at an
// address sees, until it is called off.
func follow(ctx context.Context, address string) (rates <-chan float64, stop func(), err error) {
	c, err := client.New(address, nil)
	if err != nil {
		return nil, nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	seen, ended := make(chan float64, 1<<16), make(chan struct{})
	go func() {
		defer close(ended)
		defer close(seen)
		c.Follow(ctx, func(change client.Change) {
			if change.State == nil {
				return
			}
			select {
			case seen <- change.State.EffectivePerSecond:
			default: // nobody looks at the moment
			}
		}, nil)
	}()
	stop = func() { cancel(); <-ended }
	select {
	case <-seen: // the stream is there: it begins with what is
		return seen, stop, nil
	case <-ended:
		return nil, nil, ctx.Err()
	}
}

// inProcessP99 is the median of the rounds' 99th percentiles.
func inProcessP99(ctx context.Context, rounds int) (time.Duration, error) {
	const events = 10_000
	l, err := newLoop()
	if err != nil {
		return 0, err
	}
	defer l.gate.Close()
	var p99s []time.Duration
	took := make([]time.Duration, events)
	for range rounds {
		for i := range took {
			e := event(i)
			begin := time.Now()
			l.bus.Publish(e)
			took[i] = time.Since(begin)
		}
		if err := ctx.Err(); err != nil {
			return 0, err
		}
		if err := l.follows(events - 1); err != nil {
			return 0, err
		}
		slices.Sort(took)
		p99s = append(p99s, took[events*99/100])
	}
	slices.Sort(p99s)
	return p99s[len(p99s)/2], nil
}

// post sends a body and returns what was answered.
func post(url string, body []byte) (status int, answer []byte, err error) {
	response, err := http.Post(url, "application/json", bytes.NewReader(body))
	if err != nil {
		return 0, nil, err
	}
	defer response.Body.Close()
	answer, err = io.ReadAll(response.Body)
	return response.StatusCode, answer, err
}
