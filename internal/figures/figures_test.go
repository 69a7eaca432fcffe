package figures_test

import (
	"log/slog"
	"math"
	"strconv"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/headgate/headgate/internal/figures"
)

func TestALogRecordIsWithoutWhatIsNotKnown(t *testing.T) {
	var log strings.Builder
	slog.New(slog.NewJSONHandler(&log, &slog.HandlerOptions{ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		if a.Key == slog.TimeKey || a.Key == slog.LevelKey {
			return slog.Attr{}
		}
		return a
	}})).Info("queue", figures.Attr("depth", 0), figures.Attr("drain", math.NaN()),
		figures.Attr("room", math.Inf(-1)), figures.Attr("scale", 0.5))
	if got, want := log.String(), `{"msg":"queue","depth":0,"scale":0.5}`+"\n"; got != want {
		t.Errorf("the record is %q, want %q", got, want)
	}
}

func TestNumberIsWrittenAsPeopleReadIt(t *testing.T) {
	for v, want := range map[float64]string{
		0: "0", math.Copysign(0, -1): "0", 1: "1", 0.5: "0.5", 12.345: "12.35", 123.456: "123.5", 999.96: "1,000", 1050.4: "1,050",
		8214: "8,214", 1234567: "1,234,567", -8214: "-8,214", -999: "-999", 0.0123456: "0.01235", 0.000125: "0.000125",
		math.Inf(1): "infinite", math.NaN(): "unknown",
	} {
		if got := figures.Number(v); got != want {
			t.Errorf("%v is written %q, want %q", v, got, want)
		}
	}
}

func TestScaleKeepsFourDigits(t *testing.T) {
	for v, want := range map[float64]string{0: "0", 1: "1", 0.5: "0.5", 0.52341: "0.5234", -0.00001: "0", math.NaN(): "unknown"} {
		if got := figures.Scale(v); got != want {
			t.Errorf("%v is written %q, want %q", v, got, want)
		}
	}
}

func TestDurationsHaveTheirUnit(t *testing.T) {
	for d, want := range map[time.Duration]string{
		0: "0 s", 12 * time.Second: "12 s", 1500 * time.Millisecond: "1.5 s", 5 * time.Minute: "300 s",
		15 * time.Minute: "15m", 90*time.Minute + 30*time.Second: "1h30m30s", 2 * time.Hour: "2h",
	} {
		if got := figures.Duration(d); got != want {
			t.Errorf("%s is written %q, want %q", d, got, want)
		}
	}
}

func TestNumberCanBeReadBackToThreeDigits(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		v := rapid.Float64Range(-1e15, 1e15).Draw(t, "v") * math.Pow(10, rapid.Float64Range(-18, 0).Draw(t, "exponent"))
		text := figures.Number(v)
		got, err := strconv.ParseFloat(strings.ReplaceAll(text, ",", ""), 64)
		if err != nil {
			t.Fatal(err)
		}
		if math.Abs(got-v) > 0.001*math.Abs(v) {
			t.Errorf("%v is written %q", v, text)
		}
	})
}
