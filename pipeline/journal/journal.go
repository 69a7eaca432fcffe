// Package journal keeps a list of all that a coordinator let through, for
// audits: whether in any span of time more passed than the rate and the burst
// allowed can be computed from it exactly.
//
// The file is CSV with the columns of Header. A row whose event is "grant" says
// that n items were let in; one whose event is "rate" says what the provider's
// effective rate is from then on. The rows of one provider stand in the order in
// which things happened.
package journal

import (
	"fmt"
	"os"
	"strconv"
	"sync"
	"time"

	"github.com/headgate/headgate/coordinator"
)

// Header is the first line of a journal. Times are in seconds since 1970 with
// nine decimals, taken from a clock that never steps within one run; rates are
// in items per second.
const Header = "unix_seconds,event,provider,n,waited_seconds,rate_per_second,burst\n"

const (
	flushEvery = time.Second
	flushAt    = 1 << 16 // bytes
)

// Journal appends rows to a file. Its methods may be called by several
// goroutines at once; those that add rows never wait for the disk.
type Journal struct {
	file *os.File

	mu     sync.Mutex
	rows   []byte // not yet written
	failed error  // the first fault of the file; what comes after it is lost

	wake chan struct{} // of size one: there is a lot to write
	stop chan struct{}
	done chan struct{}
}

// Open opens the file, which it makes if it is absent, and starts to write
// behind. Close must be called.
func Open(path string) (*Journal, error) {
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o644)
	if err != nil {
		return nil, fmt.Errorf("grant journal: %w", err)
	}
	info, err := file.Stat()
	if err != nil {
		file.Close()
		return nil, fmt.Errorf("grant journal: %w", err)
	}
	j := &Journal{
		file: file,
		wake: make(chan struct{}, 1), stop: make(chan struct{}), done: make(chan struct{}),
	}
	if info.Size() == 0 {
		j.rows = append(j.rows, Header...)
	}
	go j.write()
	return j, nil
}

// Grant adds a row for a grant.
func (j *Journal) Grant(g coordinator.Grant) {
	j.add(g.At, "grant", g.Provider, g.N, g.Waited, g.RatePerSecond, g.Burst)
}

// Rate adds a row for a provider's effective rate from a time on.
func (j *Journal) Rate(r coordinator.Rate) {
	j.add(r.At, "rate", r.Provider, 0, 0, r.PerSecond, r.Burst)
}

func (j *Journal) add(at time.Time, event, provider string, n int, waited time.Duration, rate float64, burst int) {
	j.mu.Lock()
	b := j.rows
	b = strconv.AppendInt(b, at.Unix(), 10)
	b = append(b, '.')
	// With a one before them the nanoseconds keep their zeros.
	mark := len(b)
	b = strconv.AppendInt(b, 1_000_000_000+int64(at.Nanosecond()), 10)
	b = append(b[:mark], b[mark+1:]...)
	b = append(b, ',')
	b = append(b, event...)
	b = append(b, ',')
	b = append(b, provider...)
	b = append(b, ',')
	b = strconv.AppendInt(b, int64(n), 10)
	b = append(b, ',')
	b = strconv.AppendFloat(b, waited.Seconds(), 'f', -1, 64)
	b = append(b, ',')
	b = strconv.AppendFloat(b, rate, 'f', -1, 64)
	b = append(b, ',')
	b = strconv.AppendInt(b, int64(burst), 10)
	b = append(b, '\n')
	j.rows = b
	much := len(b) >= flushAt
	j.mu.Unlock()
	if much {
		select {
		case j.wake <- struct{}{}:
		default:
		}
	}
}

// write writes behind until Close.
func (j *Journal) write() {
	defer close(j.done)
	ticker := time.NewTicker(flushEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
		case <-j.wake:
		case <-j.stop:
			j.flush()
			return
		}
		j.flush()
	}
}

func (j *Journal) flush() {
	j.mu.Lock()
	rows, failed := j.rows, j.failed
	j.rows = nil
	j.mu.Unlock()
	if len(rows) == 0 || failed != nil {
		return
	}
	if _, err := j.file.Write(rows); err != nil {
		j.mu.Lock()
		j.failed = err
		j.mu.Unlock()
	}
}

// Close writes what is left. The error says that rows were lost, then or
// before. No row may be added meanwhile or afterwards.
func (j *Journal) Close() error {
	close(j.stop)
	<-j.done
	err := j.failed
	if closeErr := j.file.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		return fmt.Errorf("grant journal: %w", err)
	}
	return nil
}
