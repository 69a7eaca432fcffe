// Command naive is the loop that one has after an afternoon: each second it asks
// Prometheus for the depth and sets the provider's scale by two thresholds. It
// knows no lease, no age of a sample and no standby. Headgate's controller is held
// against it.
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"os/signal"
	"strconv"
	"syscall"
	"time"
)

// forEver is as long as the pipeline takes a scale for: the loop means no lease.
const forEver = "168h"

type loop struct {
	prometheus, query, scaleURL string

	soft, hard float64
	client     http.Client
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	l := loop{client: http.Client{Timeout: 800 * time.Millisecond}}
	flag.StringVar(&l.prometheus, "prometheus", "", "base address of Prometheus")
	flag.StringVar(&l.query, "query", "", "PromQL for the depth")
	flag.StringVar(&l.scaleURL, "scale", "", "address that takes the scale")
	flag.Float64Var(&l.soft, "soft", 1000, "depth above which the scale is a half")
	flag.Float64Var(&l.hard, "hard", 1600, "depth from which the scale is 0")
	flag.Parse()

	ticks := time.NewTicker(time.Second)
	defer ticks.Stop()
	for {
		if err := l.once(ctx); err != nil {
			fmt.Fprintln(os.Stderr, "naive:", err) // and again in a second
		}
		select {
		case <-ticks.C:
		case <-ctx.Done():
			return
		}
	}
}

func (l *loop) once(ctx context.Context) error {
	depth, err := l.depth(ctx)
	if err != nil {
		return err
	}
	scale := 1.0
	switch {
	case depth >= l.hard:
		scale = 0
	case depth > l.soft:
		scale = 0.5
	}
	return l.set(ctx, scale)
}

// depth is the sum of what the query answers.
func (l *loop) depth(ctx context.Context) (sum float64, err error) {
	var answer struct {
		Data struct {
			Result []struct {
				Value [2]any `json:"value"`
			} `json:"result"`
		} `json:"data"`
	}
	if err := l.do(ctx, http.MethodGet, l.prometheus+"/api/v1/query?query="+url.QueryEscape(l.query), nil, &answer); err != nil {
		return 0, err
	}
	for _, series := range answer.Data.Result {
		text, _ := series.Value[1].(string)
		value, err := strconv.ParseFloat(text, 64)
		if err != nil {
			return 0, err
		}
		sum += value
	}
	return sum, nil
}

func (l *loop) set(ctx context.Context, scale float64) error {
	body, err := json.Marshal(map[string]any{"scale": scale, "ttl": forEver, "holder": "naive", "sequence": time.Now().UnixNano()})
	if err != nil {
		return err
	}
	return l.do(ctx, http.MethodPut, l.scaleURL, body, &struct{}{})
}

func (l *loop) do(ctx context.Context, method, address string, body []byte, answer any) error {
	request, err := http.NewRequestWithContext(ctx, method, address, bytes.NewReader(body))
	if err != nil {
		return err
	}
	response, err := l.client.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return errors.New(response.Status)
	}
	return json.NewDecoder(response.Body).Decode(answer)
}
