package main

import (
	"cmp"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
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

// auditGrants reads a journal of grants and returns the time of the first one and the largest share of its
// budget that any provider came to in any window of one second: the items let
// in, over what the rate brought in the window and the burst.
func auditGrants(path string) (first time.Time, most float64, err error) {
	file, err := os.Open(path)
	if err != nil {
		return first, 0, fmt.Errorf("audit the grants: %w", err)
	}
	defer file.Close()
	grants, rates, bursts := map[string][]granted{}, map[string][]allowed{}, map[string]float64{}
	rows := csv.NewReader(file)
	if _, err := rows.Read(); err != nil {
		return first, 0, fmt.Errorf("audit the grants: read the header: %w", err)
	}
	for {
		row, err := rows.Read()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return first, 0, fmt.Errorf("audit the grants: %w", err)
		}
		var n [4]float64 // time, items, rate, burst
		for i, column := range []int{0, 3, 5, 6} {
			if n[i], err = strconv.ParseFloat(row[column], 64); err != nil {
				return first, 0, fmt.Errorf("audit the grants: %w", err)
			}
		}
		provider := row[2]
		bursts[provider] = n[3]
		if row[1] == "grant" {
			if first.IsZero() {
				first = time.UnixMicro(int64(n[0] * 1e6))
			}
			grants[provider] = append(grants[provider], granted{n[0], n[1]})
		} else {
			rates[provider] = append(rates[provider], allowed{n[0], n[2]})
		}
	}
	for provider, of := range grants {
		most = max(most, busiestSecond(of, rates[provider], bursts[provider]))
	}
	return first, most, nil
}

// busiestSecond goes over all windows of a second that begin with a grant; any
// other one holds no more than one of these.
func busiestSecond(grants []granted, rates []allowed, burst float64) float64 {
	slices.SortStableFunc(grants, func(a, b granted) int { return cmp.Compare(a.at, b.at) })
	slices.SortStableFunc(rates, func(a, b allowed) int { return cmp.Compare(a.from, b.from) })
	most, items, end := 0.0, 0.0, 0
	for first := range grants {
		for ; end < len(grants) && grants[end].at < grants[first].at+1; end++ {
			items += grants[end].items
		}
		budget := burst + brought(rates, grants[first].at, grants[first].at+1)
		most = max(most, items/budget)
		items -= grants[first].items
	}
	return most
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
