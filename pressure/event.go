package pressure

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/headgate/headgate/internal/invalid"
	"github.com/headgate/headgate/internal/jsonbody"
)

// Event is a coordinator's word about its queue: the feedback that a write
// queue publishes when it crosses a watermark, in the process or over HTTP.
type Event struct {
	CoordinatorID string  // whose queue it is; never empty
	QueueSize     int     // items waiting, >= 0
	Capacity      int     // the most items that may wait, > 0
	Level         Level   // what the coordinator makes of it
	Reason        string  // why it was sent, such as "high_watermark"; may be empty
	Utilization   float64 // QueueSize / Capacity, as the sender computed it
	Source        string  // which part of the sender spoke; may be empty

	// Time is when the sender saw it, on the sender's clock. Zero where it
	// did not say; such an event is never held to be old.
	Time time.Time
}

// wireEvent is Event as JSON has it. Pointers tell an absent field from a zero.
type wireEvent struct {
	CoordinatorID *string      `json:"coordinator_id"`
	QueueSize     *json.Number `json:"queue_size"`
	Capacity      *json.Number `json:"capacity"`
	Level         *wireLevel   `json:"level"`
	Reason        *string      `json:"reason"`
	Utilization   *float64     `json:"utilization,omitempty"`
	Source        string       `json:"source,omitempty"`
	TS            *float64     `json:"ts,omitempty"`
}

// wireLevel is a level by its name or its number.
type wireLevel string

func (l *wireLevel) UnmarshalJSON(data []byte) error {
	var name string
	if err := json.Unmarshal(data, &name); err == nil {
		*l = wireLevel(name)
		return nil
	}
	*l = wireLevel(data)
	return nil
}

// DecodeEvent reads one event from a JSON object. Fields that it does not know
// are ignored, for senders may be newer. The error joins an *invalid.Value for
// each field that is missing or wrong.
func DecodeEvent(data []byte) (Event, error) {
	var wire wireEvent
	if err := jsonbody.Decode(data, &wire, jsonbody.Ignore); err != nil {
		return Event{}, err
	}
	var errs []error
	event := Event{Source: wire.Source}
	if wire.CoordinatorID == nil {
		errs = append(errs, invalid.Missing("coordinator_id", "a name"))
		event.CoordinatorID = "?" // told already
	} else {
		event.CoordinatorID = *wire.CoordinatorID
	}
	count := func(field string, n *json.Number, want string) int {
		if n == nil {
			errs = append(errs, invalid.Missing(field, want))
			return 1 // told already
		}
		v, err := n.Int64()
		if err != nil || int64(int(v)) != v {
			errs = append(errs, invalid.New(field, n.String(), want))
			return 1
		}
		return int(v)
	}
	event.QueueSize = count("queue_size", wire.QueueSize, wantSize)
	event.Capacity = count("capacity", wire.Capacity, wantCapacity)
	if wire.Level == nil {
		errs = append(errs, invalid.Missing("level", wantLevel))
	} else if level, err := ParseLevel(string(*wire.Level)); err != nil {
		errs = append(errs, err)
	} else {
		event.Level = level
	}
	if wire.Reason != nil {
		event.Reason = *wire.Reason
	}
	if wire.Utilization != nil {
		event.Utilization = *wire.Utilization
	} else if event.Capacity > 0 {
		event.Utilization = float64(event.QueueSize) / float64(event.Capacity)
	}
	if wire.TS != nil {
		if !(math.Abs(*wire.TS) < maxUnixSeconds) {
			errs = append(errs, invalid.New("ts", *wire.TS, wantTime))
		} else {
			event.Time = time.UnixMicro(int64(math.Round(*wire.TS * 1e6)))
		}
	}
	errs = append(errs, event.Validate())
	if err := errors.Join(errs...); err != nil {
		return Event{}, err
	}
	return event, nil
}

const (
	wantSize     = "a whole number >= 0"
	wantCapacity = "a whole number > 0"
	wantTime     = "seconds since 1970"

	maxUnixSeconds = 1 << 38 // some thousand years, exact in microseconds
	longestName    = 256
)

// Validate reports every field that is out of its range, joined.
func (e Event) Validate() error {
	var errs []error
	if e.CoordinatorID == "" || len(e.CoordinatorID) > longestName {
		errs = append(errs, invalid.New("coordinator_id", e.CoordinatorID,
			fmt.Sprintf("a name of 1 to %d bytes", longestName)))
	}
	if e.QueueSize < 0 {
		errs = append(errs, invalid.New("queue_size", e.QueueSize, wantSize))
	}
	if e.Capacity <= 0 {
		errs = append(errs, invalid.New("capacity", e.Capacity, wantCapacity))
	}
	if !e.Level.Known() {
		errs = append(errs, invalid.New("level", uint8(e.Level), wantLevel))
	}
	if !(e.Utilization >= 0) || math.IsInf(e.Utilization, 0) {
		errs = append(errs, invalid.New("utilization", e.Utilization, "a number >= 0"))
	}
	return errors.Join(errs...)
}

// MarshalJSON writes the object that DecodeEvent reads. An empty reason is
// null and a zero time is left out.
func (e Event) MarshalJSON() ([]byte, error) {
	if err := e.Validate(); err != nil {
		return nil, err
	}
	type object struct {
		CoordinatorID string   `json:"coordinator_id"`
		QueueSize     int      `json:"queue_size"`
		Capacity      int      `json:"capacity"`
		Level         Level    `json:"level"`
		Reason        *string  `json:"reason"`
		Utilization   float64  `json:"utilization"`
		Source        string   `json:"source,omitempty"`
		TS            *float64 `json:"ts,omitempty"`
	}
	o := object{
		CoordinatorID: e.CoordinatorID, QueueSize: e.QueueSize, Capacity: e.Capacity,
		Level: e.Level, Utilization: e.Utilization, Source: e.Source,
	}
	if e.Reason != "" {
		o.Reason = &e.Reason
	}
	if !e.Time.IsZero() {
		seconds := float64(e.Time.UnixMicro()) / 1e6
		o.TS = &seconds
	}
	return json.Marshal(o)
}
