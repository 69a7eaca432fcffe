package client

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"

	"github.com/tmaxmax/go-sse"

	"github.com/headgate/headgate/coordinator"
	"github.com/headgate/headgate/internal/eventstream"
	"github.com/headgate/headgate/pressure"
)

// Change is one message of the stream of changes: either of the two is set.
type Change struct {
	State *coordinator.State // of a provider
	Event *pressure.Event    // feedback, as it was published
}

// Follow calls see with every change at the coordinator, one after another,
// until ctx ends; that is not an error. When the stream breaks it is opened
// again, after pauses that grow to half a minute while it cannot be; lost is
// then told why, and may be nil. The first changes of each stream are the
// states of all providers.
func (c *Client) Follow(ctx context.Context, see func(Change), lost func(error)) {
	eventstream.Stream{
		Client: c.http, URL: c.base + "/v1/changes",
		Refused: func(r *http.Response) error { return refusal(r.StatusCode, []byte(r.Status)) },
		See: func(event sse.Event) error {
			change, known, err := decode(event)
			if known {
				see(change)
			}
			return err
		},
		Lost: func(err error) bool {
			if lost != nil {
				lost(fmt.Errorf("follow the changes: %w", err))
			}
			return true
		},
	}.Follow(ctx)
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
