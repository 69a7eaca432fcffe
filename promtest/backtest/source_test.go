package backtest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	v1 "github.com/prometheus/client_golang/api/prometheus/v1"
	"github.com/prometheus/prometheus/tsdb"

	"github.com/headgate/headgate/internal/invalid"
	"github.com/headgate/headgate/internal/promserver"
	"github.com/headgate/headgate/internal/testserver"
	"github.com/headgate/headgate/metrics"
	"github.com/headgate/headgate/promtest/simulate"
	"github.com/headgate/headgate/settings"
)

// stored writes the series into a folder as a Prometheus server has it. Those
// after a time are only in its write-ahead log.
func stored(t testing.TB, h history, logged time.Time) string {
	t.Helper()
	dir := t.TempDir()
	options := tsdb.DefaultOptions()
	options.MinBlockDuration, options.MaxBlockDuration = (10 * time.Second).Milliseconds(), (10 * time.Second).Milliseconds()
	options.RetentionDuration = 0
	db, err := tsdb.Open(dir, slog.New(slog.DiscardHandler), nil, options, nil)
	if err != nil {
		t.Fatal(err)
	}
	write := func(after, until time.Time) {
		appender := db.Appender(t.Context())
		for _, s := range h {
			for i, at := range s.at {
				if when := time.UnixMilli(at); when.After(after) && !when.After(until) {
					if _, err := appender.Append(0, s.labels, at, s.values[i]); err != nil {
						t.Fatal(err)
					}
				}
			}
		}
		if err := appender.Commit(); err != nil {
			t.Fatal(err)
		}
	}
	const end = 1 << 40
	write(time.Time{}, logged)
	if err := db.CompactHead(tsdb.NewRangeHead(db.Head(), 0, logged.UnixMilli())); err != nil {
		t.Fatal(err)
	}
	write(logged, time.Unix(end, 0))
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	return dir
}

// table is what the command writes about a source; HEADGATE_COORDINATOR_IDS is
// bars.
func table(t testing.TB, c Command) string {
	t.Helper()
	t.Setenv("HEADGATE_COORDINATOR_IDS", "bars")
	var out strings.Builder
	if err := c.Run(t.Context(), simulate.Streams{Out: &out, Err: t.Output()}); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

func TestAFolderTellsWhatAFileTells(t *testing.T) {
	h := recordedSeries(t)
	first, last, _ := h.span([]string{metrics.QueueDepth})
	want := table(t, Command{Source: recordedFile, Every: time.Second, Policy: "all", Floor: 1})
	for name, logged := range map[string]time.Time{
		"blocks and a log": first.Add(last.Sub(first) / 2), "blocks alone": last.Add(time.Second), "a log alone": first.Add(-time.Second),
	} {
		t.Run(name, func(t *testing.T) {
			dir := stored(t, h, logged)
			if name == "blocks alone" { // as promtool makes them
				for _, head := range []string{"wal", "chunks_head"} {
					if err := os.RemoveAll(filepath.Join(dir, head)); err != nil {
						t.Fatal(err)
					}
				}
			}
			before := files(t, dir)
			if diff := cmp.Diff(want, table(t, Command{Source: dir, Every: time.Second, Policy: "all", Floor: 1})); diff != "" {
				t.Error(diff)
			}
			if diff := cmp.Diff(before, files(t, dir)); diff != "" {
				t.Errorf("the folder has changed: %s", diff)
			}
		})
	}
}

// files lists a folder.
func files(t testing.TB, dir string) map[string]int64 {
	t.Helper()
	all := map[string]int64{}
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err == nil && !d.IsDir() {
			all[path] = info.Size()
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func TestAFolderIsReadInParts(t *testing.T) {
	s := &series{labels: recordedSeries(t)[0].labels}
	start := time.Unix(1_760_000_000, 0)
	for i := range 24 * 60 * 3 { // three days, a sample a minute
		s.add(start.Add(time.Duration(i)*time.Minute).UnixMilli(), float64(i))
	}
	name := s.labels.Get("__name__")
	f := &folder{dir: stored(t, history{s}, time.Unix(0, 0)), names: wantedNames{[]string{name}, []string{name}}, log: slog.New(slog.DiscardHandler)}
	a := &answers{source: f, every: time.Minute, end: start.Add(71 * time.Hour)}
	for now := start; !now.After(a.end); now = now.Add(time.Minute) {
		a.now = now
		v, _, _, err := a.Query(t.Context(), name, now)
		if err != nil {
			t.Fatal(err)
		}
		if want := fmt.Sprintf("=> %v @", now.Sub(start).Minutes()); !strings.Contains(v.String(), want) {
			t.Fatalf("at %v: got %v, want %s", now, v, want)
		}
		if n := len(f.loaded[0].at); n > 24*60+20 {
			t.Fatalf("%d samples are held at once", n)
		}
	}
}

func TestAServerTellsWhatAFileTells(t *testing.T) {
	h := recordedSeries(t)
	first, last, _ := h.span([]string{metrics.QueueDepth})
	binary, err := promserver.Find()
	if errors.Is(err, promserver.ErrNoBinary) && !testserver.Required() {
		t.Skip("skipped: no Prometheus server")
	}
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := os.Rename(stored(t, h, first.Add(-time.Second)), filepath.Join(dir, "data")); err != nil {
		t.Fatal(err)
	}
	server, err := promserver.Start(t.Context(), promserver.Config{Binary: binary, Dir: dir, Interval: time.Hour, Log: t.Output()})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := server.Stop(); err != nil {
			t.Error(err)
		}
	}()
	c := Command{Source: recordedFile, Every: time.Second, Policy: "all", Floor: 1, From: seconds(first), To: seconds(last)}
	want := table(t, c)
	c.Source = server.URL
	if diff := cmp.Diff(want, table(t, c)); diff != "" {
		t.Error(diff)
	}
}

func seconds(at time.Time) string {
	return strconv.FormatFloat(float64(at.UnixMilli())/1e3, 'f', 3, 64)
}

func TestOfAServerADayIsReadWhereNothingIsSaid(t *testing.T) {
	h := recordedSeries(t)
	from, to := int64(1<<62), int64(0)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := r.ParseForm(); err != nil {
			t.Error(err)
		}
		number := func(name string) time.Time {
			v, err := strconv.ParseFloat(r.Form.Get(name), 64)
			if err != nil {
				t.Error(err)
			}
			return time.UnixMilli(int64(v * 1000))
		}
		start, end := number("start"), number("end")
		from, to = min(from, start.Unix()), max(to, end.Unix())
		value, _, _, err := h.querier().QueryRange(r.Context(), r.Form.Get("query"), v1.Range{Start: start, End: end, Step: time.Minute})
		if err != nil {
			t.Error(err)
		}
		if err := json.NewEncoder(w).Encode(map[string]any{"status": "success", "data": map[string]any{"resultType": "matrix", "result": value}}); err != nil {
			t.Error(err)
		}
	}))
	defer server.Close()
	t.Setenv("HEADGATE_PROMETHEUS_URL", server.URL)
	t.Setenv("HEADGATE_LEASE", "5m")
	if got := table(t, Command{Every: time.Minute, Floor: 1}); !strings.Contains(got, "(24h0m0s), every 1m0s") {
		t.Errorf("got %s", got)
	}
	if hours := float64(to-from) / 3600; hours < 23.9 || hours > 24.1 || time.Since(time.Unix(to, 0)) > 10*time.Minute {
		t.Errorf("%v hours are read, up to %v", hours, time.Unix(to, 0))
	}
}

func TestASourceThatCannotBeReadIsRefused(t *testing.T) {
	empty, text := t.TempDir(), filepath.Join(t.TempDir(), "empty.om")
	if err := os.WriteFile(text, []byte("up 1 1\n# EOF\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	for named, want := range map[string]string{
		"nowhere":  `source is "nowhere", want the address of a Prometheus server`,
		empty:      "neither blocks nor a write-ahead log",
		text:       "want one with samples of coordinator_queue_depth",
		"ftp://a":  `is "ftp://a"`,
		"http://":  `is "http://"`,
		"dump.om/": `source is "dump.om/"`,
	} {
		t.Setenv("HEADGATE_COORDINATOR_IDS", "bars")
		err := Command{Source: named}.Run(t.Context(), simulate.Streams{Out: t.Output(), Err: t.Output()})
		if len(invalid.All(err)) != 1 || !strings.Contains(fmt.Sprint(err), want) {
			t.Errorf("%s: got %v, want %s", named, err, want)
		}
	}
}

func TestAServerThatFailsIsToldOf(t *testing.T) {
	server := httptest.NewServer(http.NotFoundHandler())
	defer server.Close()
	names := wantedNames{[]string{"a"}, []string{"a"}}
	s, err := open(server.URL, names, settings.Prometheus{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	a := &answers{source: s, every: time.Second, end: time.Unix(20, 0), now: time.Unix(10, 0)}
	if _, _, _, err := a.Query(context.Background(), "x", time.Time{}); err == nil || !strings.Contains(err.Error(), "1970-01-01T00:00:10Z") {
		t.Errorf("got %v, want an error with the time", err)
	}
}
