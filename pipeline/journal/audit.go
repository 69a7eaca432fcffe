package journal

import (
	"bytes"
	"cmp"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"slices"
	"strconv"
	"time"
)

// granted is what a provider let in at a time, and allowed its rate from a time
// on. Times are seconds.
type (
	granted struct{ at, items float64 }
	allowed struct{ from, perSecond float64 }
)

// Audit is what a journal shows.
type Audit struct {
	First time.Time // when the first items were let in; zero where none were

	// Most is the largest share of its budget that any provider came to in any
	// window of one second: the items let in, over what the rate brought in the
	// window and the burst.
	Most float64

	// OverSeconds is in how many seconds a window begins in which that share is
	// above one.
	OverSeconds int
}

// rounding is by how much a share may be above one for the journal's decimals.
const rounding = 1e-6

// Read audits the journal of one process. What was written of a row when the
// process was killed is left out.
func Read(path string) (Audit, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return Audit{}, fmt.Errorf("audit the grants: %w", err)
	}
	rows := csv.NewReader(bytes.NewReader(data[:bytes.LastIndexByte(data, '\n')+1]))
	if _, err := rows.Read(); err != nil {
		return Audit{}, fmt.Errorf("audit the grants: read the header: %w", err)
	}
	var a Audit
	grants, rates, bursts := map[string][]granted{}, map[string][]allowed{}, map[string]float64{}
	for {
		row, err := rows.Read()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return Audit{}, fmt.Errorf("audit the grants: %w", err)
		}
		var n [4]float64 // time, items, rate, burst
		for i, column := range []int{0, 3, 5, 6} {
			if n[i], err = strconv.ParseFloat(row[column], 64); err != nil {
				return Audit{}, fmt.Errorf("audit the grants: %w", err)
			}
		}
		provider := row[2]
		bursts[provider] = n[3]
		if row[1] == "grant" {
			if a.First.IsZero() {
				a.First = time.UnixMicro(int64(n[0] * 1e6))
			}
			grants[provider] = append(grants[provider], granted{n[0], n[1]})
		} else {
			rates[provider] = append(rates[provider], allowed{n[0], n[2]})
		}
	}
	over := map[int64]bool{}
	for provider, of := range grants {
		for begin, share := range seconds(of, rates[provider], bursts[provider]) {
			a.Most = max(a.Most, share)
			if share > 1+rounding {
				over[int64(begin)] = true
			}
		}
	}
	a.OverSeconds = len(over)
	return a, nil
}

// seconds goes over all windows of a second that begin with a grant, by their
// beginning and the share of the budget; any other one holds no more than one of
// these.
func seconds(grants []granted, rates []allowed, burst float64) iter.Seq2[float64, float64] {
	return func(yield func(begin, share float64) bool) {
		slices.SortStableFunc(grants, func(a, b granted) int { return cmp.Compare(a.at, b.at) })
		slices.SortStableFunc(rates, func(a, b allowed) int { return cmp.Compare(a.from, b.from) })
		items, end := 0.0, 0
		for first := range grants {
			begin := grants[first].at
			for ; end < len(grants) && grants[end].at < begin+1; end++ {
				items += grants[end].items
			}
			if !yield(begin, items/(burst+brought(rates, begin, begin+1))) {
				return
			}
			items -= grants[first].items
		}
	}
}

// brought is how many tokens the rates bring from one time to another.
func brought(rates []allowed, from, to float64) float64 {
	sum := 0.0
	for i, r := range rates {
		start, end := max(r.from, from), to
		if i+1 < len(rates) {
			end = min(to, rates[i+1].from)
		}
		if end > start {
			sum += (end - start) * r.perSecond
		}
	}
	return sum
}
