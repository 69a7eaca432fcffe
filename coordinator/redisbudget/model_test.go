package redisbudget

import "math"

// model is what the script does, in Go, with the hash as its fields. Where the
// script keeps the time until which all is spent, it counts the tokens that are
// there.
type model struct {
	empty   bool
	born    int64
	last    float64
	tokens  float64
	part    float64
	check   float64
	warm    float64 // from when on the silent ones are known
	queue   float64
	there   int
	records map[string]record
}

type record struct{ seen, share float64 }

const (
	silent    = 1e6
	forget    = 600e6
	cold      = 5e6
	sliceTime = 20e3
	round     = 250e3
	lateTurn  = 50e3
	sums      = 1e-6
)

func newModel() *model { return &model{empty: true, records: map[string]record{}} }

func (m *model) draw(clock int64, c call) answer {
	if m.empty {
		m.born, m.part, m.check, m.tokens = clock, 1, -1, -float64(c.Hold)*c.Rate/1e6
	}
	born := min(m.born, clock-int64(m.last))
	now := float64(clock - born)
	sent := math.Min(float64(c.Sent-born), now)
	if now-sent > silent {
		return answer{Tokens: -1, There: int64(m.there), Clock: clock}
	}
	room, full := float64(c.Room), float64(c.Room+c.Hold)
	// What came in since the last call.
	perMicro := c.Rate * m.part / 1e6
	m.tokens = min(m.tokens+(now-m.last)*perMicro, full*perMicro)
	m.empty, m.born, m.last = false, born, now

	before, found := m.records[c.ID]
	known := found && now-before.seen <= silent
	if c.Share > 0 {
		m.records[c.ID] = record{sent, c.Share}
	} else {
		delete(m.records, c.ID)
	}
	if !known || before.share != c.Share || now > m.check {
		m.count(now, full, c, known)
	}
	perMicro = c.Rate * m.part / 1e6
	if now-float64(c.Drawn-born) <= float64(c.Hold) {
		m.tokens = min(m.tokens+c.Unused, max(m.tokens, room*perMicro))
	}
	turn := max(0, float64(c.Turn-born))
	var granted int
	var wait float64
	if c.Need > 0 {
		granted, wait, turn = m.grant(now, room, perMicro, turn, c)
	}
	a := answer{Tokens: int64(granted), Wait: int64(math.Ceil(wait)), There: int64(m.there), Clock: clock}
	if turn > 0 {
		a.Turn = int64(math.Ceil(turn)) + born
	}
	return a
}

// grant gives tokens to one who needs some, if they are there and it is its turn
// or there are more.
func (m *model) grant(now, room, perMicro, turn float64, c call) (granted int, wait, next float64) {
	need, holds := float64(c.Need), room*perMicro
	big := need > holds
	have := m.tokens + sums
	if !big {
		have = min(have, holds+sums)
	}
	slice := max(1, math.Floor(min(sliceTime, round/float64(max(1, m.there)), room/3)*perMicro))
	nextTurn := func() float64 {
		at := max(m.queue, now)
		m.queue = at + max(slice, need)/perMicro
		if big {
			m.queue += float64(c.Hold)
		}
		return at
	}
	if turn == 0 || now-turn > lateTurn {
		turn = nextTurn()
	}
	most := -1.0
	switch {
	case turn <= now && have >= need:
		most = min(have, slice+min(slice, c.Gave))
		if !big {
			most = max(most, have-slice)
		}
	case have-slice >= need && !big:
		most = have - slice
	default:
		return 0, max(turn-now, (need-have)/perMicro, 1), turn
	}
	granted = max(c.Need, min(c.Want, int(math.Floor(most))))
	if !big {
		m.tokens = min(m.tokens, holds)
	}
	m.tokens -= float64(granted)
	if turn > now {
		return granted, 0, turn
	}
	if c.Want > granted {
		turn = nextTurn()
		return granted, turn - now, turn
	}
	return granted, 0, 0
}

// count counts anew who is there, and what is left of the budget for them.
func (m *model) count(now, full float64, c call, known bool) {
	shares, quiet, others := 0.0, 0.0, 0
	m.there, m.check = 0, now+silent
	for id, r := range m.records {
		switch {
		case now-r.seen > forget:
			delete(m.records, id)
		case now-r.seen > silent:
			quiet += r.share
		default:
			m.there++
			shares += r.share
			m.check = min(m.check, r.seen+silent)
			if id != c.ID {
				others++
			}
		}
	}
	if !known && others == 0 {
		m.tokens, m.warm = min(m.tokens, 0), now+cold
	}
	gone := max(0, 1-shares)
	if now > m.warm {
		gone = min(gone, quiet)
	}
	before := m.part
	m.part = max(0.0001, 1-gone)
	if m.tokens < 0 { // the time until there are some stays the same
		m.tokens *= m.part / before
	}
	m.tokens = min(m.tokens, full*c.Rate*m.part/1e6)
}
