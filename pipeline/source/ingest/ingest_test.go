package ingest_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/headgate/headgate/pipeline/source/ingest"
	"github.com/headgate/headgate/writequeue"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// pipeline takes items until it has no room.
type pipeline struct {
	room  int
	err   error // what is said when there is none
	items []writequeue.Item
}

func (p *pipeline) put(_ context.Context, items []writequeue.Item) (int, error) {
	n := min(p.room, len(items))
	p.items = append(p.items, items[:n]...)
	p.room -= n
	if n < len(items) {
		return n, p.err
	}
	return n, nil
}

func (p *pipeline) keys() []string {
	var keys []string
	for _, item := range p.items {
		keys = append(keys, item.Key)
	}
	return keys
}

var config = ingest.Config{
	Source: "feed", KeyField: "key", MaxBodyBytes: 1000, MaxItems: 5, MaxRequests: 1, Wait: time.Second,
}

func newHandler(p *pipeline) *ingest.Handler {
	return ingest.New(config, p.put, slog.New(slog.DiscardHandler))
}

func post(h http.Handler, body string, header ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(http.MethodPost, "/v1/items", strings.NewReader(body))
	for i := 0; i+1 < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

// gateError is what a closed gate says.
type gateError struct{ after time.Duration }

func (e gateError) Error() string             { return "closed" }
func (e gateError) RetryAfter() time.Duration { return e.after }

func TestARequestIsAnsweredByWhatBecameOfItsItems(t *testing.T) {
	const three = `{"key":"a"}` + "\n" + `{"key":"b"}` + "\n\n" + `{"key":"c"}` + "\n"
	for _, test := range []struct {
		name   string
		room   int
		err    error
		body   string
		status int
		retry  string
		answer string
		taken  []string
	}{
		{name: "there is room", room: 9, body: three, status: 202,
			answer: `{"accepted":3,"refused":0}`, taken: []string{"a", "b", "c"}},
		{name: "the queue is full", err: writequeue.ErrFull, body: three, status: 429, retry: "1",
			answer: `{"accepted":0,"refused":3,"error":"the queue is full"}`},
		{name: "the queue becomes full", room: 2, err: context.DeadlineExceeded, body: three, status: 429, retry: "1",
			answer: `{"accepted":2,"refused":1,"error":"the queue is full"}`, taken: []string{"a", "b"}},
		{name: "the gate is closed for a while", err: fmt.Errorf("gate: %w", gateError{2100 * time.Millisecond}), body: three, status: 429, retry: "3",
			answer: `{"accepted":0,"refused":3,"error":"the gate lets no more in now"}`},
		{name: "the gate is closed for an hour", err: gateError{time.Hour}, body: three, status: 429, retry: "60",
			answer: `{"accepted":0,"refused":3,"error":"the gate lets no more in now"}`},
		{name: "the pipeline is stopping", err: writequeue.ErrClosed, body: three, status: 503, retry: "5",
			answer: `{"accepted":0,"refused":3,"error":"the pipeline is stopping"}`},
		{name: "the pipeline is broken", err: errors.New("secret"), body: three, status: 500,
			answer: `{"accepted":0,"refused":3,"error":"the pipeline failed, see its log"}`},
		{name: "two lines are wrong", room: 9, body: `{"key":"a"}` + "\nhello\n" + `{"key":[]}`, status: 400,
			answer: `{"accepted":0,"refused":0,"error":"no item was taken, for the body is wrong","fields":[` +
				`{"field":"line 2","got":"\"hello\"","want":"one JSON object"},` +
				`{"field":"line 3, key","got":"\"[]\"","want":"a string of 1 to 512 bytes, or a number"}]}`},
		{name: "a number that JSON does not have", room: 9, body: `{"price":NaN}`, status: 400,
			answer: `{"accepted":0,"refused":0,"error":"no item was taken, for the body is wrong","fields":[` +
				`{"field":"line 1","got":"\"{\\\"price\\\":NaN}\"","want":"one JSON object"}]}`},
		{name: "no item", room: 9, body: "\n", status: 400,
			answer: `{"accepted":0,"refused":0,"error":"no item was taken, for the body is wrong","fields":[` +
				`{"field":"line 1","got":"","want":"one JSON object a line"}]}`},
		{name: "a body that is too large", room: 9, body: strings.Repeat(" ", 1001), status: 413,
			answer: `{"accepted":0,"refused":0,"error":"body is larger than 1000 bytes"}`},
		{name: "too many items", room: 9, body: strings.Repeat("{}\n", 6), status: 413,
			answer: `{"accepted":0,"refused":0,"error":"body has more than 5 items"}`},
	} {
		t.Run(test.name, func(t *testing.T) {
			p := &pipeline{room: test.room, err: test.err}
			w := post(newHandler(p), test.body)
			if w.Code != test.status || w.Header().Get("Retry-After") != test.retry {
				t.Errorf("status %d, Retry-After %q; want %d, %q", w.Code, w.Header().Get("Retry-After"), test.status, test.retry)
			}
			if diff := cmp.Diff(test.answer+"\n", w.Body.String()); diff != "" {
				t.Error(diff)
			}
			if diff := cmp.Diff(test.taken, p.keys()); diff != "" {
				t.Error("taken:", diff)
			}
		})
	}
}

func TestWhatIsWrittenIsAcknowledgedWhereThatIsAsked(t *testing.T) {
	const two = `{"key":"a"}` + "\n" + `{"key":"b"}` + "\n"
	for _, test := range []struct {
		name     string
		accepted int
		err      error
		become   []writequeue.Outcome // of those that are settled
		body     string
		header   []string
		status   int
		answer   string
	}{
		{name: "all are written", accepted: 2, become: []writequeue.Outcome{writequeue.Written, writequeue.Written}, body: two,
			status: 200, answer: `{"accepted":2,"refused":0,"written":2}`},
		{name: "one will never be", accepted: 2, become: []writequeue.Outcome{writequeue.Written, writequeue.DeadLettered}, body: two,
			status: 200, answer: `{"accepted":2,"refused":0,"written":1,"dead_lettered":1}`},
		{name: "one is not yet", accepted: 2, become: []writequeue.Outcome{writequeue.Written}, body: two,
			status: 503, answer: `{"accepted":0,"refused":2,"error":"not all items are written yet: send all of them again, under the same keys"}`},
		{name: "one was dropped", accepted: 2, become: []writequeue.Outcome{writequeue.Written, writequeue.Lost}, body: two,
			status: 503, answer: `{"accepted":0,"refused":2,"error":"1 items were dropped: send all of them again, under the same keys"}`},
		{name: "there was room for one", accepted: 1, err: writequeue.ErrFull, become: []writequeue.Outcome{writequeue.Written}, body: two,
			status: 429, answer: `{"accepted":0,"refused":2,"error":"the queue is full"}`},
		{name: "no key to send it again under", body: "{}", status: 400,
			answer: `{"accepted":0,"refused":0,"error":"no item was taken, for the body is wrong","fields":[` +
				`{"field":"line 1, key","got":"","want":"a key, or the header Idempotency-Key: an item may have to be sent again"}]}`},
		{name: "a key of the request", accepted: 1, become: []writequeue.Outcome{writequeue.Written}, body: "{}", header: []string{"Idempotency-Key", "batch-7"},
			status: 200, answer: `{"accepted":1,"refused":0,"written":1}`},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				asks := config
				asks.Written = true
				var queue sync.WaitGroup
				defer queue.Wait()
				h := ingest.New(asks, func(ctx context.Context, _ []writequeue.Item) (int, error) {
					receipt := writequeue.ReceiptOf(ctx)
					receipt.Accepted(test.accepted)
					queue.Go(func() {
						for _, what := range test.become {
							time.Sleep(400 * time.Millisecond)
							receipt.Settled(1, what)
						}
					})
					return test.accepted, test.err
				}, slog.New(slog.DiscardHandler))
				begin := time.Now()
				w := post(h, test.body, test.header...)
				if w.Code != test.status || test.status > 400 && w.Header().Get("Retry-After") == "" {
					t.Errorf("status %d, Retry-After %q; want %d", w.Code, w.Header().Get("Retry-After"), test.status)
				}
				if took := time.Since(begin); took > config.Wait {
					t.Errorf("it took %v, longer than the setting", took)
				}
				if diff := cmp.Diff(test.answer+"\n", w.Body.String()); diff != "" {
					t.Error(diff)
				}
			})
		})
	}
}

func TestOnlyPostIsTaken(t *testing.T) {
	w := httptest.NewRecorder()
	newHandler(&pipeline{}).ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/v1/items", nil))
	if w.Code != http.StatusMethodNotAllowed || w.Header().Get("Allow") != http.MethodPost {
		t.Errorf("status %d, Allow %q", w.Code, w.Header().Get("Allow"))
	}
}

func TestABodyThatIsSentAgainUnderItsKeyHasTheSameKeys(t *testing.T) {
	p := &pipeline{room: 99}
	h := newHandler(p)
	for range 2 {
		post(h, "{}\n\n{}", "Idempotency-Key", "batch-7")
	}
	want := []string{"feed/batch-7/1", "feed/batch-7/3", "feed/batch-7/1", "feed/batch-7/3"}
	if diff := cmp.Diff(want, p.keys()); diff != "" {
		t.Error(diff)
	}
}

func TestEqualBodiesWithoutAnyKeyAreTwo(t *testing.T) {
	p := &pipeline{room: 99}
	h := newHandler(p)
	for range 2 {
		post(h, `{"tick":1}`)
	}
	if keys := p.keys(); keys[0] == keys[1] {
		t.Errorf("both have the key %s, so one would be lost", keys[0])
	}
}

func TestNoMoreRequestsWaitThanMay(t *testing.T) {
	entered, leave := make(chan struct{}), make(chan struct{})
	h := ingest.New(config, func(_ context.Context, items []writequeue.Item) (int, error) {
		close(entered)
		<-leave
		return len(items), nil
	}, slog.New(slog.DiscardHandler))
	first := make(chan int)
	go func() { first <- post(h, "{}").Code }()
	<-entered
	w := post(h, "{}")
	if w.Code != http.StatusTooManyRequests || w.Header().Get("Retry-After") == "" {
		t.Errorf("the second request: status %d, Retry-After %q; want 429 and some", w.Code, w.Header().Get("Retry-After"))
	}
	close(leave)
	if code := <-first; code != http.StatusAccepted {
		t.Errorf("the first request: status %d", code)
	}
}

func FuzzABodyIsTakenWhollyOrNotAtAll(f *testing.F) {
	f.Add([]byte("{}\n{\"key\":1}\n"))
	f.Add([]byte("{\"key\":\"\\ud800\"}\r\n\r\n[]"))
	f.Add([]byte("{\"key\":{}}"))
	f.Fuzz(func(t *testing.T, body []byte) {
		p := &pipeline{room: 1 << 20}
		w := post(newHandler(p), string(body))
		switch w.Code {
		case http.StatusAccepted:
			lines := 0
			for _, line := range strings.Split(string(body), "\n") {
				if strings.TrimSpace(line) != "" {
					lines++
				}
			}
			if len(p.items) != lines {
				t.Fatalf("%d lines and %d items", lines, len(p.items))
			}
		case http.StatusBadRequest, http.StatusRequestEntityTooLarge:
			if len(p.items) > 0 {
				t.Fatalf("status %d, and %d items were taken", w.Code, len(p.items))
			}
		default:
			t.Fatalf("status %d", w.Code)
		}
		for _, item := range p.items {
			if item.Key == "" {
				t.Fatal("an item has no key")
			}
		}
	})
}
