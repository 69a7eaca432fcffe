//go:build unix

package deadletter_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/headgate/headgate/internal/invalid"
	"github.com/headgate/headgate/writequeue"
	"github.com/headgate/headgate/writequeue/deadletter"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var at = time.Date(2026, 11, 23, 14, 30, 0, 123456789, time.UTC)

func letter(key string) writequeue.Letter {
	return writequeue.Letter{
		Item:          writequeue.Item{Key: key, Time: at.Add(-time.Minute), Payload: []byte(`{"bid": 1.5}`)},
		CoordinatorID: "bars-coord", Error: "store is busy", Attempts: 5, At: at,
	}
}

func letters(prefix string, n int) []writequeue.Letter {
	made := make([]writequeue.Letter, n)
	for i := range made {
		made[i] = letter(fmt.Sprintf("%s-%d", prefix, i))
	}
	return made
}

func newFile(t *testing.T) *deadletter.File {
	t.Helper()
	file, err := deadletter.NewFile(filepath.Join(t.TempDir(), "dead.ndjson"))
	if err != nil {
		t.Fatal(err)
	}
	return file
}

func mustAppend(t *testing.T, file *deadletter.File, add ...writequeue.Letter) {
	t.Helper()
	if err := file.Append(context.Background(), add); err != nil {
		t.Fatal(err)
	}
}

// read returns the letters and the faults of a file.
func read(t *testing.T, path string) (got []writequeue.Letter, faults []string) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	for l, err := range deadletter.Read(bytes.NewReader(data)) {
		if err != nil {
			faults = append(faults, err.Error())
			continue
		}
		got = append(got, l)
	}
	return got, faults
}

// table is an idempotent store.
type table struct {
	mu     sync.Mutex
	rows   map[string]string
	writes int
	answer func(write int, batch []writequeue.Item) error
}

func newTable() *table { return &table{rows: map[string]string{}} }

func (s *table) Write(_ context.Context, batch []writequeue.Item) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.writes++
	if s.answer != nil {
		if err := s.answer(s.writes, batch); err != nil {
			return err
		}
	}
	for _, item := range batch {
		s.rows[item.Key] = string(item.Payload)
	}
	return nil
}

func TestALetterComesBackAsItWas(t *testing.T) {
	file := newFile(t)
	odd := letter("a \"key\" with\nbreaks, ü and \x00")
	odd.Item.Payload = []byte("not json <&>\u2028")
	binary := letter("\xff\xfe")
	binary.Item.Payload = []byte{0, 0xff, '\n'}
	bare := writequeue.Letter{Item: writequeue.Item{Key: "k", Payload: []byte{}}}
	want := []writequeue.Letter{letter("plain"), odd, binary, bare}
	mustAppend(t, file, want[:2]...)
	mustAppend(t, file)
	mustAppend(t, file, want[2:]...)

	got, faults := read(t, file.Path())
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("letters (-want +got):\n%s", diff)
	}
	if len(faults) > 0 {
		t.Errorf("faults: %v", faults)
	}
}

func TestALineCanBeReadByAnybody(t *testing.T) {
	file := newFile(t)
	mustAppend(t, file, letter("AAPL-1"))
	data, err := os.ReadFile(file.Path())
	if err != nil {
		t.Fatal(err)
	}
	want := `{"key":"AAPL-1","time":"2026-11-23T14:29:00.123456789Z","payload":"{\"bid\": 1.5}",` +
		`"coordinator_id":"bars-coord","error":"store is busy","attempts":5,"at":"2026-11-23T14:30:00.123456789Z"}` + "\n"
	if diff := cmp.Diff(want, string(data)); diff != "" {
		t.Errorf("file (-want +got):\n%s", diff)
	}
}

func TestATimeThatJSONCannotSayBecomesTheNearest(t *testing.T) {
	file := newFile(t)
	far := letter("far")
	far.Item.Time = time.Date(12026, 1, 1, 0, 0, 0, 0, time.UTC)
	zoned := letter("zoned")
	zoned.Item.Time = at.In(time.FixedZone("odd", 3601))
	mustAppend(t, file, far, zoned)
	got, _ := read(t, file.Path())
	if y := got[0].Item.Time.Year(); y != 9999 {
		t.Errorf("year is %d, want 9999", y)
	}
	if !got[1].Item.Time.Equal(at) {
		t.Errorf("time is %v, want %v", got[1].Item.Time, at)
	}
}

func TestReadNamesLinesThatHoldNoLetter(t *testing.T) {
	good := `{"key":"a","payload":"1"}`
	var keys, faults []string
	for l, err := range deadletter.Read(strings.NewReader(strings.Join([]string{
		good, `{"key":"b"`, ``, `[]`, `{"payload":"1"}`, `{"key":"a","key_base64":"YQ=="}`,
		`{"key":"a","payload":"1","payload_base64":"YQ=="}`, `{"key":"a","attempts":-1}`,
		`{"key":"c","attempts":"many"}`, `  {"key":"d","new":1}  `,
	}, "\n"))) {
		if err != nil {
			var bad *deadletter.BadLine
			if !errors.As(err, &bad) || len(invalid.All(err)) == 0 {
				t.Errorf("error %v is not one of a line", err)
			}
			faults = append(faults, err.Error())
			continue
		}
		keys = append(keys, l.Item.Key)
	}
	if diff := cmp.Diff([]string{"a", "d"}, keys); diff != "" {
		t.Errorf("keys (-want +got):\n%s", diff)
	}
	want := []string{
		`line 2: line is "unexpected end of JSON input", want one JSON object`,
		`line 4: line is "json: cannot unmarshal array into Go value of type deadletter.li"…, want one JSON object`,
		`line 5: key is "", want a key in one of key and key_base64`,
		`line 6: key is "a", want a key in one of key and key_base64`,
		`line 7: payload is "1", want a payload in one of payload and payload_base64`,
		`line 8: attempts is -1, want a whole number >= 0`,
		`line 9: line is "json: cannot unmarshal string into Go struct field line.attempts"…, want one JSON object`,
	}
	if diff := cmp.Diff(want, faults); diff != "" {
		t.Errorf("faults (-want +got):\n%s", diff)
	}
}

func TestALineCutShortByACrashHarmsNoOther(t *testing.T) {
	file := newFile(t)
	mustAppend(t, file, letters("a", 2)...)
	data, err := os.ReadFile(file.Path())
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file.Path(), data[:len(data)-10], 0o600); err != nil {
		t.Fatal(err)
	}
	mustAppend(t, file, letter("b"))

	got, faults := read(t, file.Path())
	if len(got) != 2 || got[0].Item.Key != "a-0" || got[1].Item.Key != "b" || len(faults) != 1 {
		t.Errorf("read %v and faults %v, want a-0, b and one fault", got, faults)
	}
}

func TestNewFileSaysWhyLettersCannotBeKept(t *testing.T) {
	for name, path := range map[string]string{
		"a folder":            t.TempDir(),
		"no such folder":      filepath.Join(t.TempDir(), "absent", "dead.ndjson"),
		"a file for a folder": filepath.Join(newFile(t).Path(), "dead.ndjson"),
	} {
		if _, err := deadletter.NewFile(path); err == nil || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: error is %v, want one that names %s", name, err, path)
		}
	}
}

func TestAFullDiskIsAnError(t *testing.T) {
	const full = "/dev/full"
	if _, err := os.Stat(full); err != nil {
		t.Skip("skipped: this system has no " + full)
	}
	file, err := deadletter.NewFile(full)
	if err != nil {
		t.Fatal(err)
	}
	if err := file.Append(context.Background(), letters("a", 1)); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("error is %v, want %v", err, syscall.ENOSPC)
	}
}

func TestAFailedAppendLeavesNothingBehind(t *testing.T) {
	file := newFile(t)
	mustAppend(t, file, letter("before"))
	before, err := os.ReadFile(file.Path())
	if err != nil {
		t.Fatal(err)
	}

	// No file may grow beyond what this one has, plus a few bytes.
	var old syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_FSIZE, &old); err != nil {
		t.Fatal(err)
	}
	tight := syscall.Rlimit{Cur: uint64(len(before)) + 40, Max: old.Max}
	if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &tight); err != nil {
		t.Fatal(err)
	}
	failed := file.Append(context.Background(), letters("a", 3))
	if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &old); err != nil {
		t.Fatal(err)
	}
	if !errors.Is(failed, syscall.EFBIG) {
		t.Fatalf("error is %v, want %v", failed, syscall.EFBIG)
	}
	after, err := os.ReadFile(file.Path())
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(before), string(after)); diff != "" {
		t.Errorf("file (-before +after):\n%s", diff)
	}
}

func TestReplayEmptiesTheFile(t *testing.T) {
	file, rows := newFile(t), newTable()
	mustAppend(t, file, letters("a", 1234)...)
	report, err := deadletter.Replay(context.Background(), file.Path(), rows)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(deadletter.Report{Written: 1234}, report); diff != "" {
		t.Errorf("report (-want +got):\n%s", diff)
	}
	if got := rows.rows["a-1233"]; len(rows.rows) != 1234 || got != `{"bid": 1.5}` {
		t.Errorf("%d rows, the last one %q", len(rows.rows), got)
	}
	if again, err := deadletter.Replay(context.Background(), file.Path(), rows); err != nil || again != (deadletter.Report{}) {
		t.Errorf("a second replay did %+v, error %v; want nothing", again, err)
	}
}

func TestReplayOfNoFileIsNothing(t *testing.T) {
	report, err := deadletter.Replay(context.Background(), filepath.Join(t.TempDir(), "absent"), newTable())
	if err != nil || report != (deadletter.Report{}) {
		t.Errorf("report %+v, error %v; want nothing", report, err)
	}
}

func TestReplayKeepsWhatTheStoreRefuses(t *testing.T) {
	file, rows := newFile(t), newTable()
	mustAppend(t, file, letters("a", 7)...)
	if err := os.WriteFile(file.Path(), append(must(os.ReadFile(file.Path())), "{torn\n"...), 0o600); err != nil {
		t.Fatal(err)
	}
	rows.answer = func(_ int, batch []writequeue.Item) error {
		for _, item := range batch {
			if item.Key == "a-3" {
				return writequeue.Permanent(errors.New("bad row"))
			}
		}
		return nil
	}
	report, err := deadletter.Replay(context.Background(), file.Path(), rows)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(deadletter.Report{Written: 6, Kept: 1, Bad: 1}, report); diff != "" {
		t.Errorf("report (-want +got):\n%s", diff)
	}
	got, faults := read(t, file.Path())
	want := letter("a-3")
	want.Error, want.Attempts = "bad row", 6
	if diff := cmp.Diff([]writequeue.Letter{want}, got); diff != "" || len(faults) != 1 {
		t.Errorf("kept (-want +got), faults %v:\n%s", faults, diff)
	}
}

func TestAReplayThatWasStoppedIsFinishedByTheNext(t *testing.T) {
	file, rows := newFile(t), newTable()
	mustAppend(t, file, letters("a", 1200)...)
	down := errors.New("connection lost")
	rows.answer = func(write int, _ []writequeue.Item) error {
		if write == 2 {
			return down
		}
		return nil
	}
	report, err := deadletter.Replay(context.Background(), file.Path(), rows)
	if !errors.Is(err, down) || report.Written != 500 {
		t.Fatalf("first replay: %+v, error %v; want 500 written and %v", report, err, down)
	}
	mustAppend(t, file, letters("b", 3)...) // the queue goes on meanwhile

	report, err = deadletter.Replay(context.Background(), file.Path(), rows)
	if err != nil || report.Written != 1203 {
		t.Errorf("second replay: %+v, error %v; want 1203 written", report, err)
	}
	if len(rows.rows) != 1203 {
		t.Errorf("%d rows, want 1203", len(rows.rows))
	}
	if left := must(filepath.Glob(file.Path() + "*")); len(left) != 0 {
		t.Errorf("files left: %v", left)
	}
}

func TestTwoReplaysDoNotMeet(t *testing.T) {
	file, rows := newFile(t), newTable()
	mustAppend(t, file, letters("a", 3)...)
	var second error
	rows.answer = func(int, []writequeue.Item) error {
		_, second = deadletter.Replay(context.Background(), file.Path(), newTable())
		return nil
	}
	report, err := deadletter.Replay(context.Background(), file.Path(), rows)
	if err != nil || report.Written != 3 {
		t.Errorf("first replay: %+v, error %v; want 3 written", report, err)
	}
	if second == nil || !strings.Contains(second.Error(), "another replay") {
		t.Errorf("second replay: error %v, want that there is another", second)
	}
}

func TestNoLetterIsLostBetweenAppendAndReplay(t *testing.T) {
	file, rows := newFile(t), newTable()
	const writers, each = 4, 50
	var appends sync.WaitGroup
	for w := range writers {
		appends.Go(func() {
			for i := range each {
				if err := file.Append(context.Background(), []writequeue.Letter{letter(fmt.Sprintf("%d-%d", w, i))}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	done := make(chan struct{})
	go func() { appends.Wait(); close(done) }()
	written := 0
	for last := false; ; {
		report, err := deadletter.Replay(context.Background(), file.Path(), rows)
		if err != nil {
			t.Fatal(err)
		}
		if written += report.Written; last {
			break
		}
		select {
		case <-done:
			last = true
		default:
		}
	}
	if len(rows.rows) != writers*each || written != writers*each {
		t.Errorf("%d rows by %d writes, want %d each", len(rows.rows), written, writers*each)
	}
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func FuzzRead(f *testing.F) {
	for _, seed := range []string{
		`{"key":"a","time":"2026-11-23T14:29:00Z","payload":"x","attempts":5}` + "\n{torn", "\n\n[]\n", `{"key_base64":"/w==","payload_base64":"AA=="}`, "\xff", `{"key":"a","time":"10000-01-01T00:00:00Z"}`,
	} {
		f.Add([]byte(seed))
	}
	path := filepath.Join(f.TempDir(), "dead.ndjson")
	f.Fuzz(func(t *testing.T, data []byte) {
		var got []writequeue.Letter
		for l, err := range deadletter.Read(bytes.NewReader(data)) {
			if err != nil {
				continue
			}
			if l.Item.Key == "" || l.Attempts < 0 {
				t.Fatalf("accepted %+v", l)
			}
			got = append(got, l)
		}
		// What was read can be kept and read again.
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		file, err := deadletter.NewFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if err := file.Append(context.Background(), got); err != nil {
			t.Fatal(err)
		}
		again, faults := read(t, path)
		if len(faults) > 0 {
			t.Fatalf("faults in what was appended: %v", faults)
		}
		same := cmp.Comparer(func(a, b time.Time) bool { return a.Equal(b) })
		empty := cmp.Comparer(func(a, b []byte) bool { return bytes.Equal(a, b) })
		if diff := cmp.Diff(got, again, same, empty); diff != "" {
			t.Fatalf("letters (-first +again):\n%s", diff)
		}
	})
}
