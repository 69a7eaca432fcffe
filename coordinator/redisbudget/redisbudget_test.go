package redisbudget

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/redis/go-redis/v9"
	"go.uber.org/goleak"
	"pgregory.net/rapid"

	"github.com/headgate/headgate/coordinator"
	"github.com/headgate/headgate/internal/invalid"
	"github.com/headgate/headgate/internal/redistest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func client(t *testing.T, url string) *redis.Client {
	t.Helper()
	options, err := redis.ParseURL(url)
	if err != nil {
		t.Fatal(err)
	}
	c := redis.NewClient(options)
	t.Cleanup(func() { c.Close() })
	return c
}

// timed is the script with a clock of the test.
var timed = redis.NewScript(strings.Replace(drawScript, "redis.call('TIME')", "{0, ARGV[13]}", 1))

func run(t *testing.T, c *redis.Client, key string, clock int64, of call) answer {
	t.Helper()
	all, err := timed.Run(context.Background(), c, []string{key}, append(of.arguments(), clock)...).Int64Slice()
	if err != nil {
		t.Fatal(err)
	}
	return answer{all[0], all[1], all[2], all[3], all[4]}
}

func TestTheScriptDoesWhatTheModelDoes(t *testing.T) {
	server := client(t, redistest.Start(t).URL())
	budgets := 0
	rapid.Check(t, func(r *rapid.T) {
		budgets++
		key, m := fmt.Sprint("budget", budgets), newModel()
		rate := rapid.Float64Range(0.1, 1e6).Draw(r, "rate")
		fill := rapid.Int64Range(1000, 10_000_000).Draw(r, "fill")
		hold := min(50_000, fill/2)
		clock := rapid.Int64Range(1e15, 2e15).Draw(r, "clock")
		for range rapid.IntRange(1, 60).Draw(r, "calls") {
			clock += rapid.OneOf(rapid.Int64Range(0, 30_000), rapid.Int64Range(0, 3_000_000),
				rapid.Int64Range(-2_000_000, 0), rapid.Int64Range(0, 700_000_000)).Draw(r, "later")
			c := call{
				Rate: rate, Room: fill - hold, Hold: hold,
				ID:    rapid.SampledFrom([]string{"a", "b", "c"}).Draw(r, "replica"),
				Sent:  clock - rapid.OneOf(rapid.Int64Range(0, 3000), rapid.Int64Range(0, 2_000_000)).Draw(r, "ago"),
				Share: rapid.SampledFrom([]float64{0, 0.1, 0.25, 0.25, 0.5, 1}).Draw(r, "share"),
				Need:  rapid.IntRange(0, 200).Draw(r, "need"),
			}
			c.Want = c.Need + rapid.IntRange(0, 200).Draw(r, "more")
			if rapid.Bool().Draw(r, "gives back") {
				c.Unused = rapid.Float64Range(0, 50).Draw(r, "unused")
				c.Drawn = clock - rapid.Int64Range(0, 100_000).Draw(r, "drawn ago")
			}
			c.Gave = c.Unused + rapid.SampledFrom([]float64{0, 0, 7, 100}).Draw(r, "gave")
			if rapid.Bool().Draw(r, "has a turn") {
				c.Turn = clock + rapid.Int64Range(-100_000, 100_000).Draw(r, "turn")
			}
			got, want := run(t, server, key, clock, c), m.draw(clock, c)
			// Both count in floating point, the one times and the other tokens.
			near := func(a, b int64) bool { return max(a-b, b-a) <= 2+max(a, b)%1e12/1e6 }
			same := cmp.Comparer(func(a, b answer) bool {
				return a.Tokens == b.Tokens && near(a.Wait, b.Wait) && near(a.Turn, b.Turn) && a.There == b.There && a.Clock == b.Clock
			})
			if diff := cmp.Diff(want, got, same); diff != "" {
				r.Fatalf("%+v at %d (-model +script):\n%s", c, clock, diff)
			}
		}
	})
}

func TestWhatOthersLetLieIsDrawnByWhoseTurnItIs(t *testing.T) {
	server := client(t, redistest.Start(t).URL())
	// 50 tokens are there at most, and a slice is 16 of them.
	c := call{Rate: 1000, Room: 50_000, Hold: 50_000, Share: 0.5}
	clock := int64(1e15)
	draw := func(id string, want int) int64 {
		c.ID, c.Sent, c.Want, c.Need = id, clock, want, min(want, 1)
		return run(t, server, "budget", clock, c).Tokens
	}
	draw("a", 0)
	draw("b", 0)
	clock += 500_000
	if got := draw("a", 100); got != 34 {
		t.Errorf("%d tokens of 50 were drawn, want all but a slice", got)
	}
	if got := draw("b", 100); got != 0 {
		t.Errorf("%d tokens were drawn before the turn, want none: the slice is for the one before", got)
	}
}

func TestConfigReportsEverythingThatIsWrong(t *testing.T) {
	_, err := New(Config{URL: "http://user:secret@host"})
	var fields []string
	for _, v := range invalid.All(err) {
		fields = append(fields, v.Field)
	}
	if diff := cmp.Diff([]string{"redis_url", "redis_key", "base_per_second", "burst"}, fields); diff != "" {
		t.Errorf("fields (-want +got):\n%s", diff)
	}
	if strings.Contains(err.Error(), "secret") {
		t.Errorf("the error tells the password: %v", err)
	}
}

func TestABudgetDrawsWhenTheServerHasForgottenItsScript(t *testing.T) {
	server := redistest.Start(t)
	b, err := New(Config{URL: server.URL(), Key: "ibkr", BasePerSecond: 1000, Burst: 100})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	ctx := context.Background()
	raw := client(t, server.URL())
	for drew := 0; drew < 2; {
		d, err := b.Draw(ctx, coordinator.Draw{Need: 1, Want: 10, Share: 1})
		if err != nil {
			t.Fatal(err)
		}
		if d.Tokens == 0 {
			time.Sleep(d.Wait) // what another server may have promised
			continue
		}
		drew++
		if err := raw.ScriptFlush(ctx).Err(); err != nil {
			t.Fatal(err)
		}
	}
}
