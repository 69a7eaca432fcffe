package redisbudget

import "math"

// model is what the script does, in Go, with the hash as its fields. Where the
// script keeps a time at which all is paid for, it counts the tokens that are
// there: below none where they are promised.
type model struct {
	empty   bool
	born    int64
	last    float64
	tokens  float64
	part    float64
	check   float64
	warm    float64 // from when on the silent ones are known
	there   int
	records map[string]record
}

type record struct{ seen, share float64 }

const (
	silent = 1e6
	forget = 600e6
	cold   = 5e6
	ahead  = 250e3
	slice  = 20e3

	earlier = 500e3
)

func newModel() *model { return &model{empty: true, records: map[string]record{}} }

func (m *model) draw(clock int64, c call) answer {
	if m.empty {
		m.born, m.part, m.check, m.tokens = clock, 1, -1, -earlier*c.Rate/1e6
	}
	born := min(m.born, clock-int64(m.last))
	now := float64(clock - born)
	sent := math.Min(float64(c.Sent-born), now)
	if now-sent > silent {
		return answer{-1, 0, int64(m.there), clock}
	}
	perMicro := c.Rate * m.part / 1e6
	room := float64(c.Room)
	// What came in since the last call, up to what the bucket holds.
	m.tokens = min(m.tokens+(now-m.last)*perMicro, max(m.tokens, room*perMicro), room*perMicro)
	m.empty, m.born, m.last = false, born, now

	before, found := m.records[c.ID]
	known := found && now-before.seen <= silent
	if c.Share > 0 {
		m.records[c.ID] = record{sent, c.Share}
	} else {
		delete(m.records, c.ID)
	}
	if !known || before.share != c.Share || now > m.check {
		m.count(now, room, c, known)
	}
	perMicro = c.Rate * m.part / 1e6
	m.tokens = min(m.tokens+c.Unused, room*perMicro)
	if c.Need == 0 {
		return answer{0, 0, int64(m.there), clock}
	}
	if wait := -m.tokens/perMicro - ahead; wait > 0 {
		return answer{0, int64(math.Ceil(wait)), int64(m.there), clock}
	}
	fair := min(slice, ahead/float64(max(1, m.there))) * perMicro
	most := min(fair+min(fair, c.Unused), room*perMicro)
	granted := max(c.Need, min(c.Want, int(most)))
	m.tokens -= float64(granted)
	wait := max(0, -m.tokens/perMicro)
	if float64(granted) > room*perMicro {
		m.tokens -= float64(c.Hold) * perMicro
	}
	return answer{int64(granted), int64(math.Ceil(wait)), int64(m.there), clock}
}

// count counts anew who is there, and what is left of the budget for them.
func (m *model) count(now, room float64, c call, known bool) {
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
	m.part = max(0.0001, 1-gone)
	m.tokens = min(m.tokens, room*c.Rate*m.part/1e6)
}
