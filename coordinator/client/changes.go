package client

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"time"

	"github.com/cenkalti/backoff/v5"
	"github.com/tmaxmax/go-sse"

	"github.com/headgate/headgate/coordinator"
	"github.com/headgate/headgate/pressure"
)

// Change is one message of the stream of changes: either of the two is set.
type Change struct {
	State *coordinator.State // of a provider
	Event *pressure.Event    // feedback, as it was published
}

// silence is how long a stream may be quiet before it is taken for dead; the
// coordinator sends something more than twice in that time.
const silence = 40 * time.Second

// Follow calls see with every change at the coordinator, one after another,
// until ctx ends; that is not an error. When the stream breaks it is opened
// again, after pauses that grow to half a minute while it cannot be; lost is
// then told why, and may be nil. The first changes of each stream are the
// states of all providers.
func (c *Client) Follow(ctx context.Context, see func(Change), lost func(error)) {
	pauses := backoff.NewExponentialBackOff()
	pauses.InitialInterval, pauses.MaxInterval = 200*time.Millisecond, 30*time.Second
	for {
		err := c.stream(ctx, func(change Change) {
			pauses.Reset()
			see(change)
		})
		if ctx.Err() != nil {
			return
		}
		if lost != nil {
			lost(err)
		}
		timer := time.NewTimer(pauses.NextBackOff())
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return
		}
	}
}

// stream reads one stream until it ends, and says why.
func (c *Client) stream(ctx context.Context, see func(Change)) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	dead := time.AfterFunc(silence, func() { cancel(fmt.Errorf("stream of changes was silent for %v", silence)) })
	defer dead.Stop()

	request, err := http.NewRequestWithContext(ctx, http.MethodGet, c.base+"/v1/changes", nil)
	if err != nil {
		return fmt.Errorf("make a request: %w", err)
	}
	request.Header.Set("Accept", "text/event-stream")
	response, err := c.http.Do(request)
	if err != nil {
		return fmt.Errorf("open the stream of changes: %w", err)
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return refusal(response.StatusCode, []byte(response.Status))
	}
	alive := &watchedReader{body: response.Body, alive: func() { dead.Reset(silence) }}
	for event, err := range sse.Read(alive, &sse.ReadConfig{MaxEventSize: maxAnswer}) {
		if err != nil {
			if cause := context.Cause(ctx); cause != nil {
				err = cause
			}
			return fmt.Errorf("read the stream of changes: %w", err)
		}
		change, known, err := decode(event)
		if err != nil {
			return err
		}
		if known {
			see(change)
		}
	}
	return errEnded
}

// decode reads one message. Types that are not known are passed over, for the
// coordinator may be newer.
func decode(event sse.Event) (change Change, known bool, err error) {
	switch event.Type {
	case "provider":
		var state coordinator.State
		if err := json.Unmarshal([]byte(event.Data), &state); err != nil {
			return Change{}, false, fmt.Errorf("read a change: %w", err)
		}
		return Change{State: &state}, true, nil
	case "feedback":
		feedback, err := pressure.DecodeEvent([]byte(event.Data))
		if err != nil {
			return Change{}, false, fmt.Errorf("read a change: %w", err)
		}
		return Change{Event: &feedback}, true, nil
	}
	return Change{}, false, nil
}

// watchedReader tells of every read that brought something, heartbeats too.
type watchedReader struct {
	body  interface{ Read([]byte) (int, error) }
	alive func()
}

func (r *watchedReader) Read(p []byte) (int, error) {
	n, err := r.body.Read(p)
	if n > 0 {
		r.alive()
	}
	return n, err
}
