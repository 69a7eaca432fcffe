package controller

import (
	"encoding/json"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/headgate/headgate/internal/wiring"
	"github.com/headgate/headgate/settings"
)

// numbers are the keys of a decision's record that are there where they are known.
var numbers = []string{
	"scale", "scale_in_force", "depth", "capacity", "arrivals_per_second", "drain_per_second", "law_scale",
}

func TestTheRecordOfADecisionIsWithoutWhatIsNotKnown(t *testing.T) {
	nothing := func(p *fakePrometheus, g *gate) { p.err, g.err = errDown, errDown }
	all := func(p *fakePrometheus, _ *gate) { p.rate.PerSecond, p.rate.Known = 60, true }
	logged := func(t *testing.T, format string, world func(*fakePrometheus, *gate)) (record string) {
		t.Helper()
		synctest.Test(t, func(t *testing.T) {
			var log strings.Builder
			prometheus, g := newPrometheus(), newGate()
			world(prometheus, g)
			c, err := New(config(), prometheus, []Target{target(t, "bars", g)}, wiring.Logger(settings.Log{Level: "info", Format: format}, &log))
			if err != nil {
				t.Fatal(err)
			}
			stop := run(t, c)
			pass(interval)
			stop()
			for line := range strings.Lines(log.String()) {
				if strings.Contains(line, "explanation") {
					record = line
				}
			}
			if record == "" {
				t.Errorf("no decision in the log:\n%s", log.String())
			}
		})
		return record
	}
	for _, test := range []struct {
		name  string
		world func(*fakePrometheus, *gate)
		known bool
	}{{"nothing is known", nothing, false}, {"all is known", all, true}} {
		t.Run(test.name+", as JSON", func(t *testing.T) {
			line := logged(t, "json", test.world)
			var record struct{ Decision map[string]any }
			if err := json.Unmarshal([]byte(line), &record); err != nil || strings.Contains(line, "!ERROR") {
				t.Fatalf("error %v, the record is\n%s", err, line)
			}
			for _, key := range numbers {
				value, there := record.Decision[key]
				if _, is := value.(float64); there != test.known || there && !is {
					t.Errorf("%s is there: %v, and is %v", key, there, value)
				}
			}
		})
		t.Run(test.name+", as logfmt", func(t *testing.T) {
			line := logged(t, "logfmt", test.world)
			for _, key := range numbers {
				if strings.Contains(line, "decision."+key+"=") != test.known {
					t.Errorf("%s is there: %v, the record is\n%s", key, !test.known, line)
				}
			}
			if strings.Contains(line, "NaN") {
				t.Errorf("the record is\n%s", line)
			}
		})
	}
}
