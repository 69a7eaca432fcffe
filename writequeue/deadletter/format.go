// Package deadletter keeps items that could not be written in a file, one JSON
// object a line, and writes them to a store later.
package deadletter

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"time"
	"unicode/utf8"

	"github.com/headgate/headgate/internal/invalid"
	"github.com/headgate/headgate/writequeue"
)

// longestLine bounds the memory that one line of a file can ask for.
const longestLine = 64 << 20

// line is a letter as the file has it. Text that is not valid UTF-8 cannot
// stand in JSON as it is, and goes into the _base64 field instead.
type line struct {
	Key           string    `json:"key,omitempty"`
	KeyBase64     []byte    `json:"key_base64,omitempty"`
	Time          time.Time `json:"time"`
	Payload       *string   `json:"payload,omitempty"`
	PayloadBase64 []byte    `json:"payload_base64,omitempty"`
	CoordinatorID string    `json:"coordinator_id"`
	Error         string    `json:"error"`
	Attempts      int       `json:"attempts"`
	At            time.Time `json:"at"`
}

// appendLine appends the letter's line with its newline. Times are kept in UTC
// and, beyond what JSON's form of a time can say, as the nearest that it can.
func appendLine(to []byte, letter writequeue.Letter) ([]byte, error) {
	l := line{
		Time:          sayable(letter.Item.Time),
		CoordinatorID: letter.CoordinatorID,
		Error:         letter.Error,
		Attempts:      letter.Attempts,
		At:            sayable(letter.At),
	}
	if utf8.ValidString(letter.Item.Key) {
		l.Key = letter.Item.Key
	} else {
		l.KeyBase64 = []byte(letter.Item.Key)
	}
	if utf8.Valid(letter.Item.Payload) {
		text := string(letter.Item.Payload)
		l.Payload = &text
	} else {
		l.PayloadBase64 = letter.Item.Payload
	}
	data, err := json.Marshal(l)
	if err != nil {
		return to, fmt.Errorf("encode dead letter: %w", err)
	}
	return append(append(to, data...), '\n'), nil
}

var (
	firstSayable = time.Date(0, 1, 1, 0, 0, 0, 0, time.UTC)
	lastSayable  = time.Date(9999, 12, 31, 23, 59, 59, 999999999, time.UTC)
)

func sayable(t time.Time) time.Time {
	switch {
	case t.Before(firstSayable):
		return firstSayable
	case t.After(lastSayable):
		return lastSayable
	}
	return t.UTC()
}

// parseLine reads what appendLine wrote. Unknown fields are ignored.
func parseLine(data []byte) (writequeue.Letter, error) {
	var l line
	if err := json.Unmarshal(data, &l); err != nil {
		return writequeue.Letter{}, invalid.New("line", err.Error(), "one JSON object")
	}
	var errs []error
	if (l.Key == "") == (len(l.KeyBase64) == 0) {
		errs = append(errs, invalid.New("key", l.Key, "a key in one of key and key_base64"))
	}
	if l.Payload != nil && len(l.PayloadBase64) > 0 {
		errs = append(errs, invalid.New("payload", *l.Payload, "a payload in one of payload and payload_base64"))
	}
	if l.Attempts < 0 {
		errs = append(errs, invalid.New("attempts", l.Attempts, "a whole number >= 0"))
	}
	if err := errors.Join(errs...); err != nil {
		return writequeue.Letter{}, err
	}
	letter := writequeue.Letter{
		Item:          writequeue.Item{Key: l.Key + string(l.KeyBase64), Time: l.Time, Payload: l.PayloadBase64},
		CoordinatorID: l.CoordinatorID,
		Error:         l.Error,
		Attempts:      l.Attempts,
		At:            l.At,
	}
	if l.Payload != nil {
		letter.Item.Payload = []byte(*l.Payload)
	}
	return letter, nil
}

// BadLine is a line that holds no letter, such as one that was cut short by a
// crash.
type BadLine struct {
	Number int    // counted from 1
	Raw    []byte // the line without its newline
	Err    error  // what is wrong with it
}

func (b *BadLine) Error() string { return fmt.Sprintf("line %d: %v", b.Number, b.Err) }

func (b *BadLine) Unwrap() error { return b.Err }

// Read yields the letters of a file in order. A line that holds no letter
// yields a *BadLine and the reading goes on; empty lines are skipped. Any other
// error, of r or because of a line of more than 64 MiB, is the last that is
// yielded.
func Read(r io.Reader) iter.Seq2[writequeue.Letter, error] {
	return func(yield func(writequeue.Letter, error) bool) {
		lines := bufio.NewScanner(r)
		lines.Buffer(nil, longestLine)
		for number := 1; lines.Scan(); number++ {
			data := bytes.TrimSpace(lines.Bytes())
			if len(data) == 0 {
				continue
			}
			letter, err := parseLine(data)
			if err != nil {
				err = &BadLine{Number: number, Raw: bytes.Clone(data), Err: err}
			}
			if !yield(letter, err) {
				return
			}
		}
		if err := lines.Err(); err != nil {
			yield(writequeue.Letter{}, fmt.Errorf("read dead letters: %w", err))
		}
	}
}
