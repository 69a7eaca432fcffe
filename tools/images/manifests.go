package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"net"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// deployment is what of a Deployment concerns its images.
type deployment struct {
	Kind     string
	Metadata struct{ Name string }
	Spec     struct {
		Template struct {
			Spec struct {
				SecurityContext podSecurity `yaml:"securityContext"`
				Containers      []container
			}
		}
	}
}

type podSecurity struct {
	RunAsNonRoot bool `yaml:"runAsNonRoot"`
	RunAsUser    int  `yaml:"runAsUser"`
	RunAsGroup   int  `yaml:"runAsGroup"`
	FSGroup      int  `yaml:"fsGroup"`
}

type container struct {
	Name    string
	Image   string
	Command []string
	Args    []string
	Env     []struct{ Name, Value string }
	Ports   []struct {
		ContainerPort int `yaml:"containerPort"`
	}
	SecurityContext struct {
		ReadOnlyRootFilesystem bool `yaml:"readOnlyRootFilesystem"`
	} `yaml:"securityContext"`
	VolumeMounts []struct {
		MountPath string `yaml:"mountPath"`
		ReadOnly  bool   `yaml:"readOnly"`
	} `yaml:"volumeMounts"`
}

// release is where the images of a version are found.
type release struct {
	registry, tag string
}

func (r release) image(binary string) string { return r.registry + "/" + binary + ":" + r.tag }

// readRelease reads the registry and the tag that the chart has by default.
func readRelease(root string) (release, error) {
	var values struct{ Image struct{ Registry string } }
	var chart struct {
		AppVersion string `yaml:"appVersion"`
	}
	folder := filepath.Join(root, "deploy", "helm", "headgate")
	err := errors.Join(
		readYAML(filepath.Join(folder, "values.yaml"), &values),
		readYAML(filepath.Join(folder, "Chart.yaml"), &chart),
	)
	return release{values.Image.Registry, chart.AppVersion}, err
}

func readYAML(file string, into any) error {
	data, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	if err := yaml.Unmarshal(data, into); err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	return nil
}

// readDeployments reads the Deployments of deploy/keda that run something, with
// the images that the base's kustomization puts in the place of their names.
// Patches are none.
func readDeployments(root string) (all []deployment, err error) {
	folder := filepath.Join(root, "deploy", "keda")
	var base struct {
		Images []struct {
			Name    string
			NewName string `yaml:"newName"`
			NewTag  string `yaml:"newTag"`
		}
	}
	if err := readYAML(filepath.Join(folder, "base", "kustomization.yaml"), &base); err != nil {
		return nil, err
	}
	err = filepath.WalkDir(folder, func(file string, entry fs.DirEntry, err error) error {
		if err != nil || filepath.Ext(file) != ".yaml" {
			return err
		}
		data, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		for decoder := yaml.NewDecoder(bytes.NewReader(data)); ; {
			var d deployment
			err := decoder.Decode(&d)
			if err == io.EOF {
				return nil
			}
			if typeErr := (*yaml.TypeError)(nil); errors.As(err, &typeErr) {
				continue // some other kind, whose fields of the same names are of other types
			}
			if err != nil {
				return fmt.Errorf("%s: %w", file, err)
			}
			containers := d.Spec.Template.Spec.Containers
			if d.Kind != "Deployment" || !slices.ContainsFunc(containers, func(c container) bool { return c.Image != "" }) {
				continue
			}
			for i := range containers {
				for _, replaced := range base.Images {
					if containers[i].Image == replaced.Name {
						containers[i].Image = replaced.NewName + ":" + replaced.NewTag
					}
				}
			}
			all = append(all, d)
		}
	})
	return all, err
}

// checkDeployments compares the manifests with the images that they run. Every
// image must be run by one of them.
func checkDeployments(all []deployment, r release, contents map[string]content) error {
	var errs []error
	run := map[string]bool{}
	for _, d := range all {
		for _, c := range d.Spec.Template.Spec.Containers {
			at := func(err error) {
				if err != nil {
					errs = append(errs, fmt.Errorf("container %[2]s of the Deployment %[1]s: %[3]w", d.Metadata.Name, c.Name, err))
				}
			}
			binary, _, _ := strings.Cut(path.Base(c.Image), ":")
			image, found := contents[binary]
			if !found || c.Image != r.image(binary) {
				at(fmt.Errorf("its image is %s, want that of a binary, such as %s", c.Image, r.image("pipeline")))
				continue
			}
			run[binary] = true
			at(checkIdentity(d.Spec.Template.Spec.SecurityContext, image.config.User))
			at(checkContainer(c, image))
		}
	}
	for _, binary := range slices.Sorted(maps.Keys(contents)) {
		if !run[binary] {
			errs = append(errs, fmt.Errorf("no Deployment runs the image of %s", binary))
		}
	}
	return errors.Join(errs...)
}

// checkIdentity: a pod runs as the user that the image is made for, and its
// volumes are that user's.
func checkIdentity(s podSecurity, user string) error {
	got := fmt.Sprintf("%d:%d", s.RunAsUser, s.RunAsGroup)
	if !s.RunAsNonRoot || got != user || s.FSGroup != s.RunAsGroup {
		return fmt.Errorf("it runs as %s, volumes of group %d, runAsNonRoot %v; want the image's user %s for all, and no root", got, s.FSGroup, s.RunAsNonRoot, user)
	}
	return nil
}

func checkContainer(c container, image content) error {
	var errs []error
	if len(c.Command) > 0 {
		errs = append(errs, fmt.Errorf("it has the command %q, want the image's own entrypoint", c.Command))
	}
	if !c.SecurityContext.ReadOnlyRootFilesystem {
		errs = append(errs, errors.New("its root file system may be written to"))
	}
	var ports []string
	for _, p := range c.Ports {
		ports = append(ports, strconv.Itoa(p.ContainerPort)+"/tcp")
	}
	slices.Sort(ports)
	if exposed := slices.Sorted(maps.Keys(image.config.ExposedPorts)); !slices.Equal(ports, exposed) {
		errs = append(errs, fmt.Errorf("its ports are %q, those of the image %q", ports, exposed))
	}
	env := map[string]string{}
	for _, e := range c.Env {
		env[e.Name] = e.Value
	}
	for _, listening := range image.config.Env {
		name, value, _ := strings.Cut(listening, "=")
		if !strings.HasSuffix(name, "_LISTEN") {
			continue
		}
		_, port, err := net.SplitHostPort(value)
		if _, exposed := image.config.ExposedPorts[port+"/tcp"]; err != nil || !exposed {
			errs = append(errs, fmt.Errorf("the image listens on %s, which it does not expose", value))
		}
		if env[name] != value {
			errs = append(errs, fmt.Errorf("%s is %q, in the image %q", name, env[name], value))
		}
	}
	for _, m := range c.VolumeMounts {
		if _, shadowed := image.files[path.Clean(m.MountPath)]; shadowed && m.ReadOnly {
			errs = append(errs, fmt.Errorf("the volume at %s hides what the image has there", m.MountPath))
		}
		for _, name := range append(slices.Clone(image.config.Entrypoint), authorities, passwd) {
			if strings.HasPrefix(name, path.Clean(m.MountPath)+"/") {
				errs = append(errs, fmt.Errorf("the volume at %s hides %s", m.MountPath, name))
			}
		}
	}
	return errors.Join(errs...)
}
