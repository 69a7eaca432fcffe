package controller

import (
	"math"
	"testing"
	"time"

	"github.com/headgate/headgate/pressure"
)

func TestAScaleRisesNoFasterThanItsLimitAndFallsAtOnce(t *testing.T) {
	l := NewLimiter(Guard{HardCap: 1, RisePerSecond: 0.02}, 1)
	scale, bit := l.Limit(5*time.Second, pressure.OK, 1, 0.5)
	if math.Abs(scale-0.6) > 1e-9 || bit != GuardRise {
		t.Errorf("after 5 s the scale is %v (%s), want 0.6", scale, bit)
	}
	if scale, bit = l.Limit(5*time.Second, pressure.OK, 0.61, scale); scale != 0.61 || bit != GuardNone {
		t.Errorf("a small rise becomes %v (%s)", scale, bit)
	}
	if scale, bit = l.Limit(time.Second, pressure.Hard, 0, scale); scale != 0 || bit != GuardNone {
		t.Errorf("a fall becomes %v (%s)", scale, bit)
	}
}

func TestParkedProvidersComeBackOneAfterAnother(t *testing.T) {
	const within, providers = 10 * time.Second, 1000
	back := make([]int, 11) // how many are back after so many seconds
	for seed := range uint64(providers) {
		l := NewLimiter(Guard{HardCap: 1, ResumeWithin: within}, seed)
		l.Limit(time.Second, pressure.Hard, 0, 0.5)
		scale := 0.0
		for second := range back {
			var bit Guardrail
			scale, bit = l.Limit(time.Second, pressure.OK, 0.8, scale)
			if scale == 0 && bit != GuardResume {
				t.Fatalf("it is held by %q", bit)
			}
			if scale > 0 {
				back[second]++
			}
		}
	}
	if back[len(back)-1] != providers {
		t.Errorf("%d of %d are back after %v", back[len(back)-1], providers, within)
	}
	for second := 1; second < 10; second++ {
		if share := float64(back[second]) / providers; math.Abs(share-float64(second)/10) > 0.06 {
			t.Errorf("%.2f are back after %d s, want about a tenth more each second", share, second)
		}
	}
}

func TestOneThatIsParkedByItsFirstDecisionWaitsForItsTurnToo(t *testing.T) {
	l := NewLimiter(Guard{HardCap: 1, ResumeWithin: time.Hour}, 1)
	l.Limit(0, pressure.Hard, 0, math.NaN())
	if scale, bit := l.Limit(time.Second, pressure.OK, 1, 0); scale != 0 || bit != GuardResume {
		t.Errorf("the scale is %v, held by %q, want 0 until its turn", scale, bit)
	}
}

func TestADirectionIsChangedOnlySoOftenInAnHour(t *testing.T) {
	l := NewLimiter(Guard{HardCap: 1, ReversalsPerHour: 4}, 1)
	scale, reversals, direction := 0.5, 0, 0.0
	var held int
	for i := range 600 { // ten hours of a law that turns each minute
		next, bit := l.Limit(time.Minute, pressure.OK, 0.4+0.2*float64(i%2), scale)
		if bit == GuardReversals {
			held++
			if next > scale {
				t.Fatalf("it rises from %v to %v though it is held", scale, next)
			}
		}
		if change := next - scale; change != 0 {
			if direction != 0 && math.Signbit(change) != math.Signbit(direction) {
				reversals++
			}
			direction = change
		}
		scale = next
	}
	if reversals > 60 || held == 0 {
		t.Errorf("it turns %d times in ten hours and is held %d times, want at most some 5 an hour", reversals, held)
	}
}

func TestTheDeadTimeIsTheSumOfItsPartsAndThenWhatIsSeen(t *testing.T) {
	var d deadTime
	now := time.Unix(1000, 0)
	if d.value() != 0 {
		t.Errorf("before anything it is %v", d.value())
	}
	// Samples each 10 s, decisions each 5 s, and nothing changes.
	for i := range 10 {
		now = now.Add(5 * time.Second)
		d.saw(now, 5*time.Second, time.Unix(1000+int64(i/2)*10, 0), 100)
		d.commanded(now, 100*time.Millisecond, 100, 100, 100)
	}
	if got, want := d.value(), 15100*time.Millisecond; (got - want).Abs() > time.Millisecond {
		t.Errorf("the sum is %v, want %v", got, want)
	}
	// The rate is halved and doubled; the arrivals follow after 20 s.
	rate, sample := 100.0, int64(1040)
	for range 4 {
		after := 150 - rate // 100, 50, 100 …
		d.commanded(now, 100*time.Millisecond, rate, after, rate)
		for step := range 4 {
			now, sample = now.Add(5*time.Second), sample+10
			arrivals := rate
			if step == 3 {
				arrivals = after
			}
			d.saw(now, 5*time.Second, time.Unix(sample, 0), arrivals)
		}
		rate = after
	}
	if got := d.value(); (got - 20*time.Second).Abs() > time.Millisecond {
		t.Errorf("seen is %v, want 20 s", got)
	}
}

func TestAnIdleProviderTeachesNoDeadTime(t *testing.T) {
	var d deadTime
	now := time.Unix(1000, 0)
	for i := range 50 {
		now = now.Add(5 * time.Second)
		d.saw(now, 5*time.Second, now, 10) // it sends 10 whatever it may
		d.commanded(now, 0, 50+50*float64(i%2), 100-50*float64(i%2), 10)
	}
	if d.measured.n != 0 || d.value() != 10*time.Second {
		t.Errorf("%d effects were seen, and the dead time is %v", d.measured.n, d.value())
	}
}
