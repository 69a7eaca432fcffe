package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"sync"
	"time"
)

// feed sends items, each with a key of its own, and counts what the pipeline
// says to have taken. What it refuses is sent again under the same keys. What
// became of items is not known where there is no answer: they are not sent
// again, so that every item is sent once at most.
type feed struct {
	url     string
	every   time.Duration
	several int
	client  *http.Client

	mu      sync.Mutex
	fed     fed
	trouble bool // requests may end without an answer
	stopped bool
	failed  error

	cancel context.CancelFunc
	ended  chan struct{}
}

// fed is what was sent.
type fed struct {
	accepted int // by the pipeline's answers
	unknown  int // of which there was no answer
}

// atOnceItems is how many items one request has.
const atOnceItems = 15

func newFeed(address string, perSecond int) *feed {
	return &feed{
		url: "http://" + address + "/v1/items", several: atOnceItems, every: time.Second * atOnceItems / time.Duration(perSecond),
		client: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 1}},
	}
}

func (f *feed) start() {
	ctx, cancel := context.WithCancel(context.Background())
	f.cancel, f.ended = cancel, make(chan struct{})
	go func() {
		defer close(f.ended)
		f.run(ctx)
	}()
}

func (f *feed) run(ctx context.Context) {
	ticks := time.NewTicker(f.every)
	defer ticks.Stop()
	var waiting []int // refused, to be sent again
	for next := 0; ; {
		f.mu.Lock()
		stopped := f.stopped
		f.mu.Unlock()
		if stopped && len(waiting) == 0 {
			return
		}
		for len(waiting) < f.several && !stopped {
			waiting = append(waiting, next)
			next++
		}
		accepted, known, err := f.send(ctx, waiting)
		f.mu.Lock()
		f.fed.accepted += accepted
		switch {
		case known:
			waiting = waiting[accepted:]
		case f.trouble:
			f.fed.unknown += len(waiting)
			waiting = nil
		case ctx.Err() == nil:
			f.failed = fmt.Errorf("a request has no answer: %w", err)
		}
		failed := f.failed
		f.mu.Unlock()
		if failed != nil {
			return
		}
		select {
		case <-ticks.C:
		case <-ctx.Done():
			return
		}
	}
}

// send offers items, and returns how many from the beginning were taken. Where it
// is not known there was no answer.
func (f *feed) send(ctx context.Context, items []int) (accepted int, known bool, err error) {
	var body bytes.Buffer
	for _, n := range items {
		fmt.Fprintf(&body, `{"key": "n%08d", "price": %d}`+"\n", n, n%1000)
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, f.url, &body)
	if err != nil {
		return 0, false, err
	}
	response, err := f.client.Do(request)
	if err != nil {
		return 0, false, err
	}
	defer response.Body.Close()
	var answer struct {
		Accepted int `json:"accepted"`
	}
	if err := json.NewDecoder(response.Body).Decode(&answer); err != nil {
		return 0, false, fmt.Errorf("the answer %s: %w", response.Status, err)
	}
	return answer.Accepted, true, nil
}

// expectTrouble says that requests may end without an answer from now on.
func (f *feed) expectTrouble() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.trouble = true
}

// stop sends what was refused until it is taken, and nothing new.
func (f *feed) stop(ctx context.Context) (fed, error) {
	f.mu.Lock()
	f.stopped = true
	f.mu.Unlock()
	limit := time.NewTimer(time.Minute)
	defer limit.Stop()
	var err error
	select {
	case <-f.ended:
	case <-limit.C:
		err = fmt.Errorf("the last items were not taken")
	case <-ctx.Done():
		err = context.Cause(ctx)
	}
	f.abandon()
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.failed != nil {
		err = f.failed
	}
	return f.fed, err
}

// abandon stops at once.
func (f *feed) abandon() {
	if f.cancel != nil {
		f.cancel()
		<-f.ended
		f.client.CloseIdleConnections()
	}
}
