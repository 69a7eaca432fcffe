package seldom

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

var begin = time.Date(2026, 3, 2, 9, 30, 0, 0, time.UTC)

// told is when something was said, and how often it was left out before.
type told struct {
	After   time.Duration
	LeftOut int
}

// every says a thing at each step over a span.
func every(step, span time.Duration) []told {
	var l Line
	var all []told
	for at := time.Duration(0); at < span; at += step {
		if leftOut, tell := l.Tell(begin.Add(at)); tell {
			all = append(all, told{at, leftOut})
		}
	}
	return all
}

func TestWhatGoesOnIsSaidLessAndLess(t *testing.T) {
	want := []told{
		{0, 0}, {time.Minute, 11}, {3 * time.Minute, 23}, {7 * time.Minute, 47}, {15 * time.Minute, 95},
		{31 * time.Minute, 191}, {63 * time.Minute, 383},
	}
	if diff := cmp.Diff(want, every(5*time.Second, 2*time.Hour)); diff != "" {
		t.Errorf("every five seconds (-want +got):\n%s", diff)
	}
}

func TestWhatGoesOnForeverIsSaidOnceADay(t *testing.T) {
	all := every(5*time.Second, 12*24*time.Hour)
	for i, one := range all {
		if one.After > 3*24*time.Hour && one.After-all[i-1].After < longest {
			t.Errorf("said %s after it was said last", one.After-all[i-1].After)
		}
	}
	if last := all[len(all)-1]; last.LeftOut != int(longest/(5*time.Second))-1 {
		t.Errorf("%d were left out over a day of one every five seconds", last.LeftOut)
	}
}

func TestWhatDidNotHappenForAnHourIsNewAgain(t *testing.T) {
	var l Line
	for range 10 {
		l.Tell(begin)
	}
	// A minute's wait was over long ago, and the next is a minute again.
	at := begin.Add(forgets)
	if leftOut, tell := l.Tell(at); !tell || leftOut != 9 {
		t.Errorf("after an hour: %d, %v, want it said, and that nine were left out", leftOut, tell)
	}
	if _, tell := l.Tell(at.Add(first)); !tell {
		t.Error("it was not new again: it waited for more than a minute")
	}
}

// seen is what is told of a condition that a test lets come and go.
type seen struct {
	After   time.Duration
	Holds   bool
	LeftOut int
}

func watch(span, step time.Duration, holds func(time.Duration) bool) []seen {
	var c Condition
	var all []seen
	for at := time.Duration(0); at < span; at += step {
		if leftOut, tell := c.Now(begin.Add(at), holds(at)); tell {
			all = append(all, seen{at, holds(at), leftOut})
		}
	}
	return all
}

func TestACondition(t *testing.T) {
	const step = 5 * time.Second
	tests := []struct {
		name  string
		holds func(at time.Duration) bool
		span  time.Duration
		want  []seen
	}{
		{name: "that never holds is not told of",
			holds: func(time.Duration) bool { return false }, span: 24 * time.Hour},
		{name: "that holds for a day is told of once",
			holds: func(time.Duration) bool { return true }, span: 24 * time.Hour, want: []seen{{0, true, 0}}},
		{name: "is told when it comes and when it goes",
			holds: func(at time.Duration) bool { return at >= time.Minute && at < time.Hour }, span: 24 * time.Hour,
			want: []seen{{time.Minute, true, 0}, {time.Hour, false, 0}}},
		{name: "that comes at every other moment is told less and less, with how often it was not",
			holds: func(at time.Duration) bool { return at/step%2 == 0 }, span: 10 * time.Minute,
			want: []seen{
				{0, true, 0}, {step, false, 0}, {time.Minute, true, 5}, {time.Minute + step, false, 0},
				{3 * time.Minute, true, 11}, {3*time.Minute + step, false, 0}, {7 * time.Minute, true, 23}, {7*time.Minute + step, false, 0},
			}},
		{name: "that comes back to stay is told as soon as it may be",
			holds: func(at time.Duration) bool { return at != step }, span: time.Hour,
			want: []seen{{0, true, 0}, {step, false, 0}, {time.Minute, true, 0}}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got := watch(test.span, step, test.holds)
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("told (-want +got):\n%s", diff)
			}
		})
	}
}

func TestAConditionThatStaysAfterItCameAndWentForDaysIsToldWithinTheHour(t *testing.T) {
	const step, stays = 5 * time.Second, 48 * time.Hour
	got := watch(stays+2*time.Hour, step, func(at time.Duration) bool { return at/step%2 == 0 || at > stays })
	last := got[len(got)-1]
	if late := last.After - stays; !last.Holds || late < 0 || late > settled {
		t.Errorf("last told %s after it came to stay, as %v", late, last.Holds)
	}
}

func TestChangesAreToldLessAndLessAndWhereTheyEnded(t *testing.T) {
	var c Changes
	var got []told
	for at := time.Duration(0); at < 3*time.Hour; at += 5 * time.Second {
		if leftOut, tell := c.Now(begin.Add(at), at < 20*time.Minute); tell {
			got = append(got, told{at, leftOut})
		}
	}
	want := []told{
		{0, 0}, {time.Minute, 11}, {3 * time.Minute, 23}, {7 * time.Minute, 47}, {15 * time.Minute, 95},
		{31 * time.Minute, 58}, // of those until it came to rest, without the last
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("told (-want +got):\n%s", diff)
	}
}

func TestEachStateHasWaitsOfItsOwn(t *testing.T) {
	var s State[string]
	var got []string
	at := begin
	for _, is := range []string{"late", "", "late", "", "gone", "late", "gone", ""} {
		if _, tell := s.Now(at, is); tell {
			got = append(got, is)
		}
		at = at.Add(time.Second)
	}
	if diff := cmp.Diff([]string{"late", "", "gone", ""}, got); diff != "" {
		t.Errorf("told (-want +got):\n%s", diff)
	}
}

func TestStatesOfLongAgoAreForgotten(t *testing.T) {
	var s State[int]
	for i := range 1000 {
		s.Now(begin.Add(time.Duration(i)*time.Minute), i+1)
	}
	if most := int(forgets / time.Minute); len(s.lines) > most {
		t.Errorf("%d states are remembered, of which an hour has %d", len(s.lines), most)
	}
}

func TestWhatWasToldOfAConditionIsNeverWrongForMoreThanAnHour(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var c Condition
		now, told, wrong := begin, false, begin
		came, leftOut, last := 0, 0, false
		for range rapid.IntRange(1, 300).Draw(t, "steps") {
			now = now.Add(time.Duration(rapid.IntRange(1, 1200).Draw(t, "seconds")) * time.Second)
			holds := rapid.Bool().Draw(t, "holds")
			if holds && !last {
				came++
			}
			last = holds
			left, tell := c.Now(now, holds)
			if tell {
				if holds == told {
					t.Fatalf("told %v twice", holds)
				}
				if told = holds; told {
					came-- // this time is told
				}
				leftOut += left
			}
			if holds == told {
				wrong = now
			} else if now.Sub(wrong) > settled+20*time.Minute {
				t.Fatalf("wrong for %s", now.Sub(wrong))
			}
		}
		if leftOut > came {
			t.Fatalf("%d times were left out, it is told, and it came %d times untold", leftOut, came)
		}
	})
}
