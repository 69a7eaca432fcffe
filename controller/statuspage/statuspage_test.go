package statuspage

import (
	"bufio"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/headgate/headgate/access"
	"github.com/headgate/headgate/controller"
	"github.com/headgate/headgate/internal/route"
	"github.com/headgate/headgate/pressure"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fakeLoop is a Loop whose ticks a test makes.
type fakeLoop struct {
	mu     sync.Mutex
	rows   []controller.Row
	health controller.Health
	ticked chan struct{}
}

func newLoop(names ...string) *fakeLoop {
	l := &fakeLoop{ticked: make(chan struct{}), health: controller.Health{Holder: "alpha", IntervalSeconds: 5}}
	for _, name := range names {
		l.rows = append(l.rows, controller.Row{Target: &controller.Target{Name: name, Providers: []controller.Provider{{Name: "ibkr", LawName: "step"}}}})
	}
	return l
}

func (l *fakeLoop) Rows() []controller.Row {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.rows)
}

func (l *fakeLoop) Health() controller.Health {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.health
}

func (l *fakeLoop) Ticked() <-chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.ticked
}

// tick decides for the named targets, and ends a tick.
func (l *fakeLoop) tick(now time.Time, decide map[string]*controller.Decision) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i, row := range l.rows {
		if d := decide[row.Target.Name]; d != nil {
			d.At, d.Target, d.Provider = now, row.Target.Name, "ibkr"
			l.rows[i].Latest = []*controller.Decision{d}
		}
	}
	l.health.Ticks++
	l.health.LastTick = &now
	close(l.ticked)
	l.ticked = make(chan struct{})
}

// at is a decision at a level and a depth.
func at(level pressure.Level, depth float64, change ...func(*controller.Decision)) *controller.Decision {
	d := &controller.Decision{
		Reason: controller.ReasonLaw, Level: &level, Depth: controller.Number(depth), Capacity: 1000, SoftEnter: 500, HardEnter: 800,
		Scale: 0.5, InForce: 0.5, Effective: 50, Outcome: controller.OutcomeApplied, Explanation: "depth " + fmt.Sprint(depth), Changed: true,
	}
	for _, c := range change {
		c(d)
	}
	return d
}

var noon = time.Date(2026, 3, 2, 12, 0, 0, 0, time.UTC)

func newPage(t *testing.T, l *fakeLoop) *Page {
	t.Helper()
	p, err := New(l)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func ask(t *testing.T, p *Page, path string, into any) int {
	t.Helper()
	mux := route.Mux(p.Routes(), access.Everyone())
	w := httptest.NewRecorder()
	mux.ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
	if into != nil {
		if err := json.Unmarshal(w.Body.Bytes(), into); err != nil {
			t.Fatalf("%s: %v in %s", path, err, w.Body)
		}
	}
	return w.Code
}

// shown is what a test reads of a status.
type shown struct {
	List struct {
		Counts   map[string]int
		Matching int
		Targets  []struct{ Condition, Target string }
	}
	Selected  *struct{ Target string }
	Overrides []struct{ Target, Holder, Reason string }
	Changes   []struct{ Target, Explanation string }
	Loop      struct {
		Ticks     int
		Decisions map[string]int
	}
	Error  string
	Fields []struct{ Field string }
}

func names(s shown) (all []string) {
	for _, v := range s.List.Targets {
		all = append(all, v.Condition+" "+v.Target)
	}
	return all
}

func TestTargetsAreListedTheWorstFirstAndFiltered(t *testing.T) {
	l := newLoop("bars", "calm", "deep", "gone", "news", "off")
	l.rows[5].Target.Disabled = true
	p := newPage(t, l)
	l.tick(noon, map[string]*controller.Decision{
		"bars": at(pressure.Soft, 600), "calm": at(pressure.OK, 10), "deep": at(pressure.Hard, 900), "news": at(pressure.Soft, 700),
		"gone": at(pressure.OK, 10, func(d *controller.Decision) { d.Fault = controller.FaultSeriesStale }),
	})
	p.look(noon)
	tests := []struct {
		name, path string
		want       []string
		matching   int
	}{
		{"all", "/v1/status", []string{"lost gone", "hard deep", "soft bars", "soft news", "ok calm", "disabled off"}, 6},
		{"a page", "/v1/status?offset=2&limit=2", []string{"soft bars", "soft news"}, 6},
		{"beyond the last", "/v1/status?offset=9", nil, 6},
		{"those that are SOFT", "/v1/status?condition=soft", []string{"soft bars", "soft news"}, 2},
		{"by a part of the name, in any case", "/v1/status?search=NE", []string{"lost gone", "soft news"}, 2},
		{"both", "/v1/status?search=ne&condition=soft", []string{"soft news"}, 1},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			var got shown
			ask(t, p, test.path, &got)
			if diff := cmp.Diff(test.want, names(got)); diff != "" || got.List.Matching != test.matching {
				t.Errorf("%d match, want %d; listed (-want +got):\n%s", got.List.Matching, test.matching, diff)
			}
			want := map[string]int{"lost": 1, "hard": 1, "soft": 2, "ok": 1, "disabled": 1}
			if diff := cmp.Diff(want, got.List.Counts); diff != "" {
				t.Errorf("counts (-want +got):\n%s", diff)
			}
		})
	}
	var got shown
	ask(t, p, "/v1/status?condition=hard&target=calm", &got)
	if got.Selected == nil || got.Selected.Target != "calm" {
		t.Errorf("the chosen target is %+v, want calm, whatever is listed", got.Selected)
	}
}

func TestWrongParametersAreNamed(t *testing.T) {
	p := newPage(t, newLoop("bars"))
	for path, want := range map[string][]string{
		"/v1/status?limit=0":                              {"limit"},
		"/v1/status?limit=201":                            {"limit"},
		"/v1/status?offset=-1":                            {"offset"},
		"/v1/status?condition=bad":                        {"condition"},
		"/v1/status?limit=1&limit=2":                      {"limit"},
		"/v1/status?target=ticks":                         {"target"},
		"/v1/status?since=1":                              {"since"},
		"/v1/status?search=" + strings.Repeat("a", 300):   {"search"},
		"/v1/stream?target=ticks":                         {"target"},
		"/v1/history":                                     {"target"},
		"/v1/history?target=bars&limit=1":                 {"limit"},
		"/v1/status?limit=x&offset=y&condition=z&since=1": {"condition", "limit", "offset", "since"},
	} {
		var got shown
		code := ask(t, p, path, &got)
		var fields []string
		for _, f := range got.Fields {
			fields = append(fields, f.Field)
		}
		slices.Sort(fields)
		if diff := cmp.Diff(want, fields); diff != "" || code != http.StatusBadRequest || got.Error == "" {
			t.Errorf("%s: status %d, %q; fields (-want +got):\n%s", path, code, got.Error, diff)
		}
	}
}

func TestChangesAreKeptOnceAndTheNewestFirst(t *testing.T) {
	l := newLoop("bars", "news")
	p := newPage(t, l)
	l.tick(noon, map[string]*controller.Decision{"bars": at(pressure.OK, 1), "news": at(pressure.OK, 2)})
	p.look(noon)
	p.look(noon) // as when it looks at a tick twice
	l.tick(noon.Add(5*time.Second), map[string]*controller.Decision{
		"bars": at(pressure.Soft, 3), "news": at(pressure.OK, 4, func(d *controller.Decision) { d.Changed = false })})
	p.look(noon.Add(5 * time.Second))
	explained := func(path string) (all []string) {
		var got shown
		ask(t, p, path, &got)
		for _, c := range got.Changes {
			all = append(all, c.Explanation)
		}
		return all
	}
	if diff := cmp.Diff([]string{"depth 3", "depth 2", "depth 1"}, explained("/v1/status")); diff != "" {
		t.Errorf("changes (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"depth 3", "depth 1"}, explained("/v1/status?target=bars")); diff != "" {
		t.Errorf("changes of bars (-want +got):\n%s", diff)
	}
	for i := range 3 * keptChanges {
		now := noon.Add(time.Duration(i+2) * 5 * time.Second)
		l.tick(now, map[string]*controller.Decision{"bars": at(pressure.OK, float64(i))})
		p.look(now)
	}
	if len(p.changes) != keptChanges || len(explained("/v1/status")) != mostChanges {
		t.Errorf("%d changes are kept and %d shown, want %d and %d", len(p.changes), len(explained("/v1/status")), keptChanges, mostChanges)
	}
}

func TestOverridesAreListedUntilTheyEnd(t *testing.T) {
	l := newLoop("bars")
	p := newPage(t, l)
	l.tick(noon, map[string]*controller.Decision{"bars": at(pressure.OK, 1, func(d *controller.Decision) {
		d.Override = &controller.Override{Holder: "jane", Scale: 0.1, Reason: "the store is migrated", ExpiresAt: noon.Add(time.Minute)}
	})})
	for after, want := range map[time.Duration]int{0: 1, 2 * time.Minute: 0} {
		p.look(noon.Add(after))
		var got shown
		ask(t, p, "/v1/status", &got)
		if len(got.Overrides) != want || want == 1 && (got.Overrides[0].Holder != "jane" || got.Overrides[0].Target != "bars") {
			t.Errorf("after %s the overrides are %+v, want %d", after, got.Overrides, want)
		}
	}
}

func TestHistoryKeepsTheWorstOfEachBin(t *testing.T) {
	l := newLoop("bars", "off")
	l.rows[1].Target.Disabled = true
	l.health.IntervalSeconds = 1
	p := newPage(t, l)
	nan := controller.Number(math.NaN())
	step := func(second int, d *controller.Decision) {
		now := noon.Add(time.Duration(second) * time.Second)
		l.tick(now, map[string]*controller.Decision{"bars": d})
		p.look(now)
	}
	step(0, at(pressure.OK, 100, func(d *controller.Decision) { d.Replicas = 2 }))
	step(1, at(pressure.Soft, 600, func(d *controller.Decision) { d.Scale, d.InForce, d.DrainPerSecond = 0.25, 0.25, nan }))
	step(4, at(pressure.OK, 300, func(d *controller.Decision) { d.DrainPerSecond = 40 }))
	step(6, at(pressure.OK, 200, func(d *controller.Decision) { d.Fault = controller.FaultQueryFailed })) // stale numbers
	step(31, at(pressure.OK, 50))                                                                         // after a pause
	s, _ := p.now()
	got := p.history.of(0, s.rows[0], noon.Add(31*time.Second))
	t0 := float64(noon.Unix())
	if diff := cmp.Diff([]float64{t0, t0 + 5, t0 + 10, t0 + 30}, got.Times); diff != "" || got.StepSeconds != 5 {
		t.Fatalf("step %v, times (-want +got):\n%s", got.StepSeconds, diff)
	}
	text, err := json.Marshal(map[string]column{
		"depth": got.Depth, "level": got.Level, "replicas": got.Replicas, "drain": got.Drain, "scale": got.Providers[0].Scale, "in force": got.Providers[0].InForce,
	})
	want := `{"depth":[600,null,null,50],"drain":[40,null,null,0],"in force":[0.25,0.5,null,0.5],"level":[1,null,null,0],"replicas":[2,null,null,null],"scale":[0.25,0.5,null,0.5]}`
	if err != nil || string(text) != want {
		t.Errorf("history is\n%s, %v; want\n%s", text, err, want)
	}
	if off := p.history.of(1, s.rows[1], noon); len(off.Times) != 0 {
		t.Errorf("the disabled target has a history: %+v", off)
	}
}

func TestHistoryForgetsWhatIsOlderThanAnHour(t *testing.T) {
	l := newLoop("bars")
	p := newPage(t, l)
	now := noon
	for range 2000 {
		now = now.Add(5 * time.Second)
		l.tick(now, map[string]*controller.Decision{"bars": at(pressure.OK, 1)})
		p.look(now)
	}
	s, _ := p.now()
	got := p.history.of(0, s.rows[0], now)
	if first, last := got.Times[0], got.Times[len(got.Times)-1]; last-first > 3600 || last-first < 3590 || float64(now.Unix())-last > 5 {
		t.Errorf("history is from %v to %v, now it is %v", first, last, now.Unix())
	}
}

func TestHistoryOfTenThousandTargetsIsBounded(t *testing.T) {
	for targets, most := range map[int]int{1: 1 << 20, 1000: 40 << 20, 10_000: 40 << 20} {
		var rows []controller.Row
		for i := range targets {
			rows = append(rows, controller.Row{
				Target: &controller.Target{Name: fmt.Sprint(i), Providers: []controller.Provider{{Name: "ibkr"}}},
				Latest: []*controller.Decision{at(pressure.OK, 1)},
			})
		}
		runtime.GC()
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		h := newHistory(rows, 5*time.Second)
		now := noon
		for range h.size {
			now = now.Add(h.step)
			h.add(now, rows)
		}
		runtime.GC()
		runtime.ReadMemStats(&after)
		used := int(after.HeapAlloc) - int(before.HeapAlloc)
		t.Logf("%d targets: %d bins of %s, %d KiB", targets, h.size, h.step, used>>10)
		if used > most || time.Duration(h.size)*h.step < span {
			t.Errorf("%d targets have %d bins of %s in %d bytes, want an hour in at most %d", targets, h.size, h.step, used, most)
		}
		runtime.KeepAlive(h)
	}
}

// serve runs a page and a server for it until the test ends.
func serve(t *testing.T, l *fakeLoop) (p *Page, url string) {
	t.Helper()
	p = newPage(t, l)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- p.Run(ctx) }()
	mux := route.Mux(p.Routes(), access.Everyone())
	server := httptest.NewServer(mux)
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		server.Close() // waits for all streams
		http.DefaultClient.CloseIdleConnections()
	})
	return p, server.URL
}

// follow opens a stream and returns its messages.
func follow(t *testing.T, url string) (*http.Response, func() shown) {
	t.Helper()
	response, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { response.Body.Close() })
	lines := bufio.NewScanner(response.Body)
	lines.Buffer(nil, 1<<20)
	return response, func() (s shown) {
		for lines.Scan() {
			if data, is := strings.CutPrefix(lines.Text(), "data: "); is {
				if err := json.Unmarshal([]byte(data), &s); err != nil {
					t.Fatal(err)
				}
				return s
			}
		}
		t.Fatalf("the stream ended: %v", lines.Err())
		return s
	}
}

func TestStreamTellsEachTickAndChangesOnce(t *testing.T) {
	l := newLoop("bars")
	_, url := serve(t, l)
	response, next := follow(t, url+"/v1/stream?target=bars")
	if kind := response.Header.Get("Content-Type"); kind != "text/event-stream" {
		t.Errorf("content type is %q", kind)
	}
	if got := next(); got.Loop.Ticks != 0 || got.Changes == nil {
		t.Errorf("the first message is %+v", got)
	}
	l.tick(noon, map[string]*controller.Decision{"bars": at(pressure.Hard, 900)})
	if got := next(); got.Loop.Ticks != 1 || len(got.Changes) != 1 || names(got)[0] != "hard bars" {
		t.Errorf("after a tick the message is %+v", got)
	}
	l.tick(noon.Add(5*time.Second), map[string]*controller.Decision{"bars": at(pressure.Hard, 901, func(d *controller.Decision) { d.Changed = false })})
	if got := next(); got.Loop.Ticks != 2 || got.Changes != nil {
		t.Errorf("after a tick without a change the message is %+v", got)
	}
}

func TestOnlySoManyStreamsAreOpenAndAPlaceIsFreeAgain(t *testing.T) {
	l := newLoop("bars")
	_, url := serve(t, l)
	var responses []*http.Response
	for range mostStreams {
		response, next := follow(t, url+"/v1/stream")
		next()
		responses = append(responses, response)
	}
	refused, err := http.Get(url + "/v1/stream")
	if err != nil {
		t.Fatal(err)
	}
	refused.Body.Close()
	if refused.StatusCode != http.StatusServiceUnavailable || refused.Header.Get("Retry-After") == "" {
		t.Errorf("one stream too many is answered with %s, want 503 and when to try again", refused.Status)
	}
	responses[0].Body.Close()
	for deadline := time.Now().Add(time.Minute); ; { // there is one once the handler has ended
		again, err := http.Get(url + "/v1/stream")
		if err != nil {
			t.Fatal(err)
		}
		again.Body.Close()
		if again.StatusCode == http.StatusOK {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("after a stream has ended the next is answered with %s", again.Status)
		}
	}
}

// deaf is a viewer that takes nothing until its deadline has passed.
type deaf struct {
	header   http.Header
	deadline time.Time
	writes   int
}

func (d *deaf) Header() http.Header { return d.header }
func (d *deaf) WriteHeader(int)     {}
func (d *deaf) Flush()              {}

func (d *deaf) SetWriteDeadline(t time.Time) error { d.deadline = t; return nil }

func (d *deaf) Write(p []byte) (int, error) {
	if d.writes++; d.writes == 1 {
		return len(p), nil
	}
	time.Sleep(time.Until(d.deadline))
	return 0, &net.OpError{Op: "write", Err: context.DeadlineExceeded}
}

func TestAViewerThatTakesNothingIsDroppedAndHoldsUpNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLoop("bars")
		p := newPage(t, l)
		ctx, cancel := context.WithCancel(t.Context())
		go p.Run(ctx)
		viewer := &deaf{header: http.Header{}}
		began := time.Now()
		ended := make(chan time.Duration, 1)
		go func() {
			p.serveStream(viewer, httptest.NewRequest(http.MethodGet, "/v1/stream", nil))
			ended <- time.Since(began)
		}()
		synctest.Wait()
		for i := range 3 { // ticks go on beside it
			time.Sleep(time.Second)
			l.tick(time.Now(), map[string]*controller.Decision{"bars": at(pressure.OK, 1)})
			synctest.Wait()
			if s, _ := p.now(); s.health.Ticks != uint64(i+1) {
				t.Errorf("the page knows of %d ticks, want %d", s.health.Ticks, i+1)
			}
		}
		if got := <-ended; got < sendLimit || got > 3*sendLimit {
			t.Errorf("the stream ended after %s", got)
		}
		cancel()
		synctest.Wait()
	})
}

func TestAQuietStreamBeatsAndEndsWithThePage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPage(t, newLoop("bars"))
		ctx, cancel := context.WithCancel(t.Context())
		go p.Run(ctx)
		w := httptest.NewRecorder()
		ended := make(chan struct{})
		go func() {
			p.serveStream(w, httptest.NewRequest(http.MethodGet, "/v1/stream", nil))
			close(ended)
		}()
		time.Sleep(2*heartbeat + time.Second)
		cancel()
		<-ended
		if beats := strings.Count("\n"+w.Body.String(), "\n: alive\n"); beats != 2 {
			t.Errorf("%d heartbeats in %q, want 2", beats, w.Body)
		}
	})
}

func TestFilesAreCompressedTaggedAndLocked(t *testing.T) {
	p := newPage(t, newLoop("bars"))
	mux := route.Mux(p.Routes(), access.Everyone())
	get := func(path string, header ...string) *httptest.ResponseRecorder {
		r := httptest.NewRequest(http.MethodGet, path, nil)
		for i := 0; i < len(header); i += 2 {
			r.Header.Set(header[i], header[i+1])
		}
		w := httptest.NewRecorder()
		mux.ServeHTTP(w, r)
		return w
	}
	weight := 0
	for _, f := range files {
		path := strings.TrimSuffix(f.pattern, "{$}")
		plain := get(path)
		zipped := get(path, "Accept-Encoding", "br, gzip;q=0.8")
		reader, err := gzip.NewReader(zipped.Body)
		weight += zipped.Body.Len()
		if err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		text, _ := io.ReadAll(reader)
		if string(text) != plain.Body.String() || plain.Body.Len() == 0 || plain.Header().Get("Content-Encoding") != "" {
			t.Errorf("%s is not the same compressed and plain", path)
		}
		tag := zipped.Header().Get("ETag")
		if tag == plain.Header().Get("ETag") || zipped.Header().Get("Vary") != "Accept-Encoding" {
			t.Errorf("%s: plain and compressed cannot be told apart by caches", path)
		}
		if again := get(path, "Accept-Encoding", "gzip", "If-None-Match", tag); again.Code != http.StatusNotModified || again.Body.Len() != 0 {
			t.Errorf("%s is sent again to those who have it: %d", path, again.Code)
		}
		if refused := get(path, "Accept-Encoding", "gzip;q=0"); refused.Header().Get("Content-Encoding") != "" {
			t.Errorf("%s is compressed for those who refuse it", path)
		}
		csp := plain.Header().Get("Content-Security-Policy")
		if !strings.Contains(csp, "default-src 'none'") || strings.Contains(csp, "unsafe") || plain.Header().Get("X-Content-Type-Options") != "nosniff" {
			t.Errorf("%s has the policy %q", path, csp)
		}
		if kind := plain.Header().Get("Content-Type"); kind != f.kind {
			t.Errorf("%s is of type %q, want %q", path, kind, f.kind)
		}
	}
	t.Logf("all files compressed: %d bytes", weight)
	if weight > 100_000 {
		t.Errorf("the page weighs %d bytes, want less than 100,000", weight)
	}
}

func TestTheChartLibraryIsTheOneThatWasFetched(t *testing.T) {
	sums, err := assets.ReadFile("assets/uplot/SHA256SUMS")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(sums)) {
		want, name, _ := strings.Cut(strings.TrimSpace(line), "  ")
		data, err := assets.ReadFile("assets/uplot/" + name)
		if got := fmt.Sprintf("%x", sha256.Sum256(data)); err != nil || got != want {
			t.Errorf("%s has the hash %s, %v; want %s", name, got, err, want)
		}
	}
}

func FuzzQuestion(f *testing.F) {
	for _, query := range []string{"", "limit=25&offset=0", "condition=soft&search=Bars&target=bars", "limit=-1&limit=2", "offset=99999999999999999999", "%zz", "search=%00"} {
		f.Add(query)
	}
	s := newScene(noon, newLoop("bars", "news").rows, controller.Health{})
	f.Fuzz(func(t *testing.T, text string) {
		query, _ := url.ParseQuery(text)
		q, errs := parse(query, parameters...)
		if len(errs) > 0 {
			return
		}
		if q.limit < 1 || q.limit > mostLimit || q.offset < 0 || len(q.search) > 3*mostText || len(q.target) > mostText {
			t.Fatalf("%q is taken as %+v", text, q)
		}
		if got := s.answer(q); len(got.List.Targets) > q.limit || len(got.List.Targets) > got.List.Matching {
			t.Fatalf("%q is answered with %+v", text, got.List)
		}
	})
}

func BenchmarkLookAtTenThousandTargets(b *testing.B) {
	var all []string
	decide := map[string]*controller.Decision{}
	for i := range 10_000 {
		name := fmt.Sprintf("target-%05d", i)
		all = append(all, name)
		decide[name] = at(pressure.Level(i%3), float64(i))
	}
	l := newLoop(all...)
	p, err := New(l)
	if err != nil {
		b.Fatal(err)
	}
	l.tick(noon, decide)
	b.ReportAllocs()
	for b.Loop() {
		p.look(noon)
	}
}

func BenchmarkAnswerOutOfTenThousandTargets(b *testing.B) {
	var rows []controller.Row
	for i := range 10_000 {
		rows = append(rows, controller.Row{
			Target: &controller.Target{Name: fmt.Sprintf("target-%05d", i), Providers: []controller.Provider{{Name: "ibkr"}}},
			Latest: []*controller.Decision{at(pressure.Level(i%3), float64(i))},
		})
	}
	s := newScene(noon, rows, controller.Health{})
	b.ReportAllocs()
	for b.Loop() {
		s.answer(question{limit: usualLimit, search: "99"})
	}
}
