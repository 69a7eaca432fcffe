package backtest

import (
	"math"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/headgate/headgate/pressure"
)

func TestAnAccountAddsUpWhatThereWas(t *testing.T) {
	ok, soft, hard := pressure.OK, pressure.Soft, pressure.Hard
	a := newAccount()
	for i, s := range []struct {
		level *pressure.Level
		scale float64
	}{
		{nil, math.NaN()}, {&ok, 1}, {&soft, 0.5}, {&soft, 0.5}, {&hard, 0}, {nil, 0.5}, {&ok, 0.505}, {&ok, 0.5}, {&ok, 1},
	} {
		if i > 0 {
			a.pass(10 * time.Second)
		}
		a.set(time.Unix(int64(10*i), 0), s.level, s.scale)
	}
	if diff := cmp.Diff([...]time.Duration{30 * time.Second, 20 * time.Second, 10 * time.Second}, a.levels); diff != "" {
		t.Errorf("levels: %s", diff)
	}
	if a.blind != 20*time.Second {
		t.Errorf("blind for %v", a.blind)
	}
	if want := (1 + 0.5 + 0.5 + 0 + 0.5 + 0.505 + 0.5) / 7; math.Abs(a.mean()-want) > 1e-9 || a.least != 0 {
		t.Errorf("the mean scale is %v and the least %v, want %v and 0", a.mean(), a.least, want)
	}
	// Down, and up again; five thousandths count for nothing.
	if a.turns != 1 || math.Abs(a.variation-(0.5+0.5+0.5+0.005+0.005+0.5)) > 1e-9 {
		t.Errorf("%d turns and a variation of %v", a.turns, a.variation)
	}
	at := func(s int64) time.Time { return time.Unix(s, 0) }
	want := []change{{at(0), nil}, {at(10), &ok}, {at(20), &soft}, {at(40), &hard}, {at(50), nil}, {at(60), &ok}}
	if diff := cmp.Diff(want, a.changes); diff != "" {
		t.Errorf("changes: %s", diff)
	}
}

func TestAnAccountOfNothingHasNoMean(t *testing.T) {
	a := newAccount()
	a.pass(time.Second)
	if !math.IsNaN(a.mean()) || !math.IsNaN(a.least) || a.blind != time.Second {
		t.Errorf("got %+v", a)
	}
}
