package coordinator

import "time"

// waiter is a call that waits in line. It is used again when its call has had
// its result.
type waiter struct {
	n      int           // tokens
	since  time.Duration // when it came
	result chan error    // of size one: told once, nil when it has its tokens
	inLine bool
	before *waiter // nearer to the head
	behind *waiter
}

// line is a queue of waiters which any of them can leave at once. The zero line
// is empty.
type line struct {
	head, tail *waiter
	n          int
	tokens     int // that all of them want
}

// join puts a waiter at the end.
func (l *line) join(w *waiter) {
	w.before, w.behind, w.inLine = l.tail, nil, true
	if l.tail == nil {
		l.head = w
	} else {
		l.tail.behind = w
	}
	l.tail = w
	l.n++
	l.tokens += w.n
}

// leave takes a waiter out that is in line.
func (l *line) leave(w *waiter) {
	if w.before == nil {
		l.head = w.behind
	} else {
		w.before.behind = w.behind
	}
	if w.behind == nil {
		l.tail = w.before
	} else {
		w.behind.before = w.before
	}
	w.before, w.behind, w.inLine = nil, nil, false
	l.n--
	l.tokens -= w.n
}
