package main

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/headgate/headgate/deploy/monitoring/dashboards"
	"github.com/headgate/headgate/deploy/monitoring/rules"
)

const (
	rulesFile = "deploy/prometheus/headgate.rules.yaml"
	ruleFile  = "deploy/prometheus/prometheus-rule.yaml"
	boards    = "deploy/grafana/dashboards"
	chart     = "deploy/helm/headgate/files" // a chart reads nothing outside of its folder
)

const chartRules = "# Made from deploy/prometheus/headgate.rules.yaml by \"make docs\".\n"

// generate returns all files that are made, by their path in the repository.
func generate(root string) (map[string][]byte, error) {
	files := map[string][]byte{}
	source, err := os.ReadFile(filepath.Join(root, rulesFile))
	if err != nil {
		return nil, fmt.Errorf("read the rules: %w", err)
	}
	if files[ruleFile], err = rules.PrometheusRule(source); err != nil {
		return nil, err
	}
	groups, err := rules.Groups(source)
	if err != nil {
		return nil, err
	}
	files[chart+"/rules.yaml"] = []byte(chartRules + groups)
	made, err := dashboards.All()
	if err != nil {
		return nil, err
	}
	for name, content := range made {
		files[boards+"/"+name] = content
		files[chart+"/dashboards/"+name] = content
	}
	return files, nil
}
