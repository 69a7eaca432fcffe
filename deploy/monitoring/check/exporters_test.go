package check_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	v1 "github.com/prometheus/client_golang/api/prometheus/v1"
	"github.com/prometheus/common/model"

	"github.com/headgate/headgate/deploy/monitoring/check"
)

// exporting is a Prometheus that has these series, each with its job.
type exporting struct {
	v1.API
	series [][2]string
}

func (e exporting) Query(context.Context, string, time.Time, ...v1.Option) (model.Value, v1.Warnings, v1.Infos, error) {
	var all model.Vector
	for _, s := range e.series {
		all = append(all, &model.Sample{Metric: model.Metric{"__name__": model.LabelValue(s[0]), "job": model.LabelValue(s[1])}})
	}
	return all, nil, nil, nil
}

func TestSeriesThatTheReferenceHasNotOrHasElsewhereAreReported(t *testing.T) {
	good := [][2]string{
		{"coordinator_queue_depth", "pipeline"}, {"coordinator_queue_wait_seconds_bucket", "pipeline"},
		{"headgate_controller_level", "controller"}, {"headgate_access_file_good", "external-scaler"},
	}
	if problems := check.Exporters(t.Context(), exporting{series: good}, time.Now()); len(problems) > 0 {
		t.Errorf("good series: %v", problems)
	}
	bad := [][2]string{{"headgate_controller_mood", "controller"}, {"headgate_scaler_value", "pipeline"}}
	problems := check.Exporters(t.Context(), exporting{series: append(good, bad...)}, time.Now())
	text := errors.Join(problems...).Error()
	if len(problems) != 2 || !strings.Contains(text, "headgate_controller_mood of controller is not in") || !strings.Contains(text, "headgate_scaler_value comes from pipeline") {
		t.Errorf("got %v", problems)
	}
	if problems := check.Exporters(t.Context(), exporting{}, time.Now()); len(problems) != 1 {
		t.Errorf("no series at all: %v", problems)
	}
}
