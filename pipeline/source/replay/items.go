package replay

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"time"

	"github.com/headgate/headgate/internal/invalid"
	"github.com/headgate/headgate/writequeue"
)

// wantKey is what a key may be.
const wantKey = "a string of 1 to 512 bytes, or a number"

const longestKey = 512

// Key reads an item's key from a field of its JSON object. Found is false where
// the field is absent or null; the error is an *invalid.Value.
func Key(object []byte, field string) (key string, found bool, err error) {
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(object, &fields); err != nil {
		return "", false, invalid.New("item", string(object), "one JSON object")
	}
	raw, found := fields[field]
	if !found || string(raw) == "null" {
		return "", false, nil
	}
	switch raw[0] {
	case '"':
		if err := json.Unmarshal(raw, &key); err != nil {
			return "", false, invalid.New(field, string(raw), wantKey)
		}
	case '-', '0', '1', '2', '3', '4', '5', '6', '7', '8', '9':
		key = string(raw)
	}
	if key == "" || len(key) > longestKey {
		return "", false, invalid.New(field, string(raw), wantKey)
	}
	return key, true, nil
}

// Items is a source of items from NDJSON.
type Items struct {
	Open          func() (io.ReadCloser, error)
	KeyField      string                   // field that holds an item's key
	Key           func(line uint64) string // key of an item without one
	PerSecond     float64                  // 0 is as fast as Put takes them
	Loop          bool
	LongestLine   int // bytes
	ItemsPerBatch int // the most that one Put is given where PerSecond is 0; >= 1
	Put           Put
}

// Run offers all items. It returns nil and errors as Counts.Run does, and an
// error when the file cannot be read or a line is no JSON object.
//
// Keys repeat when the file begins again, and a store would take the second
// round for the first. So from the second round on each key has the round's
// number behind it.
func (s *Items) Run(ctx context.Context) error {
	start := time.Now()
	var offered, line uint64
	for round := 1; ; round++ {
		before := offered
		if err := s.round(ctx, start, round, &offered, &line); err != nil {
			return ended(ctx, err)
		}
		if !s.Loop || ctx.Err() != nil || offered == before {
			return nil
		}
	}
}

func (s *Items) round(ctx context.Context, start time.Time, round int, offered, line *uint64) error {
	file, err := s.Open()
	if err != nil {
		return err
	}
	defer file.Close()
	lines := bufio.NewScanner(file)
	lines.Buffer(nil, s.LongestLine)
	batch := make([]writequeue.Item, 0, s.ItemsPerBatch)
	send := func() error {
		defer func() { batch = batch[:0] }()
		if _, err := s.Put(ctx, batch); err != nil && !passes(err) {
			return err
		}
		return ctx.Err()
	}
	for lines.Scan() {
		*line++
		text := bytes.TrimSpace(lines.Bytes())
		if len(text) == 0 {
			continue
		}
		key, found, err := Key(text, s.KeyField)
		switch {
		case err != nil:
			return fmt.Errorf("line %d: %w", *line, err)
		case !found:
			key = s.Key(*line)
		case round > 1:
			key = fmt.Sprintf("%s#%d", key, round)
		}
		if s.PerSecond > 0 {
			due := start.Add(time.Duration(float64(*offered) / s.PerSecond * float64(time.Second)))
			// What is gathered goes before the wait for the next item.
			if time.Until(due) > 0 && len(batch) > 0 {
				if err := send(); err != nil {
					return err
				}
			}
			if err := sleepUntil(ctx, due); err != nil {
				return err
			}
		}
		*offered++
		batch = append(batch, writequeue.Item{Key: key, Time: time.Now(), Payload: bytes.Clone(text)})
		if len(batch) == s.ItemsPerBatch {
			if err := send(); err != nil {
				return err
			}
		}
	}
	if err := lines.Err(); err != nil {
		return fmt.Errorf("line %d: %w", *line+1, err)
	}
	if len(batch) > 0 {
		return send()
	}
	return nil
}

// sleepUntil waits for a time. A wait shorter than a tick is made one, so that
// the items of a tick go together.
func sleepUntil(ctx context.Context, due time.Time) error {
	wait := time.Until(due)
	if wait <= 0 {
		return ctx.Err()
	}
	timer := time.NewTimer(max(wait, tick))
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
