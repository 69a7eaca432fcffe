// Package redisbudget keeps a provider's budget on a Redis or Valkey server, for
// all replicas that share it. It is a coordinator.SharedBudget.
//
// The budget is one token bucket, which is one hash on the server. A script draws
// from it, by the server's own clock, so that the replicas' clocks do not matter:
// they only count how long ago something was. In any span of time T all replicas
// together use at most base*T + burst tokens. For that the bucket itself holds a
// little less than the burst: what comes in within the hold, which is how late a
// token may be used.
package redisbudget

import (
	"context"
	"crypto/rand"
	_ "embed"
	"errors"
	"fmt"
	"math"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/logging"

	"github.com/headgate/headgate/coordinator"
	"github.com/headgate/headgate/internal/invalid"
)

//go:embed draw.lua
var drawScript string

// Config says which budget it is. All replicas that share it have to give the
// same.
type Config struct {
	URL string // redis://user:password@host:port/database, rediss:// with TLS, or unix:///path
	Key string // of the hash; 1 to 512 bytes

	BasePerSecond float64 // of the whole budget; > 0
	Burst         int     // of all replicas together; >= 1
}

const (
	timeout = 300 * time.Millisecond // of a call
	every   = 300 * time.Millisecond // at least, a replica draws

	// lost is more than a replica's last second of counting as there, see draw.lua,
	// and the hold.
	lost = 1100 * time.Millisecond

	// Of the hold, a part is for using a token, and the rest for giving it back.
	mostHold = 50 * time.Millisecond
	forUse   = 0.7

	// leastFill is how long the least burst takes to come in. Half of it is the hold.
	leastFill = 20 * time.Millisecond

	longestKey = 512
)

// Budget is a provider's budget on a server.
type Budget struct {
	server server
	close  func() error
	id     string

	rate       float64
	room, hold time.Duration

	// The server's clock: what it was when it last answered, and when that came in.
	// So it is not known to be later than it is.
	clock    int64 // microseconds since 1970
	answered time.Time

	turn  int64 // on that clock; 0 for none
	drawn int   // tokens of the last draw that brought some, and when that was
	at    int64
	gave  float64 // tokens given back since then
}

// New returns a budget. It connects when it is used; Close ends it. The error
// joins an *invalid.Value for each wrong field.
func New(c Config) (*Budget, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	options, err := redis.ParseURL(c.URL)
	if err != nil {
		return nil, err
	}
	logging.Disable() // it would write what it returns to standard error, too
	// One call at a time; what was not answered in time is not asked again, for it
	// may have been done, and its connection is closed.
	options.DialTimeout, options.ReadTimeout, options.WriteTimeout = timeout, timeout, timeout
	options.ContextTimeoutEnabled = true
	options.MaxRetries, options.DialerRetries = -1, 1
	options.PoolSize, options.MinIdleConns = 1, 0
	options.Protocol, options.DisableIdentity = 2, true

	client := redis.NewClient(options)
	return newBudget(&script{client, redis.NewScript(drawScript), []string{c.Key}}, client.Close, c.BasePerSecond, c.Burst), nil
}

// newBudget returns a budget on a server.
func newBudget(s server, close func() error, basePerSecond float64, burst int) *Budget {
	fill := time.Duration(float64(burst) / basePerSecond * float64(time.Second))
	hold := min(mostHold, fill/2)
	return &Budget{server: s, close: close, id: rand.Text(), rate: basePerSecond, room: fill - hold, hold: hold}
}

// Validate reports every field that is out of its range, joined. The fields are
// named as in a job file.
func (c Config) Validate() error {
	var errs []error
	if _, err := redis.ParseURL(c.URL); err != nil {
		// What it says may hold the password.
		errs = append(errs, &invalid.Value{Field: "redis_url", Got: "not readable", Want: "redis://host:port, with user:password@ and a /database where need be, rediss:// or unix://"})
	}
	if c.Key == "" || len(c.Key) > longestKey {
		errs = append(errs, invalid.New("redis_key", c.Key, fmt.Sprintf("a key of 1 to %d bytes", longestKey)))
	}
	if !(c.BasePerSecond > 0 && c.BasePerSecond <= 1e9) {
		errs = append(errs, invalid.New("base_per_second", c.BasePerSecond, "a number in (0, 1e9]"))
	}
	if c.Burst < 1 || c.Burst > 1e9 {
		errs = append(errs, invalid.New("burst", c.Burst, "a whole number from 1 to 1e9"))
	} else if least := math.Ceil(c.BasePerSecond * leastFill.Seconds()); float64(c.Burst) < least {
		errs = append(errs, invalid.New("burst", c.Burst, fmt.Sprintf(
			"at least %.0f for a shared budget, what comes in within %v at base_per_second: a token has to be of use for longer than an answer of the server takes", least, leastFill)))
	}
	return errors.Join(errs...)
}

// Terms implements coordinator.SharedBudget.
func (b *Budget) Terms() coordinator.SharedTerms {
	return coordinator.SharedTerms{Hold: time.Duration(forUse * float64(b.hold)), Every: every, Timeout: timeout, Lost: lost}
}

// Reach implements coordinator.SharedBudget.
func (b *Budget) Reach(ctx context.Context) error {
	clock, err := b.server.time(ctx)
	if err != nil {
		return fmt.Errorf("reach the shared budget: %w", err)
	}
	b.clock, b.answered = clock, time.Now()
	return nil
}

// Draw implements coordinator.SharedBudget.
func (b *Budget) Draw(ctx context.Context, d coordinator.Draw) (coordinator.Drawn, error) {
	// Where too much time has passed since the last answer, or the server's clock
	// was set ahead, the first try tells the time and does nothing else.
	for range 2 {
		unused := min(d.Unused, float64(b.drawn))
		a, err := b.server.draw(ctx, call{
			Rate: b.rate, Room: b.room.Microseconds(), Hold: b.hold.Microseconds(),
			ID: b.id, Sent: b.clock + time.Since(b.answered).Microseconds(), Share: d.Share,
			Need: d.Need, Want: max(d.Need, d.Want), Unused: unused, Drawn: b.at, Turn: b.turn, Gave: b.gave + unused,
		})
		if err != nil {
			return coordinator.Drawn{}, fmt.Errorf("draw from the shared budget: %w", err)
		}
		b.clock, b.answered = a.Clock, time.Now()
		if a.Tokens >= 0 {
			b.gave += unused
			if a.Tokens > 0 {
				b.drawn, b.at, b.gave = int(a.Tokens), a.Clock, 0
			} else if unused > 0 {
				b.drawn = 0
			}
			b.turn = a.Turn
			return coordinator.Drawn{Tokens: int(a.Tokens), Wait: time.Duration(a.Wait) * time.Microsecond}, nil
		}
	}
	return coordinator.Drawn{}, errors.New("draw from the shared budget: the server's clock runs away")
}

// Close closes the connection to the server.
func (b *Budget) Close() error { return b.close() }

// server is where the script runs.
type server interface {
	time(ctx context.Context) (clock int64, err error) // microseconds since 1970
	draw(ctx context.Context, c call) (answer, error)
}

// call is what the script is told. Times are in microseconds.
type call struct {
	Rate       float64
	Room, Hold int64
	ID         string
	Sent       int64 // on the server's clock
	Share      float64
	Need, Want int
	Unused     float64
	Drawn      int64 // on the server's clock
	Turn       int64 // likewise
	Gave       float64
}

// answer is what it answers: draw.lua says more.
type answer struct{ Tokens, Wait, Turn, There, Clock int64 }

// script is the script on a real server.
type script struct {
	client *redis.Client
	code   *redis.Script
	keys   []string
}

func (s *script) time(ctx context.Context) (int64, error) {
	now, err := s.client.Time(ctx).Result()
	return now.UnixMicro(), err
}

func (s *script) draw(ctx context.Context, c call) (answer, error) {
	all, err := s.code.Run(ctx, s.client, s.keys, c.arguments()...).Int64Slice()
	if err != nil {
		return answer{}, err
	}
	if len(all) != 5 {
		return answer{}, fmt.Errorf("the script answered %d numbers, want 5", len(all))
	}
	return answer{all[0], all[1], all[2], all[3], all[4]}, nil
}

// arguments are the script's.
func (c call) arguments() []any {
	number := func(v float64) string { return strconv.FormatFloat(v, 'g', 17, 64) }
	return []any{number(c.Rate), c.Room, c.Hold, c.ID, c.Sent, number(c.Share), c.Need, c.Want, number(c.Unused), c.Drawn, c.Turn, number(c.Gave)}
}
