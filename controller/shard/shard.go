// Package shard divides the targets among several controllers, so that each
// keeps its part by itself: no controller asks another.
//
// What is divided is not the targets but the providers that they throttle, for
// targets that throttle the same provider become one scale in one place. A
// provider stays where it is when controllers are added or taken away, but for
// as few as can be: from 4 controllers to 5 one in five moves, and each of these
// to the new one. While some controllers know of the change and others do not,
// two may want the same provider, and none may. The lease at its coordinator
// lets one of the two pass, and lets the other in when the first is gone.
package shard

import (
	"fmt"
	"hash/fnv"
	"strings"
	"time"
)

// Shard is one of several controllers' part. Its zero value is the whole.
type Shard struct {
	Index int `json:"index"` // from 0 to Of-1
	Of    int `json:"of"`    // parts; the same in all controllers; 0 and 1 are the whole
}

// Only reports whether the shard is the whole.
func (s Shard) Only() bool { return s.Of <= 1 }

// String is "shard 2 of 5", where 2 is the third one.
func (s Shard) String() string {
	if s.Only() {
		return "the only shard"
	}
	return fmt.Sprintf("shard %d of %d", s.Index, s.Of)
}

// Holds reports whether the provider at that address falls to the shard.
func (s Shard) Holds(address, provider string) bool {
	return s.Only() || At(address, provider, s.Of) == s.Index
}

// At is the index of the shard to which a provider falls among so many.
func At(address, provider string, of int) int {
	h := fnv.New64a()
	for _, part := range []string{strings.TrimRight(address, "/"), "\x00", provider} {
		_, _ = h.Write([]byte(part)) // which never fails
	}
	return jump(h.Sum64(), of)
}

// jump is a consistent hash: of the keys at n buckets, one in n+1 moves when
// there are n+1, and each of them to the new bucket (Lamping and Veach, A Fast,
// Minimal Memory, Consistent Hash Algorithm, 2014).
func jump(key uint64, buckets int) int {
	bucket, next := int64(-1), int64(0)
	for next < int64(buckets) {
		bucket = next
		key = key*2862933555777941757 + 1
		next = int64(float64(bucket+1) * (float64(1<<31) / float64(key>>33+1)))
	}
	return int(bucket)
}

// Phase is when within an interval a controller begins its ticks, so that all of
// them do not ask Prometheus at the same moment: each shard has its part of the
// interval, and the controllers of one shard, of which all but one stand by,
// begin within it by their holders' names.
func (s Shard) Phase(holder string, interval time.Duration) time.Duration {
	h := fnv.New64a()
	_, _ = h.Write([]byte(holder))
	const steps = 1 << 16
	within := float64(h.Sum64()%steps) / steps
	of := max(1, s.Of)
	return time.Duration((float64(s.Index) + within) / float64(of) * float64(interval))
}
