package main

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"slices"

	v1 "github.com/prometheus/client_golang/api/prometheus/v1"

	"github.com/headgate/headgate/controller"
	"github.com/headgate/headgate/controller/policy"
	"github.com/headgate/headgate/coordinator"
	"github.com/headgate/headgate/coordinator/client"
	"github.com/headgate/headgate/internal/invalid"
	"github.com/headgate/headgate/internal/wiring"
	"github.com/headgate/headgate/metrics"
	"github.com/headgate/headgate/settings"
)

// parts are what the loop is put together of.
type parts struct {
	api     v1.API
	names   []metrics.Names
	targets []controller.Target
}

// newParts makes the parts. Its errors are about settings, all of them at once.
func newParts(s settings.Controller, targets []settings.Target) (parts, error) {
	api, err := wiring.Prometheus(s.Prometheus)
	err = errors.Join(err, wiring.WebConfig("HEADGATE_CONTROLLER_WEB_CONFIG_FILE", s.WebConfigFile))
	p := parts{api: api}
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.MaxIdleConnsPerHost = idleConnections
	httpClient := &http.Client{Transport: transport}
	for _, t := range targets {
		target, targetErr := newTarget(t, httpClient)
		err = errors.Join(err, targetErr)
		p.targets = append(p.targets, target)
		if !slices.Contains(p.names, target.Names) {
			p.names = append(p.names, target.Names)
		}
	}
	return p, err
}

// newController puts the loop together. Its errors are about settings.
func newController(s settings.Controller, p parts, log *slog.Logger) (*controller.Controller, error) {
	reader, err := metrics.NewReader(p.api, p.names, log)
	if err != nil {
		return nil, err
	}
	return controller.New(controller.Config{
		Interval: s.Interval, QueryTimeout: s.Prometheus.Timeout, ApplyTimeout: s.ApplyTimeout,
		Holder: cmp.Or(s.Holder, defaultHolder()), Decisions: s.Decisions,
	}, reader, p.targets, log)
}

// idleConnections are kept to each coordinator between two ticks.
const idleConnections = 16

// newTarget makes a target of its settings.
func newTarget(t settings.Target, httpClient *http.Client) (controller.Target, error) {
	names, namesErr := wiring.Names(t.Series)
	gate, gateErr := client.New(t.CoordinatorURL, httpClient)
	law, lawErr := newLaw(t)
	return controller.Target{
		Name: t.ID(), CoordinatorIDs: t.CoordinatorIDs, Names: names,
		Providers: []controller.Provider{{
			Name: t.Provider, URL: t.CoordinatorURL, Gate: gate, LawName: t.Policy, Law: law,
			DeadTime: t.Law.DeadTime,
			Guard: controller.Guard{
				HardCap: hardCap(t), Floor: t.Guard.MinScale, RisePerSecond: t.Guard.RisePerSecond,
				ResumeWithin: t.Guard.ResumeWithin, ReversalsPerHour: t.Guard.ReversalsPerHour,
			},
		}},
		Capacity: t.QueueCapacity, SoftEnter: t.SoftEnter, SoftExit: t.SoftExit, HardEnter: t.HardEnter, HardExit: t.HardExit,
		For: t.LevelFor, CoolDown: t.CoolDown,
		Lease: t.Lease, StaleAfter: t.StaleAfter, FailMode: coordinator.FailMode(t.FailMode), SafeScale: t.Scales.Soft,
		Disabled: !t.Enabled, DryRun: t.DryRun,
	}, errors.Join(wiring.Variables(gateErr), namesErr, lawErr)
}

// newLaw makes the law that the settings name.
func newLaw(t settings.Target) (policy.Law, error) {
	switch t.Policy {
	case policy.StepName:
		return policy.NewStep(t.Scales.OK, t.Scales.Soft, t.Scales.Hard)
	case policy.LinearName:
		return policy.NewLinear(t.Scales.OK, t.Scales.Hard)
	case policy.ExponentialName:
		tuning := policy.DefaultExponentialTuning()
		tuning.Soft, tuning.Hard, tuning.RecoveryPerSecond = t.Law.BackoffSoft, t.Law.BackoffHard, t.Law.RecoveryPerSecond
		return policy.NewExponential(tuning)
	case policy.PIDName:
		tuning := policy.DefaultPIDTuning()
		tuning.Gain, tuning.IntegralTime = t.Law.PIDGain, t.Law.PIDIntegralTime
		tuning.Derivative, tuning.SetPoint = t.Law.PIDDerivative, t.Law.PIDSetPoint
		return policy.NewPID(tuning)
	case policy.DrainName:
		return policy.NewDrain(), nil
	}
	return nil, invalid.New("HEADGATE_POLICY", t.Policy, "a law that there is") // settings know which
}

// hardCap is the most scale at HARD.
func hardCap(t settings.Target) float64 {
	switch {
	case t.Guard.HardCap >= 0:
		return t.Guard.HardCap
	case t.Policy == policy.PIDName || t.Policy == policy.DrainName:
		return 1
	}
	return t.Scales.Hard
}

// defaultHolder is a name that no other controller has.
func defaultHolder() string {
	host, err := os.Hostname()
	if err != nil {
		host = "controller"
	}
	return fmt.Sprintf("%s-%d", host, os.Getpid())
}
