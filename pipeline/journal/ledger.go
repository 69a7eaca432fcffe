package journal

import (
	"bytes"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"slices"
	"sort"
	"strconv"
	"time"
)

// Given is a number of items that a provider let in at a time.
type Given struct {
	At time.Time
	N  int
}

// Ledger is what the providers of several processes let in together, in the order
// in which they did.
type Ledger []Given

// ReadAll reads the journals of the processes that share a provider's budget. What
// was written of a row when a process was killed is left out.
func ReadAll(provider string, paths ...string) (Ledger, error) {
	var all Ledger
	for _, path := range paths {
		data, err := os.ReadFile(path)
		if err != nil {
			return nil, fmt.Errorf("read the grants: %w", err)
		}
		rows := csv.NewReader(bytes.NewReader(data[:bytes.LastIndexByte(data, '\n')+1]))
		for {
			row, err := rows.Read()
			if errors.Is(err, io.EOF) {
				break
			}
			if err == nil && (row[1] != "grant" || row[2] != provider) {
				continue
			}
			var g Given
			if err == nil {
				g, err = given(row)
			}
			if err != nil {
				return nil, fmt.Errorf("read the grants: %s: %w", path, err)
			}
			all = append(all, g)
		}
	}
	return Merge(all), nil
}

// Merge puts several ledgers together.
func Merge(all ...Ledger) Ledger {
	together := slices.Concat(all...)
	slices.SortStableFunc(together, func(a, b Given) int { return a.At.Compare(b.At) })
	return together
}

func given(row []string) (Given, error) {
	at, err := strconv.ParseFloat(row[0], 64)
	n, countErr := strconv.Atoi(row[3])
	return Given{time.UnixMicro(int64(math.Round(at * 1e6))), n}, errors.Join(err, countErr)
}

// Between is how many items were let in from one time to another.
func (l Ledger) Between(from, to time.Time) (items int) {
	for _, g := range l.Until(to)[len(l.Until(from)):] {
		items += g.N
	}
	return items
}

// Until is the part of the ledger before a time.
func (l Ledger) Until(at time.Time) Ledger {
	return l[:sort.Search(len(l), func(i int) bool { return !l[i].At.Before(at) })]
}

// MostIn is the most items that were let in within any span of that length, and
// when the worst of them begins.
func (l Ledger) MostIn(span time.Duration) (most int, from time.Time) {
	items, first := 0, 0
	for _, g := range l {
		items += g.N
		for g.At.Sub(l[first].At) >= span {
			items -= l[first].N
			first++
		}
		if items > most {
			most, from = items, l[first].At
		}
	}
	return most, from
}

// Beyond is by how many items more was let in than comes in at a rate, within the
// worst span of any length, and when that span ends. It is what a bucket of that
// rate would have to hold for all of it to pass.
func (l Ledger) Beyond(perSecond float64) (items float64, at time.Time) {
	sum, least := 0.0, math.Inf(1)
	for _, g := range l {
		due := perSecond * g.At.Sub(l[0].At).Seconds()
		least = min(least, sum-due)
		sum += float64(g.N)
		if sum-due-least > items {
			items, at = sum-due-least, g.At
		}
	}
	return items, at
}
