// Package load offers items to the pipelines that are alive, at a rate that can
// be changed at any time.
package load

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"math"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

const (
	tick = 50 * time.Millisecond

	// mostItems is what one request carries at most.
	mostItems = 1000

	// mostWaiting bounds what is kept for later when nobody takes it.
	mostWaiting = 1e6
)

// Generator offers items. What a pipeline refuses is offered again, so a rate
// that the pipelines cannot take piles up here, as it would at the providers.
// Its methods may be called by several goroutines.
type Generator struct {
	targets func() []string // URLs that take items now
	client  *http.Client
	log     *slog.Logger

	perSecond atomic.Uint64 // a float64's bits
	accepted  atomic.Int64
	number    atomic.Int64 // of the last item, for its key

	mu     sync.Mutex
	busy   map[string]time.Time // URLs with a request under way, and those that asked to wait, until when
	left   float64              // items that wait to be offered
	pinned []string             // URLs that alone are offered items; nil for all
}

// New returns a generator that offers nothing yet.
func New(targets func() []string, log *slog.Logger) *Generator {
	return &Generator{
		targets: targets, log: log, busy: map[string]time.Time{},
		client: &http.Client{Timeout: 15 * time.Second, Transport: &http.Transport{MaxIdleConnsPerHost: 4}},
	}
}

// Set changes the rate, in items per second. At 0 what still waits is let go,
// so that nothing more comes.
func (g *Generator) Set(perSecond float64) {
	g.perSecond.Store(math.Float64bits(perSecond))
	if perSecond == 0 {
		g.mu.Lock()
		g.left = 0
		g.mu.Unlock()
	}
}

// Add offers a number of items once, beside the rate.
func (g *Generator) Add(items int) {
	g.mu.Lock()
	g.left += float64(items)
	g.mu.Unlock()
}

// Pin offers items to these pipelines alone from now on, whichever are alive;
// nil takes that back.
func (g *Generator) Pin(urls []string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.pinned = urls
}

// Accepted is how many items the pipelines have taken.
func (g *Generator) Accepted() int64 { return g.accepted.Load() }

// Run offers items until ctx ends.
func (g *Generator) Run(ctx context.Context) error {
	var requests sync.WaitGroup
	defer g.client.CloseIdleConnections()
	defer requests.Wait()
	ticks := time.NewTicker(tick)
	defer ticks.Stop()
	last := time.Now()
	for {
		select {
		case <-ctx.Done():
			return nil
		case now := <-ticks.C:
			rate := math.Float64frombits(g.perSecond.Load())
			g.mu.Lock()
			g.left = min(g.left+rate*now.Sub(last).Seconds(), mostWaiting)
			g.mu.Unlock()
			last = now
			g.spread(ctx, now, &requests)
		}
	}
}

// spread gives each idle target its even share of what waits.
func (g *Generator) spread(ctx context.Context, now time.Time, requests *sync.WaitGroup) {
	targets := g.targets()
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.pinned != nil {
		targets = g.pinned
	}
	if len(targets) == 0 {
		return
	}
	share := min(int(g.left)/len(targets), mostItems)
	if share == 0 && g.left >= 1 {
		share = 1
	}
	for _, url := range targets {
		if now.Before(g.busy[url]) || share == 0 || g.left < float64(share) {
			continue
		}
		g.busy[url] = now.Add(time.Hour) // until the request has ended
		g.left -= float64(share)
		items := share
		requests.Go(func() {
			accepted, pause := g.post(ctx, url, items)
			g.accepted.Add(int64(accepted))
			g.mu.Lock()
			defer g.mu.Unlock()
			g.busy[url] = time.Now().Add(pause)
			if math.Float64frombits(g.perSecond.Load()) > 0 {
				g.left += float64(items - accepted)
			}
		})
	}
}

// post offers items to one pipeline and tells how many it took, and how long it
// is to be left alone.
func (g *Generator) post(ctx context.Context, url string, items int) (accepted int, pause time.Duration) {
	var body bytes.Buffer
	for range items {
		fmt.Fprintf(&body, `{"key":"item-%d","bid":{"price":101.25,"size":300},"symbol":"AIG"}`+"\n", g.number.Add(1))
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, url, &body)
	if err != nil {
		return 0, time.Second
	}
	request.Header.Set("Content-Type", "application/x-ndjson")
	response, err := g.client.Do(request)
	if err != nil {
		return 0, 200 * time.Millisecond // it is starting or stopping
	}
	defer response.Body.Close()
	var answer struct {
		Accepted int    `json:"accepted"`
		Error    string `json:"error"`
	}
	data, _ := io.ReadAll(response.Body)
	_ = json.Unmarshal(data, &answer)
	switch response.StatusCode {
	case http.StatusAccepted:
		return answer.Accepted, 0
	case http.StatusTooManyRequests:
		// Sooner than Retry-After asks for: the queue is to be kept full.
		return answer.Accepted, 100 * time.Millisecond
	case http.StatusServiceUnavailable:
		return answer.Accepted, time.Second
	}
	g.log.Error("items were refused", "url", url, "status", response.Status, "answer", string(data))
	return answer.Accepted, time.Second
}
