package main

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/headgate/headgate/access"
	"github.com/headgate/headgate/coordinator"
	"github.com/headgate/headgate/coordinator/feedback"
	"github.com/headgate/headgate/coordinator/httpapi"
)

// do runs a command and returns its output and exit status.
func do(t *testing.T, environ []string, args ...string) (stdout, stderr string, status int) {
	t.Helper()
	var out, errs strings.Builder
	status = runMain(t.Context(), args, environment{environ, &out, &errs})
	return out.String(), errs.String(), status
}

// auditLog keeps the audit records of a log in JSON.
type auditLog struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *auditLog) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

// record is an audit record as far as these tests look.
type record struct {
	When          time.Time `json:"time"`
	Audit, Action string
	Provider      string
	Who           string `json:"holder"`
	Why           string `json:"reason"`
	Scale         float64
	ExpiresAt     time.Time `json:"expires_at"`
}

func (l *auditLog) records(t *testing.T) []record {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	var all []record
	for line := range bytes.Lines(l.text.Bytes()) {
		var r record
		if err := json.Unmarshal(line, &r); err != nil {
			t.Fatalf("%v in %s", err, line)
		}
		if r.Audit != "" {
			all = append(all, r)
		}
	}
	return all
}

// eventually waits until a condition holds.
func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	poll := time.NewTicker(20 * time.Millisecond)
	defer poll.Stop()
	limit := time.After(30 * time.Second)
	for !holds() {
		select {
		case <-poll.C:
		case <-limit:
			t.Fatalf("not after 30 s: %s", what)
		}
	}
}

func TestAnOverrideOutlivesAControllerIsUndoneAtItsExpiryAndIsInTheAuditLog(t *testing.T) {
	begin := time.Now()
	var audit auditLog
	log := slog.New(slog.NewJSONHandler(&audit, nil))
	gate := coordinator.New(coordinator.WithLogger(log))
	defer gate.Close()
	if err := gate.Register(coordinator.Provider{
		Name: "ibkr", BasePerSecond: 400, Burst: 10, FloorPerSecond: 1, FailMode: coordinator.FailSafe, SafeScale: 0.5,
	}); err != nil {
		t.Fatal(err)
	}
	api := httptest.NewServer(httpapi.New(t.Context(), gate, feedback.NewBus(log), log, access.Everyone()))
	defer api.Close()
	run := func() (commandEnviron []string, p *program, stop func() int) {
		t.Helper()
		address, p, stop := start(t,
			"HEADGATE_PROMETHEUS_URL=http://127.0.0.1:1", "HEADGATE_COORDINATOR_URL="+api.URL, "HEADGATE_COORDINATOR_IDS=bars",
			"HEADGATE_CONTROLLER_LISTEN=127.0.0.1:0", "HEADGATE_INTERVAL=100ms", "HEADGATE_LEASE=1s",
		)
		return []string{"HEADGATE_CONTROLLER_URL=" + address, "HEADGATE_OPERATOR=ann"}, p, stop
	}
	// override is the one that decisions, the status and the list show; empty
	// where they show none.
	override := func(environ []string) (decided, shown, listed string) {
		t.Helper()
		var explained struct {
			Target struct {
				Providers []struct {
					Latest *struct {
						Override *struct{ Holder, Reason string }
					}
				}
			}
		}
		out, _, _ := do(t, environ, "explain", "bars", "--output=json")
		if err := json.Unmarshal([]byte(out), &explained); err != nil {
			t.Fatal(err)
		}
		if d := explained.Target.Providers[0].Latest; d != nil && d.Override != nil {
			decided = d.Override.Holder + ": " + d.Override.Reason
		}
		var list struct {
			Overrides []struct{ Holder, Reason string }
		}
		for _, from := range []struct {
			into *string
			args []string
		}{{&shown, []string{"status"}}, {&listed, []string{"override", "list"}}} {
			out, _, _ := do(t, environ, append(from.args, "--output=json")...)
			if err := json.Unmarshal([]byte(out), &list); err != nil {
				t.Fatal(err)
			}
			for _, o := range list.Overrides {
				*from.into = o.Holder + ": " + o.Reason
			}
		}
		return decided, shown, listed
	}
	everywhere := func(environ []string, want string) {
		t.Helper()
		eventually(t, "the override is everywhere "+want, func() bool {
			decided, shown, listed := override(environ)
			return decided == want && shown == want && listed == want
		})
	}
	inForce := func() (scale float64, operators bool) {
		t.Helper()
		s, err := gate.State("ibkr")
		if err != nil {
			t.Fatal(err)
		}
		return s.Scale, slices.ContainsFunc(s.Scales, func(s coordinator.Scale) bool { return s.Owner == coordinator.OwnerOperator })
	}

	environ, first, stop := run()
	out, errs, status := do(t, environ, "override", "set", "ibkr", "0.2", "--for=1h", "--reason=the store is moved")
	if status != exitOK || !strings.Contains(out, "0.2") {
		t.Fatalf("status %d: %s%s", status, out, errs)
	}
	everywhere(environ, "ann: the store is moved")
	if said := first.log(); !strings.Contains(said, `audit=override action=set provider=ibkr holder=ann reason="the store is moved"`) {
		t.Errorf("the controller's audit log has it not:\n%s", said)
	}

	// It outlives the controller.
	stop()
	if scale, operators := inForce(); scale != 0.2 || !operators {
		t.Errorf("without a controller %v is in force", scale)
	}
	environ, _, stop = run()
	everywhere(environ, "ann: the store is moved")

	// It is undone at its expiry, whether there is a controller or not.
	if out, errs, status := do(t, environ, "override", "set", "ibkr", "0.1", "--for=1500ms", "--reason=for a moment", "--by=bob"); status != exitOK {
		t.Fatalf("status %d: %s%s", status, out, errs)
	}
	stop()
	eventually(t, "the override is undone", func() bool { _, operators := inForce(); return !operators })
	environ, _, _ = run()
	everywhere(environ, "")

	// And it can be cleared.
	do(t, environ, "override", "set", "ibkr", "0", "--for=1h", "--reason=stop")
	if out, errs, status := do(t, environ, "override", "clear", "ibkr", "--reason=go on"); status != exitOK {
		t.Fatalf("status %d: %s%s", status, out, errs)
	}
	everywhere(environ, "")

	records := audit.records(t)
	var got []record
	for _, r := range records {
		got = append(got, record{Audit: r.Audit, Action: r.Action, Provider: r.Provider, Who: r.Who, Why: r.Why, Scale: r.Scale})
		if r.When.Before(begin) || r.When.After(time.Now()) {
			t.Errorf("%s is from %v", r.Action, r.When)
		}
	}
	want := []record{
		{Audit: "override", Action: "set", Provider: "ibkr", Who: "ann", Why: "the store is moved", Scale: 0.2},
		{Audit: "override", Action: "set", Provider: "ibkr", Who: "bob", Why: "for a moment", Scale: 0.1},
		{Audit: "override", Action: "expired", Provider: "ibkr", Who: "bob", Why: "for a moment", Scale: 0.1},
		{Audit: "override", Action: "set", Provider: "ibkr", Who: "ann", Why: "stop"},
		{Audit: "override", Action: "cleared", Provider: "ibkr", Who: "ann", Why: "go on"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Fatalf("the audit log differs (-want +got):\n%s", diff)
	}
	if lasted := records[2].When.Sub(records[1].When); lasted < 1400*time.Millisecond {
		t.Errorf("the override of 1.5 s was undone after %v", lasted)
	}
}

func TestWithoutAControllerTheCommandsFail(t *testing.T) {
	nobody := httptest.NewServer(http.NotFoundHandler())
	nobody.Close()
	environ := []string{"HEADGATE_CONTROLLER_URL=" + nobody.URL, "USER=ann"}
	for _, args := range [][]string{
		{"status"}, {"explain", "bars"}, {"watch"}, {"override", "list"}, {"override", "clear", "ibkr"},
		{"override", "set", "ibkr", "0.5", "--for=1m", "--reason=r"},
	} {
		stdout, stderr, status := do(t, environ, args...)
		if status != exitFailure || stdout != "" || !strings.Contains(stderr, "connection refused") {
			t.Errorf("%v: status %d\n%s%s", args, status, stdout, stderr)
		}
	}
}

func TestWrongArgumentsAreToldAndNothingIsDone(t *testing.T) {
	for _, test := range []struct {
		args []string
		want string
	}{
		{[]string{"stauts"}, `did you mean "status"?`},
		{[]string{"explain"}, `expected "<target>"`},
		{[]string{"override"}, `expected one of "set", "list", "clear"`},
		{[]string{"override", "set", "ibkr", "0.5", "--for=1m"}, "missing flags: --reason"},
		{[]string{"override", "set", "ibkr", "0.5", "--reason=r"}, "missing flags: --for"},
		{[]string{"override", "set", "ibkr", "half", "--for=1m", "--reason=r"}, "<scale>"},
		{[]string{"override", "set", "ibkr", "2", "--for=1m", "--reason=r"}, "SCALE is 2"},
		{[]string{"status", "--output=xml"}, "--output must be one of"},
		{[]string{"status", "--url=nowhere"}, "--url"},
		{[]string{"completion", "csh"}, "must be one of"},
		{[]string{"run", "fast"}, "unexpected argument fast"},
	} {
		stdout, stderr, status := do(t, []string{"USER=ann"}, test.args...)
		if status != exitSettings || stdout != "" || !strings.Contains(stderr, test.want) {
			t.Errorf("%v: status %d, want %d and %q\n%s%s", test.args, status, exitSettings, test.want, stdout, stderr)
		}
	}
}

func TestARefusalOfTheControllerIsAWrongArgument(t *testing.T) {
	address, _, _ := start(t, "HEADGATE_PROMETHEUS_URL=http://127.0.0.1:1", "HEADGATE_CONTROLLER_LISTEN=127.0.0.1:0",
		"HEADGATE_COORDINATOR_URL=http://127.0.0.1:1", "HEADGATE_COORDINATOR_IDS=bars")
	environ := []string{"HEADGATE_CONTROLLER_URL=" + address, "USER=ann"}
	if _, stderr, status := do(t, environ, "explain", "nobody"); status != exitSettings || !strings.Contains(stderr, `target is "nobody"`) {
		t.Errorf("status %d: %s", status, stderr)
	}
	if stdout, stderr, status := do(t, environ, "override", "set", "ibkr", "1", "--for=1m", "--reason=r"); status != exitFailure || !strings.Contains(stdout, "not done") {
		t.Errorf("of a coordinator that is gone: status %d: %s%s", status, stdout, stderr)
	}
	if stdout, stderr, status := do(t, environ, "status"); status != exitUnwell || stderr != "" || !strings.Contains(stdout, "1 lost") {
		t.Errorf("with lost signals: status %d: %s%s", status, stdout, stderr)
	}
}

func TestCheckConfigSaysWhatTheLoopWouldSayAtItsStart(t *testing.T) {
	dir := t.TempDir()
	file := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	right := file("right.yml", "targets:\n- {target: bars, coordinator_ids: [a, b], policy: drain, soft_enter: 60%}\n- {target: loads, coordinator_ids: [c], provider: bulk, dry_run: true}\n")
	wrong := file("wrong.yml", "targets:\n- {target: bars, coordinator_ids: [a], policy: magic}\n- {target: bars, soft_enter: 90%, hard_enter: 80%}\n")

	for _, test := range []struct {
		name    string
		environ []string
	}{
		{"settings", []string{"HEADGATE_COORDINATOR_IDS=bars", "HEADGATE_INTERVAL=soon", "HEADGATE_LEASES=15s", "HEADGATE_PROMETHEUS_URL=prom"}},
		{"targets", []string{"HEADGATE_TARGETS_FILE=" + wrong}},
		{"what only the controller checks", []string{"HEADGATE_COORDINATOR_IDS=bars", "HEADGATE_POLICY=drain", "HEADGATE_SERIES_WRITTEN=none"}},
	} {
		_, atStart, startStatus := do(t, test.environ, "run")
		stdout, checked, status := do(t, test.environ, "check-config")
		if startStatus != exitSettings || status != exitSettings || stdout != "" || checked != atStart {
			t.Errorf("%s: status %d, and the loop's %d:\n%s%s", test.name, status, startStatus, stdout, cmp.Diff(atStart, checked))
		}
	}
	if _, stderr, status := do(t, nil, "check-config", wrong); status != exitSettings || !strings.Contains(stderr, "magic") {
		t.Errorf("of a file that is named: status %d: %s", status, stderr)
	}

	stdout, stderr, status := do(t, []string{"HEADGATE_COORDINATOR_URL=http://gate:9400"}, "check-config", right)
	want := `TARGET  STATE       OBSERVES  PROVIDER  COORDINATOR       POLICY  SOFT  HARD  FAIL MODE
bars    controlled  a,b       ibkr      http://gate:9400  drain   60%   80%   safe
loads   dry run     c         bulk      http://gate:9400  step    50%   80%   safe
the settings are right
`
	if diff := cmp.Diff(want, stdout); diff != "" || status != exitOK || stderr != "" {
		t.Errorf("status %d, %s: (-want +got)\n%s", status, stderr, diff)
	}
	stdout, _, status = do(t, nil, "check-config", right, "--output=json")
	var machine struct {
		Targets []struct{ Target, Policy string }
	}
	if err := json.Unmarshal([]byte(stdout), &machine); err != nil || status != exitOK || len(machine.Targets) != 2 || machine.Targets[0].Policy != "drain" {
		t.Errorf("for machines, and %v: %s", err, stdout)
	}
}

func TestEveryCommandHasHelp(t *testing.T) {
	for _, args := range [][]string{
		{"run"}, {"status"}, {"explain"}, {"watch"}, {"override"}, {"override", "set"}, {"override", "list"}, {"override", "clear"}, {"check-config"}, {"completion"},
	} {
		stdout, stderr, status := do(t, nil, append(args, "--help")...)
		if status != exitOK || stderr != "" || !strings.Contains(stdout, "Usage: controller "+strings.Join(args, " ")) || !strings.Contains(stdout, "Exit statuses:") {
			t.Errorf("%v: status %d\n%s%s", args, status, stdout, stderr)
		}
	}
	stdout, _, status := do(t, nil, "--version")
	if status != exitOK || !strings.HasPrefix(stdout, "controller, version") || !strings.HasSuffix(stdout, "\n") {
		t.Errorf("the version: status %d, %q", status, stdout)
	}
}

func TestAShellCompletesCommandsFlagsAndTheNamesOfTheController(t *testing.T) {
	address, _, _ := start(t, "HEADGATE_PROMETHEUS_URL=http://127.0.0.1:1", "HEADGATE_CONTROLLER_LISTEN=127.0.0.1:0",
		"HEADGATE_COORDINATOR_URL=http://127.0.0.1:1", "HEADGATE_COORDINATOR_IDS=bars,trades", "HEADGATE_TARGET=market", "HEADGATE_PROVIDER=feed")
	for _, test := range []struct{ line, want string }{
		{"controller ", "check-config completion explain override run status watch"},
		{"controller override ", "clear list set"},
		{"controller override set --f", "--for"},
		{"controller status --output ", "json table"},
		{"controller completion ", "bash fish zsh"},
		{"controller explain ", "market"},
		{"controller override clear ", "feed"},
		{"controller watch --target ", "market"},
	} {
		t.Setenv("COMP_LINE", test.line) // the library reads it of the process
		stdout, stderr, status := do(t, []string{"COMP_LINE=" + test.line, "HEADGATE_CONTROLLER_URL=" + address})
		got := strings.Fields(stdout)
		slices.Sort(got)
		if diff := cmp.Diff(strings.Fields(test.want), got); diff != "" || status != exitOK || stderr != "" {
			t.Errorf("%q: status %d, %s\n%s", test.line, status, stderr, diff)
		}
	}
	for _, shell := range []string{"bash", "zsh", "fish"} {
		if stdout, _, status := do(t, nil, "completion", shell); status != exitOK || !strings.Contains(stdout, os.Args[0]) {
			t.Errorf("%s: status %d: %s", shell, status, stdout)
		}
	}
}
