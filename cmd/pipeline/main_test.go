package main

import (
	"bytes"
	"context"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/headgate/headgate/pipeline/job"
)

// TestMain lets scripts run the command as a process of its own.
func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){
		"pipeline": func() {
			ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
			defer stop()
			os.Exit(run(ctx, os.Args[1:], os.Environ(), os.Stdout, os.Stderr))
		},
	})
}

func TestTheCommandLine(t *testing.T) {
	testscript.Run(t, testscript.Params{Dir: "testdata/script", RequireExplicitExec: true})
}

func TestTheExamplesAreRight(t *testing.T) {
	examples, err := filepath.Glob("../../deploy/examples/*.yaml")
	if err != nil || len(examples) == 0 {
		t.Fatalf("no examples: %v", err)
	}
	more, err := filepath.Glob("../../pipeline/testdata/*.*ml")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range append(examples, more...) {
		var stdout, stderr bytes.Buffer
		if status := run(context.Background(), []string{"check", path}, nil, &stdout, &stderr); status != 0 {
			t.Errorf("%s: status %d\n%s", path, status, &stderr)
		}
	}
}

func TestHelpListsEveryKeyOfEveryNode(t *testing.T) {
	var stdout bytes.Buffer
	if status := run(context.Background(), []string{"--help"}, nil, &stdout, io.Discard); status != 0 {
		t.Fatalf("status %d", status)
	}
	for _, section := range job.Sections() {
		if !strings.Contains(stdout.String(), section.Help) {
			t.Errorf("--help does not tell of %q", section.Help)
		}
		for _, key := range section.Keys {
			if key.Help == "" || !strings.Contains(stdout.String(), "  "+key.Name+"\n      "+key.Help+" (") {
				t.Errorf("--help does not tell the meaning of %s %s", section.Path, key.Name)
			}
		}
	}
}
