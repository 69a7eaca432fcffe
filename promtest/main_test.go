package main

import (
	"context"
	"flag"
	"os"
	"path/filepath"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

var update = flag.Bool("update", false, "write what the scripts' commands print into the scripts")

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){
		"promtest": func() { os.Exit(runMain(context.Background(), os.Args[1:], os.Stdout, os.Stderr)) },
	})
}

// The scripts find the record of a real run in RECORDED.
func TestCommandLine(t *testing.T) {
	recorded, err := filepath.Abs("testdata/backtest/smoke.om")
	if err != nil {
		t.Fatal(err)
	}
	testscript.Run(t, testscript.Params{Dir: "testdata", UpdateScripts: *update, Setup: func(e *testscript.Env) error {
		e.Setenv("RECORDED", recorded)
		return nil
	}})
}
