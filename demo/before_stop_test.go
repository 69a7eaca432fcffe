package main

import (
	"bytes"
	"strings"
	"testing"

	"github.com/headgate/headgate/internal/promserver"
)

func TestTheCommandBeforeTheStopFindsTheLoop(t *testing.T) {
	l := &loop{dir: "/f", prometheus: &promserver.Server{URL: "http://p"}, controllerURL: "http://c", pipelineURL: "http://l",
		scalerURL: "http://s", scalerAddress: "s:1"}
	var out bytes.Buffer
	command := `echo $HEADGATE_PROMETHEUS_URL $HEADGATE_CONTROLLER_URL $HEADGATE_COORDINATOR_URL $HEADGATE_SCALER_URL $HEADGATE_SCALER_ADDRESS $HEADGATE_LOOP_FOLDER`
	if err := l.beforeStop(t.Context(), command, &out); err != nil {
		t.Fatal(err)
	}
	if got, want := out.String(), "http://p http://c http://l http://s s:1 /f\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	out.Reset()
	err := l.beforeStop(t.Context(), "echo no data; exit 3", &out)
	if err == nil || !strings.Contains(err.Error(), "exit status 3") || out.String() != "no data\n" {
		t.Errorf("got %v and %q, want the exit status and what was written", err, &out)
	}
}
