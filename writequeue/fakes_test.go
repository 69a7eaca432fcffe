package writequeue_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/headgate/headgate/pressure"
	"github.com/headgate/headgate/writequeue"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var (
	errBusy   = errors.New("store is busy")
	errBroken = errors.New("row breaks a constraint")
)

// write is one call of a store's Write.
type write struct {
	At   time.Duration // since the store was made
	Keys []string
}

// store is a Sink that keeps keys, one row each, and does what it is told.
type store struct {
	// answer decides each write; nil takes everything. It runs outside of the
	// lock and may block.
	answer func(ctx context.Context, n int, batch []writequeue.Item) error

	mu     sync.Mutex
	made   time.Time
	writes []write
	rows   map[string]int // times that a key was written
}

func newStore(answer func(ctx context.Context, n int, batch []writequeue.Item) error) *store {
	return &store{answer: answer, made: time.Now(), rows: map[string]int{}}
}

func (s *store) Write(ctx context.Context, batch []writequeue.Item) error {
	s.mu.Lock()
	w := write{At: time.Since(s.made)}
	for _, item := range batch {
		w.Keys = append(w.Keys, item.Key)
	}
	s.writes = append(s.writes, w)
	n := len(s.writes)
	s.mu.Unlock()
	if s.answer != nil {
		if err := s.answer(ctx, n, batch); err != nil {
			return err
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, item := range batch {
		s.rows[item.Key]++
	}
	return nil
}

func (s *store) Writes() []write {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.writes)
}

func (s *store) Rows() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.rows)
}

// letterbox keeps letters in memory and fails as long as it is told to.
type letterbox struct {
	mu      sync.Mutex
	letters []writequeue.Letter
	broken  bool
}

func (l *letterbox) Append(ctx context.Context, letters []writequeue.Letter) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.broken {
		return errors.New("no space left on device")
	}
	l.letters = append(l.letters, letters...)
	return ctx.Err()
}

func (l *letterbox) Break(broken bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.broken = broken
}

func (l *letterbox) Letters() []writequeue.Letter {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.letters)
}

// feed keeps the events that were published.
type feed struct {
	mu     sync.Mutex
	events []pressure.Event
}

func (f *feed) Publish(e pressure.Event) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.events = append(f.events, e)
}

// Told returns each event as "LEVEL reason depth".
func (f *feed) Told() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	var told []string
	for _, e := range f.events {
		told = append(told, fmt.Sprintf("%v %s %d", e.Level, e.Reason, e.QueueSize))
	}
	return told
}

// rig is a queue with everything around it.
type rig struct {
	*writequeue.Queue
	store *store
	dead  *letterbox
	feed  *feed
	stop  func() error // ends Run's context and returns what Run returned
}

// newRig returns a queue that does not run yet. change alters the settings.
func newRig(t *testing.T, s *store, change func(*writequeue.Config)) *rig {
	t.Helper()
	cfg := writequeue.DefaultConfig("bars-coord")
	if change != nil {
		change(&cfg)
	}
	r := &rig{store: s, dead: &letterbox{}, feed: &feed{}}
	q, err := writequeue.New(cfg, s, r.dead, r.feed.Publish, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	r.Queue = q
	return r
}

// start runs the queue until stop is called, at the latest when the test ends.
func (r *rig) start(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- r.Run(ctx) }()
	r.stop = sync.OnceValue(func() error {
		cancel()
		return <-ended
	})
	t.Cleanup(func() { r.stop() })
}

// items returns n items with the keys prefix-0, prefix-1 and so on.
func items(prefix string, n int) []writequeue.Item {
	made := make([]writequeue.Item, n)
	for i := range made {
		made[i] = writequeue.Item{Key: fmt.Sprintf("%s-%d", prefix, i), Payload: []byte(`{}`)}
	}
	return made
}

// mustPut puts items and fails the test if they are not all accepted.
func mustPut(t *testing.T, q *writequeue.Queue, put []writequeue.Item) {
	t.Helper()
	if n, err := q.Put(context.Background(), put...); n != len(put) || err != nil {
		t.Errorf("Put accepted %d of %d, error %v", n, len(put), err)
	}
}

// checkConserved fails the test if an item is unaccounted for.
func checkConserved(t *testing.T, s writequeue.Stats) {
	t.Helper()
	if s.Accepted != s.Written+s.Waiting+s.Dropped+s.DeadLettered {
		t.Fatalf("not conserved: %+v", s)
	}
	if s.Waiting > s.Capacity {
		t.Fatalf("more items wait than may: %+v", s)
	}
}

// has reports whether one of the keys contains s.
func has(batch []writequeue.Item, s string) bool {
	return slices.ContainsFunc(batch, func(i writequeue.Item) bool { return strings.Contains(i.Key, s) })
}
