package scenario

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"time"

	"github.com/headgate/headgate/e2e/servers"
	"github.com/headgate/headgate/internal/process"
)

// KedaClient: KEDA's own client code, as its operator runs it, asks the shipped
// scaler. It needs no cluster; its tests are a program of their own.
var KedaClient = Scenario{Name: "keda-client", Limit: 5 * time.Minute, Run: func(ctx context.Context, e *Env) error {
	p, err := process.Start(process.Spec{
		Name: "keda-client", Log: e.dir, Binary: e.Programs[servers.KedaClient], Args: []string{"-test.v"},
		Env: []string{"HEADGATE_TEST_SCALER=" + filepath.Join(e.Binaries, scalerComponent)},
	})
	if err != nil {
		return err
	}
	select {
	case <-p.Ended():
	case <-ctx.Done():
		p.Kill()
		return context.Cause(ctx)
	}
	if err := p.Err(); err != nil {
		return fmt.Errorf("KEDA's client code against the scaler: %w\n%s", err, process.Tail(p.LogPath, 40))
	}
	text, err := os.ReadFile(p.LogPath)
	if err != nil {
		return err
	}
	outcomes := map[string]int{}
	for _, match := range outcome.FindAllSubmatch(text, -1) {
		outcomes[string(match[1])]++
	}
	e.Figure("tests", outcomes)
	if outcomes["PASS"] == 0 || outcomes["SKIP"] > 0 {
		return fmt.Errorf("of the tests with KEDA's client code ended %v, want all to pass", outcomes)
	}
	return nil
}}

// outcome is how one test ended, those within others included.
var outcome = regexp.MustCompile(`(?m)^ *--- (PASS|FAIL|SKIP): `)
