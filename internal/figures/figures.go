// Package figures writes numbers into sentences, as a person would, and so that
// whoever recomputes a sum from them comes to the same result to three digits.
package figures

import (
	"log/slog"
	"math"
	"strconv"
	"strings"
	"time"
)

// Number writes a count or a rate: whole from 1,000 on and in groups of three
// digits, else with four significant digits at most. What is not a number is
// "unknown".
func Number(v float64) string {
	if math.IsNaN(v) {
		return "unknown"
	}
	if math.IsInf(v, 0) {
		return "infinite"
	}
	magnitude := math.Abs(v)
	decimals := 0
	for limit := 1000.0; magnitude < limit && decimals < 4; limit /= 10 {
		decimals++
	}
	if magnitude > 0 && magnitude < 0.1 {
		return strconv.FormatFloat(v, 'g', 4, 64)
	}
	return group(trimmed(v, decimals))
}

// Scale writes a scale, or a part of one: with four digits after the point at
// most. What is not a number is "unknown".
func Scale(v float64) string {
	if math.IsNaN(v) {
		return "unknown"
	}
	return trimmed(v, 4)
}

// Attr is a number of a log record. What is not known, or infinite, is left out:
// JSON has no word for it.
func Attr(key string, v float64) slog.Attr {
	if math.IsNaN(v) || math.IsInf(v, 0) {
		return slog.Attr{} // which handlers ignore
	}
	return slog.Float64(key, v)
}

// Seconds writes a number of seconds with its unit.
func Seconds(v float64) string {
	if math.Abs(v) < 600 || math.IsNaN(v) || math.Abs(v) > math.MaxInt64/float64(time.Second) {
		return Number(v) + " s"
	}
	text := time.Duration(v * float64(time.Second)).Round(time.Second).String()
	if short, cut := strings.CutSuffix(text, "m0s"); cut {
		text = short + "m"
	}
	if short, cut := strings.CutSuffix(text, "h0m"); cut {
		text = short + "h"
	}
	return text
}

// Duration writes a duration as Seconds does.
func Duration(d time.Duration) string { return Seconds(d.Seconds()) }

// trimmed writes a number without needless zeros, and never as -0.
func trimmed(v float64, decimals int) string {
	s := strconv.FormatFloat(v, 'f', decimals, 64)
	if strings.Contains(s, ".") {
		s = strings.TrimRight(strings.TrimRight(s, "0"), ".")
	}
	if s == "-0" {
		return "0"
	}
	return s
}

// group parts the digits before the point by commas.
func group(s string) string {
	start := 0
	if strings.HasPrefix(s, "-") {
		start = 1
	}
	end := len(s)
	if point := strings.IndexByte(s, '.'); point >= 0 {
		end = point
	}
	for i := end - 3; i > start; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}
