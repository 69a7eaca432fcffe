package lint

import (
	"bytes"
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/headgate/headgate/promtest/simulate"
)

func TestTheTuningPageShowsWhatLintSays(t *testing.T) {
	page, err := os.ReadFile("../../docs/tuning.md")
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("HEADGATE_COORDINATOR_IDS", "bars")
	var out bytes.Buffer
	err = Command{
		BaseRate: 2000, Floor: 1, QueueCapacity: 10_000, DrainLeast: 400, ScrapeInterval: 5 * time.Second, Apply: 100 * time.Millisecond,
	}.Run(t.Context(), simulate.Streams{Out: &out, Err: &out})
	if !errors.Is(err, ErrOverflow) {
		t.Errorf("Run returned %v", err)
	}
	if !strings.Contains(string(page), "```\n"+out.String()+"```") {
		t.Errorf("docs/tuning.md does not show what lint says:\n%s", out.String())
	}
}
