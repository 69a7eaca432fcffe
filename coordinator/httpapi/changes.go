package httpapi

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/tmaxmax/go-sse"

	"github.com/headgate/headgate/pressure"
)

const (
	// heartbeat keeps a quiet stream from being taken for a dead one.
	heartbeat = 15 * time.Second

	// sendLimit is how long a reader may take for one message before it is
	// given up; a stream has no other limit.
	sendLimit = 10 * time.Second
)

// Types of the messages on the stream of changes.
const (
	TypeProvider = "provider" // a coordinator.State: at first of every provider, then of each that changed
	TypeFeedback = "feedback" // a pressure.Event, as it was published
)

// changes streams the providers' states and the feedback events as they come.
// A slow reader misses states that were overtaken by newer ones, and of each
// coordinator's events all but the newest.
func (a *API) changes(w http.ResponseWriter, r *http.Request) error {
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("X-Accel-Buffering", "no") // or nginx would hold the messages back
	stream := &stream{w: w, control: http.NewResponseController(w)}

	var pending latest
	unsubscribe := a.bus.Subscribe("changes", pending.put)
	defer unsubscribe()

	states := make(chan any)
	var watching sync.WaitGroup
	watching.Go(func() {
		for state := range a.gate.Watch(ctx) {
			select {
			case states <- state:
			case <-ctx.Done():
				return
			}
		}
		cancel() // the coordinator is closed
	})
	defer watching.Wait()
	defer cancel()

	beat := time.NewTicker(heartbeat)
	defer beat.Stop()
	if stream.send(nil) != nil { // headers go out at once
		return nil
	}
	for {
		var err error
		select {
		case <-ctx.Done():
			return nil
		case <-a.stopped:
			return nil
		case state := <-states:
			err = stream.sendJSON(TypeProvider, state)
		case <-pending.ready():
			for _, event := range pending.take() {
				if err = stream.sendJSON(TypeFeedback, event); err != nil {
					break
				}
			}
		case <-beat.C:
			err = stream.send(nil)
		}
		if err != nil {
			return nil // the reader is gone
		}
	}
}

// stream writes messages to one reader.
type stream struct {
	w       http.ResponseWriter
	control *http.ResponseController
}

func (s *stream) sendJSON(kind string, body any) error {
	data, err := json.Marshal(body)
	if err != nil {
		return fmt.Errorf("encode a change: %w", err)
	}
	message := &sse.Message{Type: sse.Type(kind)}
	message.AppendData(string(data))
	return s.send(message)
}

// send writes a message, or a comment where it is nil.
func (s *stream) send(message *sse.Message) error {
	if message == nil {
		message = &sse.Message{}
		message.AppendComment("alive") // an empty one would not be sent
	}
	// A server without deadlines, as in some tests, is no reason to fail.
	_ = s.control.SetWriteDeadline(time.Now().Add(sendLimit))
	if _, err := message.WriteTo(s.w); err != nil {
		return err
	}
	return s.control.Flush()
}

// latest holds the newest event of each coordinator that a reader has not had
// yet. The zero value is ready.
type latest struct {
	mu     sync.Mutex
	events map[string]pressure.Event
	order  []string
	signal chan struct{} // of size one
}

// mostPending bounds the coordinators whose events wait for one reader.
const mostPending = 1000

func (l *latest) ready() <-chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.lockedSignal()
}

func (l *latest) lockedSignal() chan struct{} {
	if l.signal == nil {
		l.signal = make(chan struct{}, 1)
	}
	return l.signal
}

// put notes an event. It is a feedback.Subscriber.
func (l *latest) put(e pressure.Event) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.events == nil {
		l.events = map[string]pressure.Event{}
	}
	if _, waits := l.events[e.CoordinatorID]; !waits {
		if len(l.order) == mostPending {
			delete(l.events, l.order[0])
			l.order = l.order[1:]
		}
		l.order = append(l.order, e.CoordinatorID)
	}
	l.events[e.CoordinatorID] = e
	select {
	case l.lockedSignal() <- struct{}{}:
	default:
	}
	return nil
}

// take returns the events that wait, the oldest coordinator's first.
func (l *latest) take() []pressure.Event {
	l.mu.Lock()
	defer l.mu.Unlock()
	events := make([]pressure.Event, 0, len(l.order))
	for _, id := range l.order {
		events = append(events, l.events[id])
	}
	clear(l.events)
	l.order = l.order[:0]
	return events
}
