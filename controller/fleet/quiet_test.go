package fleet

import (
	"errors"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestReplicasThatStayAsTheyAreAreNotLoggedAgainAndAgain(t *testing.T) {
	tests := []struct {
		name string
		at   func(h *house, tick int)
		most int // lines in the second six hours
	}{
		{name: "three replicas", at: func(*house, int) {}},
		{name: "one of them comes and goes", most: 1, at: func(h *house, tick int) {
			switch tick % 16 {
			case 0:
				h.leave("c")
			case 8: // which is after its lease
				h.join("c")
			}
		}},
		{name: "one of them hangs all day", at: func(h *house, _ int) { h.replicas["c"].hangs = true }},
		{name: "they cannot be looked for all day", at: func(h *house, tick int) {
			if tick > 0 {
				h.find = errors.New("no such host")
			}
		}},
		// That it fails, and that it no longer does.
		{name: "they cannot be looked for at every other time", most: 2, at: func(h *house, tick int) {
			if h.find = nil; tick%2 == 1 {
				h.find = errors.New("no such host")
			}
		}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := newHouse(t, "a", "b", "c")
				var log strings.Builder
				f := New(Config{Find: h, Sharing: ShareEqually, Open: func(address string) (Replica, error) {
					return &way{h, address}, nil
				}}, slog.New(slog.NewTextHandler(&log, nil)))
				ticks := 0
				shift := func() int {
					log.Reset()
					for began := time.Now(); time.Since(began) < 6*time.Hour; ticks++ {
						test.at(h, ticks)
						h.order = nil
						_, _ = tick(t, f, "alpha") // what comes of it is for other tests
					}
					return strings.Count(log.String(), "\n")
				}
				if shift() == 0 {
					t.Error("nothing was logged at first")
				}
				if lines := shift(); lines > test.most {
					t.Errorf("%d lines in the second six hours:\n%s", lines, log.String())
				}
			})
		})
	}
}

func TestTheLogTellsWhichReplicasCameAndWent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, "a", "b")
		var log strings.Builder
		f := New(Config{Find: h, Sharing: ShareEqually, Open: func(address string) (Replica, error) {
			return &way{h, address}, nil
		}}, slog.New(slog.NewTextHandler(&log, nil)))
		run := func(d time.Duration) string {
			log.Reset()
			for began := time.Now(); time.Since(began) < d; {
				_, _ = tick(t, f, "alpha")
			}
			return log.String()
		}
		if got := run(time.Minute); !strings.Contains(got, `replicas=2 found="[a b]" gone=[]`) {
			t.Errorf("at first it says %q", got)
		}
		h.join("c")
		h.leave("a")
		got := run(10 * time.Minute)
		if last := got[strings.LastIndex(strings.TrimSpace(got), "\n")+1:]; !strings.Contains(got, "found=[c]") || !strings.Contains(last, "replicas=2") {
			t.Errorf("then it says %q", got)
		}
		if !strings.Contains(got, "gone=[a]") {
			t.Errorf("it does not say that a is gone: %q", got)
		}
	})
}
