package pressure_test

import (
	"encoding/json"
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/headgate/headgate/internal/invalid"
	"github.com/headgate/headgate/internal/invalid/invalidtest"
	"github.com/headgate/headgate/pressure"
)

func TestALevelIsReadInAnyLetterCaseAndByItsNumber(t *testing.T) {
	for text, want := range map[string]pressure.Level{
		"ok": pressure.OK, "OK": pressure.OK, "oK": pressure.OK, "0": pressure.OK,
		"soft": pressure.Soft, "Soft": pressure.Soft, "1": pressure.Soft,
		"hard": pressure.Hard, "HARD": pressure.Hard, "2": pressure.Hard,
	} {
		if got, err := pressure.ParseLevel(text); err != nil || got != want {
			t.Errorf("%q: got %v and %v, want %v", text, got, err, want)
		}
	}
	for _, text := range []string{"", "mild", " ok", "3", "-1", "hard\n"} {
		level := pressure.Hard
		err := level.UnmarshalText([]byte(text))
		if len(invalid.All(err)) != 1 || level != pressure.Hard {
			t.Errorf("%q: got %v and %v, want an error and the level as it was", text, level, err)
		}
	}
	if _, err := pressure.Level(3).MarshalText(); err == nil {
		t.Error("an unknown level was written")
	}
}

func TestAnEventIsOneJSONObject(t *testing.T) {
	e := pressure.Event{
		CoordinatorID: "bars-coord", QueueSize: 850, Capacity: 1000, Level: pressure.Soft,
		Utilization: 0.85, Source: "store", Time: time.Unix(1760500000, 0),
	}
	data, err := json.Marshal(e)
	if err != nil {
		t.Fatal(err)
	}
	want := `{"coordinator_id":"bars-coord","queue_size":850,"capacity":1000,"level":"soft","reason":null,"utilization":0.85,"source":"store","ts":1760500000}`
	if diff := cmp.Diff(want, string(data)); diff != "" {
		t.Error(diff)
	}
	back, err := pressure.DecodeEvent(data)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(e, back); diff != "" {
		t.Error(diff)
	}
}

func TestAnEventIsReadGenerously(t *testing.T) {
	for _, text := range []string{
		`{"coordinator_id": "bars", "queue_size": 9, "capacity": 10, "level": "HARD"}`,
		`{"coordinator_id": "bars", "queue_size": 9, "capacity": 10, "level": 2, "reason": null, "future": {"a": [1]}}`,
		`{"coordinator_id": "bars", "queue_size": 9, "capacity": 10, "level": "hard", "utilization": 0.9}`,
	} {
		e, err := pressure.DecodeEvent([]byte(text))
		if err != nil || e.Level != pressure.Hard || e.Utilization != 0.9 || !e.Time.IsZero() {
			t.Errorf("%s: got %+v and %v", text, e, err)
		}
	}
}

func TestABadEventNamesAllItsFaults(t *testing.T) {
	for _, test := range []struct{ name, text, fields string }{
		{"nothing", ``, "body"},
		{"no object", `[]`, "body"},
		{"an empty object", `{}`, "coordinator_id queue_size capacity level"},
		{"wrong types", `{"coordinator_id": 5}`, "coordinator_id"},
		{"out of range", `{"coordinator_id": "", "queue_size": -1, "capacity": 0, "level": "mild"}`, "level coordinator_id queue_size capacity"},
		{"no whole numbers", `{"coordinator_id": "b", "queue_size": 1.5, "capacity": 1e99, "level": "ok"}`, "queue_size capacity"},
		{"a name without end", `{"coordinator_id": "` + strings.Repeat("x", 300) + `", "queue_size": 1, "capacity": 1, "level": "ok"}`, "coordinator_id"},
		{"a time beyond all years", `{"coordinator_id": "b", "queue_size": 1, "capacity": 1, "level": "ok", "ts": 1e300}`, "ts"},
		{"a negative utilisation", `{"coordinator_id": "b", "queue_size": 1, "capacity": 1, "level": "ok", "utilization": -1}`, "utilization"},
		{"NaN", `{"coordinator_id": "b", "queue_size": NaN, "capacity": 1, "level": "ok"}`, "queue_size"},
	} {
		_, err := pressure.DecodeEvent([]byte(test.text))
		var fields []string
		for _, v := range invalid.All(err) {
			fields = append(fields, v.Field)
		}
		if diff := cmp.Diff(test.fields, strings.Join(fields, " ")); diff != "" {
			t.Errorf("%s: %v\n%s", test.name, err, diff)
		}
	}
}

func FuzzDecodeEvent(f *testing.F) {
	f.Add([]byte(`{"coordinator_id": "bars-coord", "queue_size": 850, "capacity": 1000, "level": "soft", "reason": "high_watermark", "utilization": 0.85, "source": "store", "ts": 1760500000.0}`))
	f.Add([]byte(`{"coordinator_id": "b", "queue_size": 9223372036854775808, "capacity": -0, "level": 2, "ts": -1e18}`))
	f.Add([]byte(`{"level": {}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		e, err := pressure.DecodeEvent(data)
		if err != nil {
			invalidtest.Explained(t, err)
			return
		}
		again, err := json.Marshal(e)
		if err != nil {
			t.Fatalf("cannot be written again: %v", err)
		}
		back, err := pressure.DecodeEvent(again)
		if err != nil {
			t.Fatalf("cannot be read again: %v: %s", err, again)
		}
		if diff := cmp.Diff(e, back); diff != "" {
			t.Error(diff)
		}
	})
}

func TestAMarkIsItemsOrAShare(t *testing.T) {
	for text, want := range map[string]float64{"8000": 8000, "80%": 1600, " 0% ": 0, "0.5": 0.5, "100%": 2000} {
		m, err := pressure.ParseMark(text)
		if err != nil || m.Items(2000) != want {
			t.Errorf("%q: got %v items of 2000 and %v, want %v", text, m.Items(2000), err, want)
		}
		again, err := pressure.ParseMark(m.String())
		if err != nil || again != m {
			t.Errorf("%q comes back as %v", text, again)
		}
	}
	for _, text := range []string{"", "%", "101%", "-1", "NaN", "inf", "many"} {
		if _, err := pressure.ParseMark(text); err == nil {
			t.Errorf("%q passed for a mark", text)
		}
	}
}

// marks are those of a queue of 1000 items, with hysteresis.
func marks() pressure.Thresholds {
	return pressure.Thresholds{SoftEnter: 500, SoftExit: 400, HardEnter: 800, HardExit: 700}
}

func TestThresholdsOutOfOrderAreNamed(t *testing.T) {
	for _, test := range []struct {
		spoil func(*pressure.Thresholds)
		field string
	}{
		{func(m *pressure.Thresholds) { m.SoftEnter, m.SoftExit = 900, 400 }, "soft_enter"},
		{func(m *pressure.Thresholds) { m.SoftExit = 600 }, "soft_exit"},
		{func(m *pressure.Thresholds) { m.HardExit = 900 }, "hard_exit"},
		{func(m *pressure.Thresholds) { m.HardExit = 300 }, "soft_exit"},
		{func(m *pressure.Thresholds) { m.SoftExit = math.NaN() }, "soft_exit"},
		{func(m *pressure.Thresholds) { m.HardEnter = math.Inf(1) }, "hard_enter"},
		{func(m *pressure.Thresholds) { m.For = -1 }, "for"},
		{func(m *pressure.Thresholds) { m.CoolDown = -1 }, "cool_down"},
	} {
		m := marks()
		test.spoil(&m)
		values := invalid.All(m.Validate())
		if len(values) == 0 || values[0].Field != test.field {
			t.Errorf("got %v, want %s named first", values, test.field)
		}
	}
	if err := marks().Validate(); err != nil {
		t.Error(err)
	}
}

func TestATrackerFollowsTheDepth(t *testing.T) {
	type look struct {
		after    time.Duration // since the look before
		depth    float64
		reported pressure.Level
		want     pressure.Level
	}
	const ok, soft, hard = pressure.OK, pressure.Soft, pressure.Hard
	timed := marks()
	timed.For, timed.CoolDown = 10*time.Second, 30*time.Second
	for _, test := range []struct {
		name  string
		marks pressure.Thresholds
		looks []look
	}{
		{"the marks are entered above SOFT's and at HARD's", marks(), []look{
			{0, 500, ok, ok}, {0, 501, ok, soft}, {0, 799, ok, soft}, {0, 800, ok, hard},
		}},
		{"and left below HARD's exit and at SOFT's", marks(), []look{
			{0, 900, ok, hard}, {0, 700, ok, hard}, {0, 699, ok, soft}, {0, 401, ok, soft}, {0, 400, ok, ok},
		}},
		{"from HARD it may go to OK at once", marks(), []look{{0, 900, ok, hard}, {0, 0, ok, ok}}},
		{"what the coordinator says counts when it is worse", marks(), []look{
			{0, 0, soft, soft}, {0, 900, soft, hard}, {0, 0, hard, hard}, {0, 0, ok, ok},
		}},
		{"a depth that is no number asks for nothing", marks(), []look{
			{0, math.NaN(), ok, ok}, {0, math.NaN(), hard, hard}, {0, math.NaN(), ok, ok},
		}},
		{"a worse level needs its time without a break", timed, []look{
			{0, 600, ok, ok}, {9 * time.Second, 600, ok, ok}, {500 * time.Millisecond, 400, ok, ok},
			{0, 600, ok, ok}, {9 * time.Second, 900, ok, ok}, {time.Second, 900, ok, soft},
			{8 * time.Second, 900, ok, soft}, {time.Second, 900, ok, hard},
		}},
		{"a level lasts for its cool-down", timed, []look{
			{0, 900, ok, ok}, {10 * time.Second, 900, ok, hard}, {29 * time.Second, 0, ok, hard},
			{time.Second, 0, ok, ok},
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			tracker := pressure.NewTracker(test.marks)
			now := time.Unix(0, 0)
			for i, l := range test.looks {
				now = now.Add(l.after)
				if got, _ := tracker.Observe(now, l.depth, l.reported); got != l.want {
					t.Fatalf("look %d at a depth of %v: got %v, want %v", i+1, l.depth, got, l.want)
				}
			}
		})
	}
}

func TestATrackerKeepsItsPromises(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		depth := rapid.Float64Range(0, 1000)
		m := pressure.Thresholds{
			SoftExit: 400, SoftEnter: 400 + rapid.Float64Range(0, 200).Draw(t, "soft band"),
			HardExit: 650, HardEnter: 650 + rapid.Float64Range(0, 200).Draw(t, "hard band"),
			For:      time.Duration(rapid.IntRange(0, 5).Draw(t, "for")) * time.Second,
			CoolDown: time.Duration(rapid.IntRange(0, 5).Draw(t, "cool-down")) * time.Second,
		}
		tracker := pressure.NewTracker(m)
		now := time.Unix(1, 0)
		before, entered := tracker.Level()
		for range rapid.IntRange(1, 50).Draw(t, "looks") {
			now = now.Add(time.Duration(rapid.IntRange(0, 3000).Draw(t, "after")) * time.Millisecond)
			d := depth.Draw(t, "depth")
			level, changed := tracker.Observe(now, d, pressure.OK)
			if changed != (level != before) {
				t.Fatalf("changed is %v from %v to %v", changed, before, level)
			}
			belowEntry := level == pressure.Soft && d <= m.SoftEnter || level == pressure.Hard && d < m.HardEnter
			switch {
			case level > before && belowEntry:
				t.Fatalf("rose to %v at %v, below where it begins", level, d)
			case level < before && !entered.IsZero() && now.Sub(entered) < m.CoolDown:
				t.Fatalf("fell to %v after %v, within the cool-down", level, now.Sub(entered))
			case level < before && before == pressure.Hard && d >= m.HardExit:
				t.Fatalf("left HARD at %v", d)
			case level == pressure.OK && before > pressure.OK && d > m.SoftExit:
				t.Fatalf("fell to OK at %v", d)
			}
			if changed || entered.IsZero() {
				entered = now
			}
			before = level
		}
	})
}

func ExampleTracker() {
	tracker := pressure.NewTracker(pressure.Thresholds{
		SoftEnter: 5000, SoftExit: 4000, HardEnter: 8000, HardExit: 7000,
	})
	now := time.Now()
	for _, depth := range []float64{4500, 8214, 7500, 4500, 3900} {
		level, _ := tracker.Observe(now, depth, pressure.OK)
		fmt.Println(depth, level)
	}
	// Output:
	// 4500 OK
	// 8214 HARD
	// 7500 HARD
	// 4500 SOFT
	// 3900 OK
}

func FuzzParseMark(f *testing.F) {
	for _, seed := range []string{"8000", "80%", " 0% ", "-0", "1e309", "0x1p-2", "100.0001%", "NaN%", "%%", "1_0"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		m, err := pressure.ParseMark(text)
		if err != nil {
			return
		}
		if !(m.Value >= 0) || math.IsInf(m.Value, 0) || m.Percent && m.Value > 100 {
			t.Fatalf("%q is taken as %+v", text, m)
		}
		if again, err := pressure.ParseMark(m.String()); err != nil || again != m {
			t.Fatalf("%q comes back as %+v, %v", text, again, err)
		}
	})
}
