// Package ingest takes items into a pipeline over HTTP: NDJSON by POST, one
// JSON object a line.
//
// A body is read and checked as a whole before any of it is offered. What comes
// back tells the sender what to do:
//
//	202  all items are in the queue
//	200  all items are written to the store, but for those that it will never
//	     take, which are "dead_lettered"; in place of 202 where the setting is to
//	     acknowledge only that
//	400  nothing was taken; the fields name the lines that are wrong
//	413  nothing was taken; the body or its number of items is too large
//	429  there was no room in time: "accepted" items from the beginning were
//	     taken, the rest was not. Send the rest, or all of it under the same
//	     keys, after Retry-After
//	503  the pipeline is stopping, or waits for its store or its queue
//	     before it begins; "accepted" as for 429. Where what is written is
//	     acknowledged: not all items were written in time, or some were lost. Send
//	     all of them again under the same keys
//
// An item's key is its key field; else it is made of the Idempotency-Key header
// and the line; else it is new, and then a body that is sent twice is two. Where
// what is written is acknowledged an item may have to be sent again though it is
// on its way, so there each needs one of the first two.
package ingest

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"net/http"
	"strconv"
	"time"

	"github.com/headgate/headgate/internal/invalid"
	"github.com/headgate/headgate/pipeline/source/replay"
	"github.com/headgate/headgate/writequeue"
)

// Config are the settings of a handler.
type Config struct {
	Source       string        // the source's name, the beginning of keys that are made here
	KeyField     string        // field that holds an item's key
	MaxBodyBytes int64         // > 0
	MaxItems     int           // in one body, > 0
	MaxRequests  int           // that may wait at once, > 0
	Wait         time.Duration // the longest that a request waits for room, > 0
	Written      bool          // a request is answered when its items are written, for which it waits no longer in all
}

// Handler takes items by POST. Several requests may be served at once.
type Handler struct {
	cfg     Config
	put     replay.Put
	log     *slog.Logger
	waiting chan struct{} // one entry a request, at most MaxRequests
}

// ErrNotReady is the error of a put that takes nothing because the pipeline has
// not begun yet.
var ErrNotReady = errors.New("the pipeline is not ready yet")

// New returns a handler that puts items into a pipeline. An error of put may
// have a method RetryAfter that says how long to wait.
func New(cfg Config, put replay.Put, log *slog.Logger) *Handler {
	return &Handler{cfg: cfg, put: put, log: log, waiting: make(chan struct{}, cfg.MaxRequests)}
}

// answer is the body of every response.
type answer struct {
	Accepted int     `json:"accepted"`
	Refused  int     `json:"refused"`
	Written  int     `json:"written,omitempty"`
	Dead     int     `json:"dead_lettered,omitempty"`
	Error    string  `json:"error,omitempty"`
	Fields   []field `json:"fields,omitempty"`
}

type field struct {
	Field string `json:"field"`
	Got   string `json:"got"`
	Want  string `json:"want"`
}

// mostFields bounds what a body of nothing but faults can make us say.
const mostFields = 20

func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodPost {
		w.Header().Set("Allow", http.MethodPost)
		reply(w, http.StatusMethodNotAllowed, answer{Error: "items are sent by POST"})
		return
	}
	select {
	case h.waiting <- struct{}{}:
		defer func() { <-h.waiting }()
	default:
		h.busy(w, 0, 0, "too many requests are waiting already", time.Second)
		return
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, h.cfg.MaxBodyBytes))
	if err != nil {
		var tooLarge *http.MaxBytesError
		if errors.As(err, &tooLarge) {
			reply(w, http.StatusRequestEntityTooLarge, answer{Error: fmt.Sprintf("body is larger than %d bytes", h.cfg.MaxBodyBytes)})
			return
		}
		reply(w, http.StatusBadRequest, answer{Error: "body could not be read"})
		return
	}
	items, err := h.parse(body, r.Header.Get("Idempotency-Key"), time.Now())
	if err != nil {
		var tooMany tooManyError
		if errors.As(err, &tooMany) {
			reply(w, http.StatusRequestEntityTooLarge, answer{Error: tooMany.Error()})
			return
		}
		refused := answer{Error: "no item was taken, for the body is wrong"}
		for _, v := range invalid.All(err) {
			refused.Fields = append(refused.Fields, field{v.Field, v.Got, v.Want})
		}
		reply(w, http.StatusBadRequest, refused)
		return
	}
	h.offer(w, r, items)
}

func (h *Handler) offer(w http.ResponseWriter, r *http.Request, items []writequeue.Item) {
	ctx, cancel := context.WithTimeout(r.Context(), h.cfg.Wait)
	defer cancel()
	if h.cfg.Written {
		h.offerAndWait(ctx, w, items)
		return
	}
	accepted, err := h.put(ctx, items)
	h.tell(w, items, accepted, err)
}

// offerAndWait answers when it is known what became of all items. Nothing counts
// as accepted before that.
func (h *Handler) offerAndWait(ctx context.Context, w http.ResponseWriter, items []writequeue.Item) {
	ctx, receipt := writequeue.WithReceipt(ctx)
	accepted, err := h.put(ctx, items)
	if err != nil || accepted < len(items) {
		h.tell(w, items, 0, err)
		return
	}
	fate, err := receipt.Wait(ctx)
	switch {
	case err != nil:
		h.away(w, 0, len(items), "not all items are written yet: send all of them again, under the same keys")
	case fate.Dropped > 0:
		h.away(w, 0, len(items), fmt.Sprintf("%d items were dropped: send all of them again, under the same keys", fate.Dropped))
	default:
		reply(w, http.StatusOK, answer{Accepted: len(items), Written: fate.Written, Dead: fate.DeadLettered})
	}
}

// tell answers by what the pipeline took at once.
func (h *Handler) tell(w http.ResponseWriter, items []writequeue.Item, accepted int, err error) {
	refused := len(items) - accepted
	var retry interface{ RetryAfter() time.Duration }
	switch {
	case err == nil:
		reply(w, http.StatusAccepted, answer{Accepted: accepted})
	case errors.As(err, &retry):
		h.busy(w, accepted, refused, "the gate lets no more in now", retry.RetryAfter())
	case errors.Is(err, writequeue.ErrFull), errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		h.busy(w, accepted, refused, "the queue is full", time.Second)
	case errors.Is(err, writequeue.ErrClosed):
		h.away(w, accepted, refused, "the pipeline is stopping")
	case errors.Is(err, ErrNotReady):
		h.away(w, accepted, refused, "the pipeline waits for its store or its queue")
	default:
		h.log.Error("items could not be taken", "source", h.cfg.Source, "error", err)
		reply(w, http.StatusInternalServerError, answer{Accepted: accepted, Refused: refused, Error: "the pipeline failed, see its log"})
	}
}

// away answers 503.
func (h *Handler) away(w http.ResponseWriter, accepted, refused int, why string) {
	w.Header().Set("Retry-After", "5")
	reply(w, http.StatusServiceUnavailable, answer{Accepted: accepted, Refused: refused, Error: why})
}

// busy answers 429. Retry-After is in whole seconds, at least one and at most a
// minute.
func (h *Handler) busy(w http.ResponseWriter, accepted, refused int, why string, after time.Duration) {
	seconds := min(max(int(math.Ceil(after.Seconds())), 1), 60)
	w.Header().Set("Retry-After", strconv.Itoa(seconds))
	reply(w, http.StatusTooManyRequests, answer{Accepted: accepted, Refused: refused, Error: why})
}

func reply(w http.ResponseWriter, status int, a answer) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(a) // the sender is gone where this fails
}

// tooManyError says that a body has more items than may be.
type tooManyError int

func (e tooManyError) Error() string { return fmt.Sprintf("body has more than %d items", int(e)) }

// parse reads a whole body. The error joins an *invalid.Value for each line
// that is wrong, the first twenty.
func (h *Handler) parse(body []byte, idempotencyKey string, now time.Time) ([]writequeue.Item, error) {
	if len(idempotencyKey) > 256 {
		return nil, invalid.New("Idempotency-Key", idempotencyKey, "at most 256 bytes")
	}
	request := h.cfg.Source + "/" + idempotencyKey
	if idempotencyKey == "" {
		request = h.cfg.Source + "/" + rand.Text()
	}
	var items []writequeue.Item
	var errs []error
	number := 0
	for line := range bytes.Lines(body) {
		number++
		line = bytes.TrimSpace(line)
		if len(line) == 0 {
			continue
		}
		name := fmt.Sprintf("line %d", number)
		if line[0] != '{' || !json.Valid(line) {
			errs = append(errs, invalid.New(name, string(line), "one JSON object"))
		} else if key, found, err := replay.Key(line, h.cfg.KeyField); err != nil {
			for _, v := range invalid.All(err) {
				v.Field = name + ", " + v.Field
				errs = append(errs, v)
			}
		} else {
			if !found && idempotencyKey == "" && h.cfg.Written {
				errs = append(errs, invalid.Missing(name+", "+h.cfg.KeyField, "a key, or the header Idempotency-Key: an item may have to be sent again"))
				continue
			}
			if !found {
				key = request + "/" + strconv.Itoa(number)
			}
			items = append(items, writequeue.Item{Key: key, Time: now, Payload: line})
		}
		if len(items) > h.cfg.MaxItems {
			return nil, tooManyError(h.cfg.MaxItems)
		}
		if len(errs) == mostFields {
			break
		}
	}
	if len(errs) == 0 && len(items) == 0 {
		errs = append(errs, invalid.Missing("line 1", "one JSON object a line"))
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return items, nil
}
