package statuspage

import (
	"encoding/json"
	"net/http"
	"time"

	"github.com/tmaxmax/go-sse"
)

const (
	// heartbeat keeps a quiet stream from being taken for a dead one.
	heartbeat = 15 * time.Second

	// sendLimit is how long a viewer may take for one message before it is given
	// up; a stream has no other limit.
	sendLimit = 10 * time.Second
)

// serveStream sends the status after each tick. A viewer that is slow misses
// ticks, and one that takes nothing for sendLimit is dropped. It ends with the
// viewer, or with Run.
func (p *Page) serveStream(w http.ResponseWriter, r *http.Request) {
	q, ok := p.question(w, r)
	if !ok {
		return
	}
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("X-Accel-Buffering", "no") // or nginx would hold the messages back
	out := stream{w: w, control: http.NewResponseController(w)}
	beat := time.NewTicker(heartbeat)
	defer beat.Stop()
	var told *change // the newest that was sent
	for sent := false; ; sent = true {
		s, moved := p.now()
		status := s.answer(q)
		var newest *change
		if len(status.Changes) > 0 {
			newest = &status.Changes[0]
		}
		if sent && newest.is(told) {
			status.Changes = nil
		}
		told = newest
		if out.send(status) != nil {
			return // the viewer is gone
		}
		for waits := true; waits; {
			select {
			case <-moved:
				waits = false
			case <-beat.C:
				if out.send(nil) != nil {
					return
				}
			case <-p.ended:
				return
			case <-r.Context().Done():
				return
			}
		}
	}
}

// stream writes messages to one viewer.
type stream struct {
	w       http.ResponseWriter
	control *http.ResponseController
}

// send writes a message with a body, or a comment where that is nil.
func (s stream) send(body any) error {
	message := &sse.Message{}
	if body == nil {
		message.AppendComment("alive") // an empty one would not be sent
	} else {
		data, err := json.Marshal(body)
		if err != nil {
			return err
		}
		message.Type = sse.Type("status")
		message.AppendData(string(data))
	}
	// A server without deadlines, as in some tests, is no reason to fail.
	_ = s.control.SetWriteDeadline(time.Now().Add(sendLimit))
	if _, err := message.WriteTo(s.w); err != nil {
		return err
	}
	return s.control.Flush()
}
