package main

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"text/tabwriter"

	"github.com/headgate/headgate/internal/targets"
	"github.com/headgate/headgate/pressure"
	"github.com/headgate/headgate/settings"
)

// checkCommand checks what the loop would run with.
type checkCommand struct {
	TargetsFile string `arg:"" optional:"" predictor:"file" help:"Targets file to check, instead of HEADGATE_TARGETS_FILE."`
	Output      string `short:"o" enum:"table,json" default:"table" help:"What is printed: table or json."`
}

// Help is what kong adds to the command's help.
func (checkCommand) Help() string {
	return `All that is wrong is told at once, as the loop would tell it at its start; the exit
status is 2 then. Neither Prometheus nor a coordinator is asked.`
}

// checked is what machines get.
type checked struct {
	Targets []checkedTarget `json:"targets"`
}

type checkedTarget struct {
	Shard          *int          `json:"shard,omitempty"` // nil where there is but one
	Target         string        `json:"target"`
	Enabled        bool          `json:"enabled"`
	DryRun         bool          `json:"dry_run"`
	CoordinatorIDs []string      `json:"coordinator_ids"`
	Provider       string        `json:"provider"`
	CoordinatorURL string        `json:"coordinator_url"`
	Policy         string        `json:"policy"`
	SoftEnter      pressure.Mark `json:"soft_enter"`
	HardEnter      pressure.Mark `json:"hard_enter"`
	FailMode       string        `json:"fail_mode"`
}

// Run prints the targets that the loop would control, and where there are several
// shards those of the others too.
func (c *checkCommand) Run(ctx context.Context, env environment) error {
	if c.TargetsFile != "" {
		env.variables = append(env.variables[:len(env.variables):len(env.variables)], "HEADGATE_TARGETS_FILE="+c.TargetsFile)
	}
	r, err := prepare(ctx, env)
	if err != nil {
		return err
	}
	all := checked{}
	sharded := r.settings.Sharding.Of > 1
	for _, t := range r.targets {
		checked := newCheckedTarget(t)
		if sharded {
			index := targets.ShardOf(t, r.settings.Sharding.Of)
			checked.Shard = &index
		}
		all.Targets = append(all.Targets, checked)
	}
	if c.Output == "json" {
		if err := json.NewEncoder(env.stdout).Encode(all); err != nil {
			return fmt.Errorf("write the output: %w", err)
		}
		return nil
	}
	w := tabwriter.NewWriter(env.stdout, 0, 0, 2, ' ', 0)
	if sharded {
		fmt.Fprint(w, "SHARD\t")
	}
	fmt.Fprintln(w, "TARGET\tSTATE\tOBSERVES\tPROVIDER\tCOORDINATOR\tPOLICY\tSOFT\tHARD\tFAIL MODE")
	for _, t := range all.Targets {
		if t.Shard != nil {
			fmt.Fprintf(w, "%d\t", *t.Shard)
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", t.Target, t.state(), strings.Join(t.CoordinatorIDs, ","), t.Provider, t.CoordinatorURL,
			t.Policy, t.SoftEnter, t.HardEnter, t.FailMode)
	}
	fmt.Fprintf(w, "the settings are right\n")
	if err := w.Flush(); err != nil {
		return fmt.Errorf("write the output: %w", err)
	}
	return nil
}

func newCheckedTarget(t settings.Target) checkedTarget {
	return checkedTarget{
		Target: t.ID(), Enabled: t.Enabled, DryRun: t.DryRun, CoordinatorIDs: t.CoordinatorIDs, Provider: t.Provider,
		CoordinatorURL: t.CoordinatorURL, Policy: t.Policy, SoftEnter: t.SoftEnter, HardEnter: t.HardEnter, FailMode: t.FailMode,
	}
}

// state is a word for what is done with the target.
func (t checkedTarget) state() string {
	switch {
	case !t.Enabled:
		return "disabled"
	case t.DryRun:
		return "dry run"
	}
	return "controlled"
}
