package coordinator

import (
	"math"
	"math/bits"
	"time"
)

// inflow is what a rate that does not change brings in from a time on, without
// a rounding that adds up.
//
// It counts in units, of which a token is 1<<unit: as small ones as its numbers
// can hold. In a tick, which is 2^-tick ns, less than one unit comes in; how much
// is known in 2^-64 units. So what came in by any time is one product of 128
// bits.
type inflow struct {
	since    time.Duration // nothing comes in before that; on the caller's clock
	perTick  uint64        // in 2^-64 units, rounded up: less than a unit more in longest
	fraction uint64        // of a unit that there was already at since, in 2^-64
	longest  uint64        // nanoseconds after since that it may be asked about
	unit     uint8
	tick     uint8
}

const (
	// mostUnitsLog2 bounds what a bucket holds. What comes in within longest is at
	// most twice that, so sums of both stay in an int64.
	mostUnitsLog2 = 60
	longestLog2   = mostUnitsLog2 + 1 // of ticks

	// At a rate of up to coarseTick units per second a tick is 2^-leastTick ns,
	// and longest is 26 days. At a higher rate a token is at least a million units
	// still, ticks are shorter, and so is longest: a second at 1e12 tokens per
	// second.
	leastTick  = 10
	leastUnit  = 20
	coarseTick = 0.97e9 * (1 << leastTick)
)

// newInflow is a rate in tokens per second, from 0 to 1e12, for a bucket of
// that burst.
func newInflow(rate float64, burst int, since time.Duration) inflow {
	finest := mostUnitsLog2 - bits.Len64(uint64(burst)-1)
	in := inflow{since: since, unit: uint8(finest), tick: leastTick, longest: 1 << (longestLog2 - leastTick)}
	if rate == 0 {
		return in
	}
	_, exponent := math.Frexp(coarseTick / rate)
	unit := min(finest, max(leastUnit, exponent-1))
	in.unit = uint8(unit)
	in.tick += uint8(max(0, unit-(exponent-1)))
	in.longest = 1 << (longestLog2 - in.tick)

	// rate * 2^unit units in 1e9 * 2^tick ticks, in 2^-64 units.
	fraction, exponent := math.Frexp(rate)
	mantissa := uint64(fraction * (1 << 53))
	hi, lo, rest := shifted(mantissa, exponent-53+unit+64-int(in.tick))
	quotient, remainder := bits.Div64(hi, lo, uint64(time.Second))
	in.perTick = quotient
	if remainder > 0 || rest {
		in.perTick++
	}
	return in
}

// shifted is v * 2^by in 128 bits, and whether bits fell off its lower end.
func shifted(v uint64, by int) (hi, lo uint64, rest bool) {
	switch {
	case by >= 64:
		return v << (by - 64), 0, false
	case by >= 0:
		return v >> (64 - by), v << by, false
	}
	return 0, v >> -by, v>>-by<<-by != v
}

// at is how many units came in by a time that is elapsed after since, in whole
// ones and, in 2^-64, what is left of the last.
func (in *inflow) at(elapsed uint64) (units int64, fraction uint64) {
	hi, lo := bits.Mul64(elapsed<<(in.tick&63), in.perTick) // the mask spares the compiler a check
	fraction, carry := bits.Add64(lo, in.fraction, 0)
	return int64(hi + carry), fraction
}

// when is the first nanosecond by which so many units, >= 0, have come in. There
// is none where they take longer than any inflow may be asked about.
func (in *inflow) when(units int64) (at time.Duration, ok bool) {
	if units == 0 {
		return in.since, true
	}
	lo, borrow := bits.Sub64(0, in.fraction, 0)
	hi := uint64(units) - borrow
	if hi >= in.perTick {
		return 0, false
	}
	ticks, remainder := bits.Div64(hi, lo, in.perTick)
	elapsed := ticks >> in.tick
	if elapsed<<in.tick != ticks || remainder > 0 {
		elapsed++
	}
	return in.since + time.Duration(elapsed), true
}

// cost is n tokens in units.
func (in *inflow) cost(n int) int64 { return int64(n) << (in.unit & 63) }

// convert expresses an amount of another inflow in the units of this one. What
// is smaller than 2^-64 of them is lost.
func (in *inflow) convert(from *inflow, units int64, fraction uint64) (int64, uint64) {
	if in.unit >= from.unit {
		finer := in.unit - from.unit
		return units<<finer | int64(fraction>>(64-finer)), fraction << finer
	}
	coarser := from.unit - in.unit
	return units >> coarser, fraction>>coarser | uint64(units)<<(64-coarser)
}
