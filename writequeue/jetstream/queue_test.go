package jetstream_test

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

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go"
	js "github.com/nats-io/nats.go/jetstream"
	"go.uber.org/goleak"

	"github.com/headgate/headgate/internal/invalid"
	"github.com/headgate/headgate/pressure"
	"github.com/headgate/headgate/writequeue"
	"github.com/headgate/headgate/writequeue/jetstream"
	"github.com/headgate/headgate/writequeue/jetstream/embedded"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m)
}

var (
	errBusy   = errors.New("store is busy")
	errBroken = errors.New("row breaks a constraint")
)

// patience is how long a test waits for what must come about.
const patience = 60 * time.Second

// until waits until a condition holds.
func until(t testing.TB, what string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !holds(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited %v in vain until %s", patience, what)
		}
	}
}

// store is a Sink that keeps keys, one row each, and does what it is told.
type store struct {
	// answer decides each write; nil takes everything. It runs outside of the
	// lock and may block.
	answer func(ctx context.Context, batch []writequeue.Item) error

	mu   sync.Mutex
	rows map[string]int // times that a key was written
	most int            // items in a batch
}

func newStore(answer func(context.Context, []writequeue.Item) error) *store {
	return &store{answer: answer, rows: map[string]int{}}
}

func (s *store) Write(ctx context.Context, batch []writequeue.Item) error {
	if s.answer != nil {
		if err := s.answer(ctx, batch); err != nil {
			return err
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.most = max(s.most, len(batch))
	for _, item := range batch {
		s.rows[item.Key]++
	}
	return nil
}

func (s *store) keys() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	keys := make([]string, 0, len(s.rows))
	for key := range s.rows {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	return keys
}

func (s *store) count() int {
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

func (l *letterbox) keys() (keys []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, letter := range l.letters {
		keys = append(keys, letter.Item.Key)
	}
	return keys
}

// feed keeps the events that were published.
type feed struct {
	mu     sync.Mutex
	events []pressure.Event
}

func (f *feed) publish(e pressure.Event) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.events = append(f.events, e)
}

// told returns each event as "LEVEL reason".
func (f *feed) told() (told []string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, e := range f.events {
		told = append(told, fmt.Sprintf("%v %s", e.Level, e.Reason))
	}
	return told
}

// servers is where queues live: it connects.
type servers interface {
	Connect(name string, log *slog.Logger) (*nats.Conn, error)
}

// serve starts a server within the process, for the length of the test.
func serve(t testing.TB) *embedded.Server {
	t.Helper()
	s, err := embedded.Start(embedded.Config{Directory: t.TempDir()}, quiet)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

var quiet = slog.New(slog.DiscardHandler)

// replica is one process' part in a queue with everything around it, as a
// goroutine.
type replica struct {
	*jetstream.Queue
	conn *nats.Conn
	dead *letterbox
	feed *feed
	stop func() error // ends Run's context and returns what Run returned
}

// settings are those of a test's queue: quick to look and to redeliver.
func settings(change func(*jetstream.Config)) jetstream.Config {
	cfg := jetstream.DefaultConfig("bars")
	cfg.LookEvery = 10 * time.Millisecond
	cfg.Queue.BatchWait = 10 * time.Millisecond
	cfg.Queue.Retry.Initial = time.Millisecond
	if change != nil {
		change(&cfg)
	}
	return cfg
}

// join adds a replica, which does not run yet. It is stopped when the test ends.
func join(t testing.TB, at servers, s *store, change func(*jetstream.Config)) *replica {
	t.Helper()
	conn, err := at.Connect("test", quiet)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(conn.Close)
	r := &replica{conn: conn, dead: &letterbox{}, feed: &feed{}, stop: func() error { return nil }}
	r.Queue, err = jetstream.New(t.Context(), settings(change), conn, s, r.dead, r.feed.publish, slog.New(slog.NewTextHandler(t.Output(), nil)))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func (r *replica) start(t testing.TB) *replica {
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- r.Run(ctx) }()
	r.stop = sync.OnceValue(func() error {
		cancel()
		return <-ended
	})
	t.Cleanup(func() {
		if err := r.stop(); err != nil {
			t.Error(err)
		}
		if s := r.Stats(); !s.Conserved() || s.InFlight != 0 {
			t.Errorf("not conserved: %+v, %+v", s, s.Durable)
		}
	})
	return r
}

// only makes a replica do one part of the work.
func accepting(c *jetstream.Config) { c.Writes = false }
func writing(c *jetstream.Config)   { c.Accepts = false }

func items(prefix string, n int) []writequeue.Item {
	made := make([]writequeue.Item, n)
	for i := range made {
		made[i] = writequeue.Item{Key: fmt.Sprintf("%s-%05d", prefix, i), Time: time.Unix(int64(i), 5), Payload: []byte(`{}`)}
	}
	return made
}

func keys(of ...[]writequeue.Item) (all []string) {
	for _, batch := range of {
		for _, item := range batch {
			all = append(all, item.Key)
		}
	}
	slices.Sort(all)
	return all
}

func mustPut(t testing.TB, r *replica, put []writequeue.Item) {
	t.Helper()
	if n, err := r.Put(t.Context(), put...); n != len(put) || err != nil {
		t.Fatalf("Put accepted %d of %d, error %v", n, len(put), err)
	}
}

// whole is the queue as the servers see it.
type whole struct{ Stored, Waiting, Held, Pending uint64 }

func look(t testing.TB, at servers) whole {
	t.Helper()
	conn, err := at.Connect("look", quiet)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	api, err := js.New(conn)
	if err != nil {
		t.Fatal(err)
	}
	stream, err := api.Stream(t.Context(), jetstream.StreamName("bars"))
	if err != nil {
		t.Fatal(err)
	}
	state := stream.CachedInfo().State
	w := whole{Stored: state.LastSeq, Waiting: state.Msgs}
	if consumer, err := stream.Consumer(t.Context(), "writers"); err == nil {
		info := consumer.CachedInfo()
		w.Held, w.Pending = uint64(info.NumAckPending), info.NumPending
	}
	return w
}

func TestItemsReachTheStoreAsTheyWerePut(t *testing.T) {
	at := serve(t)
	var got []writequeue.Item
	var mu sync.Mutex
	s := newStore(func(_ context.Context, batch []writequeue.Item) error {
		mu.Lock()
		defer mu.Unlock()
		for _, item := range batch {
			item.Payload = slices.Clone(item.Payload)
			got = append(got, item)
		}
		return nil
	})
	r := join(t, at, s, func(c *jetstream.Config) { c.Queue.Workers = 1 }).start(t)
	put := items("a", 1000)
	put[0].Key = "ключ 100% of \n all/α"
	put[1].Time = time.Time{}
	put[2].Payload = []byte{0, 1, 2}
	mustPut(t, r, put)
	until(t, "all are written", func() bool { return s.count() == len(put) })
	mu.Lock()
	defer mu.Unlock()
	for i := range put {
		put[i].Time = put[i].Time.UTC()
	}
	if diff := cmp.Diff(put, got); diff != "" {
		t.Errorf("items (-put +written):\n%s", diff)
	}
	until(t, "the queue is empty", func() bool { return look(t, at) == whole{Stored: 1000} })
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
	st := r.Stats()
	if st.Accepted != 1000 || st.Written != 1000 || st.Waiting != 0 || st.Durable.Stored != 1000 {
		t.Errorf("%+v, %+v", st, st.Durable)
	}
}

func TestManyReplicasAreOneQueue(t *testing.T) {
	at := serve(t)
	s := newStore(nil)
	var acceptors, writers []*replica
	var all sync.WaitGroup
	for range 3 {
		acceptors = append(acceptors, join(t, at, nil, accepting).start(t))
	}
	var put [][]writequeue.Item
	for i, a := range acceptors {
		mine := items(fmt.Sprint(i), 2000)
		put = append(put, mine)
		all.Go(func() {
			for part := range slices.Chunk(mine, 150) {
				mustPut(t, a, part)
			}
		})
	}
	for range 2 {
		writers = append(writers, join(t, at, s, writing).start(t))
	}
	all.Wait()
	until(t, "all are written", func() bool { return s.count() == 6000 })
	until(t, "the queue is empty", func() bool { return look(t, at) == whole{Stored: 6000} })
	if diff := cmp.Diff(keys(put...), s.keys()); diff != "" {
		t.Errorf("rows (-put +written):\n%s", diff)
	}
	var accepted, written uint64
	for _, r := range slices.Concat(acceptors, writers) {
		if err := r.stop(); err != nil {
			t.Fatal(err)
		}
		st := r.Stats()
		accepted, written = accepted+st.Accepted, written+st.Written
		if st.Waiting != 0 || st.Durable.Stored != 6000 {
			t.Errorf("%+v, %+v", st, st.Durable)
		}
	}
	if accepted != 6000 || written != 6000 {
		t.Errorf("%d accepted and %d written by all of them, want 6000", accepted, written)
	}
}

func TestTheCapacityBoundsAllReplicasTogether(t *testing.T) {
	at := serve(t)
	bounded := func(c *jetstream.Config) {
		accepting(c)
		c.Queue.Capacity, c.Queue.Overflow = 500, writequeue.Refuse
	}
	a, b := join(t, at, nil, bounded).start(t), join(t, at, nil, bounded).start(t)
	var all sync.WaitGroup
	var accepted [2]int
	for i, r := range []*replica{a, b} {
		all.Go(func() {
			n, err := r.Put(t.Context(), items(fmt.Sprint(i), 400)...)
			if n < 400 && !errors.Is(err, writequeue.ErrFull) || n == 400 && err != nil {
				t.Errorf("%d accepted, error %v", n, err)
			}
			accepted[i] = n
		})
	}
	all.Wait()
	w := look(t, at)
	if w.Waiting != 500 {
		t.Errorf("%d wait, want the capacity, 500", w.Waiting)
	}
	if st := a.Stats(); int(st.Accepted) < accepted[0] {
		t.Errorf("%d accepted, told of %d", st.Accepted, accepted[0])
	}
	until(t, "both see it is full", func() bool {
		return slices.Contains(a.Health().Reasons, writequeue.HealthFull) && slices.Contains(b.Health().Reasons, writequeue.HealthFull)
	})
	if level := b.Stats().Level; level != pressure.Hard {
		t.Errorf("level is %v", level)
	}
}

func TestAProducerWaitsForRoomThatAnotherReplicaMakes(t *testing.T) {
	at := serve(t)
	bounded := func(c *jetstream.Config) { c.Queue.Capacity = 100 }
	a := join(t, at, nil, func(c *jetstream.Config) { bounded(c); accepting(c) }).start(t)
	put := items("a", 350)
	done := make(chan error, 1)
	go func() {
		n, err := a.Put(t.Context(), put...)
		if n != len(put) {
			err = errors.Join(err, fmt.Errorf("%d accepted", n))
		}
		done <- err
	}()
	until(t, "it waits for room", func() bool { st := a.Stats(); return st.BlockedPuts == 1 && st.Waiting == 100 })
	s := newStore(nil)
	join(t, at, s, func(c *jetstream.Config) { bounded(c); writing(c) }).start(t)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	until(t, "all are written", func() bool { return s.count() == len(put) })
}

func TestAPutEndsWithItsContextOrTheQueue(t *testing.T) {
	at := serve(t)
	r := join(t, at, newStore(nil), func(c *jetstream.Config) { accepting(c); c.Queue.Capacity = 10 }).start(t)
	mustPut(t, r, items("a", 10))
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 2)
	go func() { _, err := r.Put(ctx, items("b", 1)...); ended <- err }()
	until(t, "it waits", func() bool { return r.Stats().BlockedPuts == 1 })
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
	go func() { _, err := r.Put(t.Context(), items("c", 3)...); ended <- err }()
	until(t, "it waits", func() bool { return r.Stats().BlockedPuts == 1 })
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; !errors.Is(err, writequeue.ErrClosed) {
		t.Errorf("error %v", err)
	}
	if _, err := r.Put(t.Context(), items("d", 1)...); !errors.Is(err, writequeue.ErrClosed) {
		t.Errorf("error %v", err)
	}
	if st := r.Stats(); st.Refused != 5 || st.Accepted != 10 {
		t.Errorf("%+v", st)
	}
}

func TestAPutEndsWithItsContextWhileTheServersSayNothing(t *testing.T) {
	r := join(t, serve(t), nil, accepting)
	api, err := js.New(r.conn)
	if err != nil {
		t.Fatal(err)
	}
	// In the place of the stream somebody listens who never answers.
	if err := api.DeleteStream(t.Context(), jetstream.StreamName("bars")); err != nil {
		t.Fatal(err)
	}
	heard, err := r.conn.SubscribeSync("headgate.queue." + jetstream.StreamName("bars"))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { _, err := r.Put(ctx, items("a", 3)...); ended <- err }()
	if _, err := heard.NextMsgWithContext(t.Context()); err != nil {
		t.Fatal(err)
	}
	begin := time.Now()
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
	if took := time.Since(begin); took > 3*time.Second { // the servers have 5
		t.Errorf("Put returned %v after its context had ended", took)
	}
}

func TestAnItemThatIsOfferedAgainIsOne(t *testing.T) {
	at := serve(t)
	r := join(t, at, nil, accepting)
	put := items("a", 20)
	mustPut(t, r, put)
	mustPut(t, r, append(put, items("b", 5)...))
	st := r.Stats()
	if w := look(t, at); w.Stored != 25 || st.Accepted != 25 || st.Durable.Repeated != 20 {
		t.Errorf("%+v, %+v, %+v", w, st, st.Durable)
	}
}

func TestPoisonIsAloneInTheDeadLetters(t *testing.T) {
	at := serve(t)
	s := newStore(func(_ context.Context, batch []writequeue.Item) error {
		if slices.ContainsFunc(batch, func(i writequeue.Item) bool { return strings.HasPrefix(i.Key, "poison") }) {
			return writequeue.Permanent(errBroken)
		}
		return nil
	})
	r := join(t, at, s, nil)
	put := slices.Concat(items("a", 90), items("poison", 2), items("b", 90))
	mustPut(t, r, put)
	r.start(t)
	until(t, "the queue is empty", func() bool { return look(t, at) == whole{Stored: 182} })
	if diff := cmp.Diff(keys(items("poison", 2)), r.dead.keys()); diff != "" {
		t.Errorf("dead letters (-want +got):\n%s", diff)
	}
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
	if st := r.Stats(); s.count() != 180 || st.Written != 180 || st.DeadLettered != 2 {
		t.Errorf("%d rows; %+v", s.count(), st)
	}
}

func TestItemsThatNobodyTakesGoBackToTheQueue(t *testing.T) {
	at := serve(t)
	s := newStore(func(context.Context, []writequeue.Item) error { return errBusy })
	r := join(t, at, s, func(c *jetstream.Config) { c.Queue.Retry.Attempts, c.Queue.Workers = 2, 1 })
	r.dead.broken = true
	mustPut(t, r, items("a", 10))
	r.start(t)
	until(t, "the dead letters fail", func() bool {
		return slices.Contains(r.Health().Reasons, writequeue.HealthDeadLettersFailing)
	})
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
	if st := r.Stats(); st.Waiting != 10 || st.Durable.GivenBack != st.Durable.Taken {
		t.Errorf("%+v, %+v", st, st.Durable)
	}
}

func TestAStopGivesBackAtOnceWhatIsNotWritten(t *testing.T) {
	at := serve(t)
	holds := make(chan struct{})
	var once sync.Once
	stuck := newStore(func(context.Context, []writequeue.Item) error {
		once.Do(func() { close(holds) })
		return errBusy
	})
	patient := func(c *jetstream.Config) {
		c.Queue.Workers, c.Queue.BatchSize = 3, 50
		c.Queue.Retry.Attempts, c.Queue.Retry.Initial, c.Queue.Retry.Max = 100, time.Hour, time.Hour
		c.RedeliverAfter = time.Hour // so that only what is given back comes again
	}
	first := join(t, at, stuck, patient)
	put := items("a", 120)
	mustPut(t, first, put)
	first.start(t)
	<-holds
	if err := first.stop(); err != nil {
		t.Fatal(err)
	}
	if st := first.Stats(); st.Durable.GivenBack == 0 || st.Written != 0 || st.Waiting != 120 {
		t.Fatalf("%+v, %+v", st, st.Durable)
	}
	s := newStore(nil)
	join(t, at, s, patient).start(t)
	until(t, "the other has written all", func() bool { return s.count() == len(put) })
}

func TestAStopLetsTheWriteThatIsUnderWayEnd(t *testing.T) {
	at := serve(t)
	begun, goOn := make(chan struct{}), make(chan struct{})
	s := newStore(func(ctx context.Context, _ []writequeue.Item) error {
		close(begun)
		select {
		case <-goOn:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	})
	r := join(t, at, s, func(c *jetstream.Config) { c.Queue.Workers = 1 })
	mustPut(t, r, items("a", 5))
	r.start(t)
	<-begun
	ended := make(chan error, 1)
	go func() { ended <- r.stop() }()
	until(t, "it stops", func() bool { return slices.Contains(r.Health().Reasons, writequeue.HealthDraining) })
	close(goOn)
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	if st := r.Stats(); st.Written != 5 || st.Waiting != 0 {
		t.Errorf("%+v", st)
	}
}

func TestWhatTheOnlyProcessWasKilledWithIsThereAgainAtOnce(t *testing.T) {
	at := serve(t)
	alone := func(c *jetstream.Config) { c.Shared, c.RedeliverAfter = false, time.Hour }
	holds := make(chan struct{})
	stuck := newStore(func(ctx context.Context, _ []writequeue.Item) error {
		<-holds
		return errBusy
	})
	killed := join(t, at, stuck, alone)
	mustPut(t, killed, items("a", 30))
	killed.start(t)
	until(t, "it has them in its hands", func() bool { return look(t, at).Held == 30 })
	killed.conn.Close() // nobody hears of it any more
	close(holds)

	s := newStore(nil)
	join(t, at, s, alone).start(t)
	until(t, "the next has written all", func() bool { return s.count() == 30 })
	until(t, "the queue is empty", func() bool { return look(t, at) == whole{Stored: 30} })
}

func TestAWriteThatTakesLongIsNotGivenToOthers(t *testing.T) {
	at := serve(t)
	slow := func(c *jetstream.Config) { c.RedeliverAfter, c.Queue.Workers = time.Second, 1 }
	goOn := make(chan struct{})
	s := newStore(func(context.Context, []writequeue.Item) error { <-goOn; return nil })
	r := join(t, at, s, slow)
	mustPut(t, r, items("a", 5))
	r.start(t)
	until(t, "it holds them", func() bool { return r.Stats().InFlight == 5 })
	other := newStore(nil)
	join(t, at, other, slow).start(t)
	time.Sleep(2500 * time.Millisecond) // more than twice as long as they stay with one who is not heard of
	close(goOn)
	until(t, "they are written", func() bool { return look(t, at) == whole{Stored: 5} })
	if other.count() != 0 || s.count() != 5 {
		t.Errorf("%d written by the other, %d by the one", other.count(), s.count())
	}
}

func TestEventsTellOfTheWhole(t *testing.T) {
	at := serve(t)
	hundred := func(c *jetstream.Config) { c.Queue.Capacity, c.Queue.BatchSize = 100, 10 }
	a := join(t, at, nil, func(c *jetstream.Config) { hundred(c); accepting(c) }).start(t)
	b := join(t, at, nil, func(c *jetstream.Config) { hundred(c); accepting(c) }).start(t)
	mustPut(t, a, items("a", 60))
	until(t, "both know", func() bool { return len(a.feed.told()) == 1 && len(b.feed.told()) == 1 })
	mustPut(t, b, items("b", 30))
	until(t, "both know", func() bool { return len(a.feed.told()) == 2 && len(b.feed.told()) == 2 })
	s := newStore(nil)
	w := join(t, at, s, func(c *jetstream.Config) { hundred(c); writing(c) }).start(t)
	until(t, "all know that it is empty", func() bool {
		return a.Stats().Level == pressure.OK && b.Stats().Level == pressure.OK && w.Stats().Level == pressure.OK && s.count() == 90
	})
	for _, r := range []*replica{a, b} {
		told := r.feed.told()
		if told[0] != "SOFT high_watermark" || told[1] != "HARD high_watermark" || told[len(told)-1] != "OK low_watermark" {
			t.Errorf("told %v", told)
		}
	}
}

func TestAProcessThatOnlyAcceptsHearsThatTheStoreIsReady(t *testing.T) {
	at := serve(t)
	a := join(t, at, nil, accepting).start(t)
	w := join(t, at, newStore(nil), writing).start(t)
	mustPut(t, a, items("a", 3))
	for _, r := range []*replica{a, w} {
		until(t, "it is told", func() bool { return slices.Equal(r.feed.told(), []string{"OK store_ready"}) })
	}
}

func TestItemsOneByOneBecomeABatch(t *testing.T) {
	at := serve(t)
	s := newStore(nil)
	r := join(t, at, s, func(c *jetstream.Config) { c.Queue.BatchWait, c.Queue.BatchSize = time.Minute, 40 }).start(t)
	for _, item := range items("a", 40) {
		mustPut(t, r, []writequeue.Item{item})
	}
	until(t, "they are written", func() bool { return s.count() == 40 })
	if s.most != 40 {
		t.Errorf("the largest batch had %d items, want all 40", s.most)
	}
}

func TestTheLastSettingsCountForAll(t *testing.T) {
	at := serve(t)
	first := join(t, at, nil, func(c *jetstream.Config) { accepting(c); c.Queue.Capacity = 100 }).start(t)
	mustPut(t, first, items("a", 60))
	join(t, at, nil, func(c *jetstream.Config) { accepting(c); c.Queue.Capacity = 50 })
	until(t, "the first knows", func() bool { return first.Stats().Capacity == 50 })
	if w := look(t, at); w.Waiting != 60 {
		t.Errorf("%d wait after the capacity was lowered below them, want 60", w.Waiting)
	}
	until(t, "the level follows", func() bool { return first.Stats().Level == pressure.Hard })
}

func TestAStreamOfSomebodyElseIsLeftAlone(t *testing.T) {
	at := serve(t)
	conn, err := at.Connect("other", quiet)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	api, err := js.New(conn)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := api.CreateStream(t.Context(), js.StreamConfig{Name: jetstream.StreamName("bars"), Subjects: []string{"orders"}}); err != nil {
		t.Fatal(err)
	}
	_, err = jetstream.New(t.Context(), settings(accepting), conn, nil, nil, nil, nil)
	if all := invalid.All(err); len(all) != 1 || all[0].Field != "stream" {
		t.Errorf("error %v", err)
	}
}

func TestSettingsThatCannotBeAreRefused(t *testing.T) {
	_, err := jetstream.New(t.Context(), settings(func(c *jetstream.Config) {
		c.Queue.Overflow, c.Stream, c.StreamReplicas = writequeue.DropOldest, "a.b", 9
		c.DuplicatesWithin, c.RedeliverAfter, c.LookEvery = 0, 0, 0
		c.Accepts, c.Writes = false, false
	}), nil, nil, nil, nil, nil)
	var fields []string
	for _, v := range invalid.All(err) {
		fields = append(fields, v.Field)
	}
	want := []string{"overflow", "stream", "stream_replicas", "duplicates_within", "redeliver_after", "look_every", "part"}
	if diff := cmp.Diff(want, fields); diff != "" {
		t.Errorf("fields (-want +got):\n%s", diff)
	}
}

func TestAWrongAddressIsToldWithoutItsPassword(t *testing.T) {
	for _, url := range []string{"", "nats//u:hidden@host", "http://u:hidden@host", "nats://u:hid den@host:4222/x", "nats://u:hidden@host:port"} {
		_, err := jetstream.Connect(jetstream.Address{URL: url}, "test", quiet)
		if len(invalid.All(err)) == 0 || strings.Contains(err.Error(), "hid") {
			t.Errorf("%s: error %v", url, err)
		}
	}
}

func TestAnItemThatIsTooLargeIsRefusedAlone(t *testing.T) {
	at := serve(t)
	r := join(t, at, nil, accepting)
	put := items("a", 3)
	put[1].Payload = make([]byte, 9<<20)
	n, err := r.Put(t.Context(), put...)
	if n != 1 || !errors.Is(err, writequeue.ErrTooLarge) {
		t.Errorf("%d accepted, error %v", n, err)
	}
	if st := r.Stats(); st.Accepted != 1 || st.Refused != 2 {
		t.Errorf("%+v", st)
	}
}
