// Package keda_test holds the manifests to what they promise about security. On a
// real Kubernetes "make e2e" does so too, in a namespace that enforces the
// restricted profile; here each sentence has its line.
package keda_test

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"go.yaml.in/yaml/v3"
)

type object struct {
	Kind      string
	Metadata  struct{ Name string }
	Automount *bool `yaml:"automountServiceAccountToken"`
	Spec      yaml.Node
	file      string
}

// manifests are all objects under deploy/keda, patches among them.
func manifests(t *testing.T) (all []object) {
	t.Helper()
	err := filepath.WalkDir(".", func(file string, _ fs.DirEntry, err error) error {
		if err != nil || filepath.Ext(file) != ".yaml" {
			return err
		}
		data, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		for decoder := yaml.NewDecoder(bytes.NewReader(data)); ; {
			var o object
			if err := decoder.Decode(&o); errors.Is(err, io.EOF) {
				return nil
			} else if err != nil {
				return err
			}
			o.file = file
			all = append(all, o)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

type podSpec struct {
	ServiceAccountName string `yaml:"serviceAccountName"`
	Automount          *bool  `yaml:"automountServiceAccountToken"`
	HostNetwork        bool   `yaml:"hostNetwork"`
	HostPID            bool   `yaml:"hostPID"`
	HostIPC            bool   `yaml:"hostIPC"`
	SecurityContext    struct {
		RunAsNonRoot bool  `yaml:"runAsNonRoot"`
		RunAsUser    int64 `yaml:"runAsUser"`
		Seccomp      struct {
			Type string
		} `yaml:"seccompProfile"`
		Sysctls []any
	} `yaml:"securityContext"`
	InitContainers []container `yaml:"initContainers"`
	Containers     []container
	Volumes        []map[string]any
}

type container struct {
	Name, Image string
	Ports       []struct {
		HostPort int `yaml:"hostPort"`
	}
	SecurityContext struct {
		AllowPrivilegeEscalation *bool `yaml:"allowPrivilegeEscalation"`
		Privileged               bool
		ReadOnlyRootFilesystem   bool `yaml:"readOnlyRootFilesystem"`
		RunAsUser                *int64
		Capabilities             struct{ Drop, Add []string }
		ProcMount                string `yaml:"procMount"`
	} `yaml:"securityContext"`
}

// volumes are the kinds that the restricted profile allows.
var volumes = []string{"configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected", "secret"}

func TestEveryPodKeepsToTheRestrictedProfile(t *testing.T) {
	pods := 0
	for _, o := range manifests(t) {
		if o.Kind != "Deployment" && o.Kind != "StatefulSet" && o.Kind != "DaemonSet" && o.Kind != "Job" {
			continue
		}
		var spec struct {
			Template struct {
				Metadata struct{ Labels map[string]string }
				Spec     podSpec
			}
		}
		if err := o.Spec.Decode(&spec); err != nil {
			t.Fatal(err)
		}
		pod := spec.Template.Spec
		for _, v := range pod.Volumes {
			for kind := range v {
				if kind != "name" && !slices.Contains(volumes, kind) {
					t.Errorf("%s: %s has a volume of the kind %s", o.file, o.Metadata.Name, kind)
				}
			}
		}
		if pod.HostNetwork || pod.HostPID || pod.HostIPC || len(pod.SecurityContext.Sysctls) > 0 {
			t.Errorf("%s: %s shares something of its node", o.file, o.Metadata.Name)
		}
		all := slices.Concat(pod.InitContainers, pod.Containers)
		for _, c := range all {
			for _, p := range c.Ports {
				if p.HostPort != 0 {
					t.Errorf("%s: %s opens a port of its node", o.file, c.Name)
				}
			}
			if s := c.SecurityContext; s.Privileged || len(s.Capabilities.Add) > 0 || s.ProcMount != "" || s.RunAsUser != nil && *s.RunAsUser == 0 {
				t.Errorf("%s: container %s may do more than others", o.file, c.Name)
			}
		}
		if !slices.ContainsFunc(all, func(c container) bool { return c.Image != "" }) {
			continue // a patch, which adds to what a whole one says
		}
		pods++
		if spec.Template.Metadata.Labels["app.kubernetes.io/name"] != "headgate" {
			t.Errorf("%s: the NetworkPolicies do not choose %s", o.file, o.Metadata.Name)
		}
		if s := pod.SecurityContext; !s.RunAsNonRoot || s.RunAsUser == 0 || s.Seccomp.Type != "RuntimeDefault" {
			t.Errorf("%s: %s runs as %+v", o.file, o.Metadata.Name, s)
		}
		if pod.Automount == nil || *pod.Automount || pod.ServiceAccountName == "" || pod.ServiceAccountName == "default" {
			t.Errorf("%s: %s has a token of its service account", o.file, o.Metadata.Name)
		}
		for _, c := range all {
			s := c.SecurityContext
			if s.AllowPrivilegeEscalation == nil || *s.AllowPrivilegeEscalation || !slices.Equal(s.Capabilities.Drop, []string{"ALL"}) || !s.ReadOnlyRootFilesystem {
				t.Errorf("%s: container %s is not locked: %+v", o.file, c.Name, s)
			}
		}
	}
	if pods < 3 {
		t.Errorf("%d pods were looked at, want at least those of 3 binaries", pods)
	}
}

func TestNoServiceAccountHasAToken(t *testing.T) {
	accounts := 0
	for _, o := range manifests(t) {
		switch o.Kind {
		case "ServiceAccount":
			accounts++
			if o.Automount == nil || *o.Automount {
				t.Errorf("%s: the account %s has a token", o.file, o.Metadata.Name)
			}
		case "Role", "ClusterRole", "RoleBinding", "ClusterRoleBinding":
			t.Errorf("%s: %s %s gives rights, and nothing asks Kubernetes for anything", o.file, o.Kind, o.Metadata.Name)
		}
	}
	if accounts != 3 {
		t.Errorf("%d accounts were looked at, want 3", accounts)
	}
}

func TestOnlyWhoMustReachesAPod(t *testing.T) {
	type peer struct {
		PodSelector       *selector `yaml:"podSelector"`
		NamespaceSelector *selector `yaml:"namespaceSelector"`
		IPBlock           any       `yaml:"ipBlock"`
	}
	type policy struct {
		PodSelector selector `yaml:"podSelector"`
		PolicyTypes []string `yaml:"policyTypes"`
		Ingress     []struct {
			From  []peer
			Ports []struct{ Port any }
		}
	}
	denied, rules := false, 0
	for _, o := range manifests(t) {
		if o.Kind != "NetworkPolicy" {
			continue
		}
		var p policy
		if err := o.Spec.Decode(&p); err != nil {
			t.Fatal(err)
		}
		if len(p.Ingress) == 0 && slices.Contains(p.PolicyTypes, "Ingress") && slices.Contains(p.PolicyTypes, "Egress") &&
			len(p.PodSelector.MatchLabels) == 1 && p.PodSelector.MatchLabels["app.kubernetes.io/name"] == "headgate" {
			denied = true
		}
		for _, rule := range p.Ingress {
			rules++
			if len(rule.From) == 0 || len(rule.Ports) == 0 {
				t.Errorf("%s: %s lets everyone in, or to every port", o.file, o.Metadata.Name)
			}
			for _, from := range rule.From {
				if from.IPBlock != nil || from.PodSelector.empty() && from.NamespaceSelector.empty() {
					t.Errorf("%s: %s lets in more than those with a label", o.file, o.Metadata.Name)
				}
			}
		}
	}
	if !denied || rules == 0 {
		t.Errorf("what is not allowed is denied: %v; %d rules were looked at", denied, rules)
	}
}

type selector struct {
	MatchLabels map[string]string `yaml:"matchLabels"`
}

func (s *selector) empty() bool { return s == nil || len(s.MatchLabels) == 0 }
