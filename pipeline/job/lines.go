package job

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/headgate/headgate/internal/invalid"
)

const (
	// LongestLine is the most bytes that one item may have in NDJSON.
	LongestLine = 1 << 20

	mostErrors = 20
	wantObject = "one JSON object"
)

// checkLines reports the lines of NDJSON that are no JSON objects, the first
// twenty.
func checkLines(content io.Reader) error {
	var errs []error
	items, line := 0, 0
	lines := bufio.NewScanner(content)
	lines.Buffer(nil, LongestLine)
	for lines.Scan() && len(errs) < mostErrors {
		line++
		text := bytes.TrimSpace(lines.Bytes())
		if len(text) == 0 {
			continue
		}
		items++
		if text[0] != '{' || !json.Valid(text) {
			errs = append(errs, invalid.New(fmt.Sprintf("line %d", line), string(text), wantObject))
		}
	}
	if err := lines.Err(); errors.Is(err, bufio.ErrTooLong) {
		errs = append(errs, invalid.New(fmt.Sprintf("line %d", line+1), "a long line", fmt.Sprintf("at most %d bytes", LongestLine)))
	} else if err != nil {
		return err
	}
	if items == 0 && len(errs) == 0 {
		errs = append(errs, invalid.Missing("line", wantObject))
	}
	return errors.Join(errs...)
}
