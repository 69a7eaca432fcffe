package node

import (
	"context"
	"fmt"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/headgate/headgate/internal/process"
)

// prepare puts the pod's files in place and returns what is to be run.
func (n *Node) prepare(ctx context.Context, pod *Pod) (process.Spec, error) {
	if len(pod.object.Spec.Containers) != 1 {
		return process.Spec{}, fmt.Errorf("pod has %d containers, want 1", len(pod.object.Spec.Containers))
	}
	container := pod.object.Spec.Containers[0]
	if err := os.MkdirAll(pod.dir, 0o755); err != nil {
		return process.Spec{}, err
	}
	folders, err := n.mount(ctx, pod, container)
	if err != nil {
		return process.Spec{}, err
	}
	here := func(text string) string { return pod.substitute(text, folders) }
	variables, err := n.variables(ctx, pod, container)
	if err != nil {
		return process.Spec{}, err
	}
	// The image's name ends with the program's.
	name, _, _ := strings.Cut(path.Base(container.Image), ":")
	name = strings.TrimPrefix(name, "headgate-")
	spec := process.Spec{Name: pod.Component, Binary: filepath.Join(n.binaries, name), Log: pod.dir}
	for _, arg := range slices.Concat(container.Command, container.Args) {
		spec.Args = append(spec.Args, here(expand(arg, variables)))
	}
	for _, name := range slices.Sorted(maps.Keys(variables)) {
		spec.Env = append(spec.Env, name+"="+here(variables[name]))
	}
	if container.WorkingDir != "" {
		spec.Dir = here(container.WorkingDir)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	pod.spec, pod.folders = spec, folders
	return spec, nil
}

// substitute stands in for the pod's own network and file system.
func (p *Pod) substitute(text string, folders map[string]string) string {
	pairs := []string{"0.0.0.0", p.IP}
	for mounted, folder := range folders {
		pairs = append(pairs, mounted+"/", folder+"/")
	}
	return strings.NewReplacer(pairs...).Replace(text)
}

// mount makes a folder for each volume and returns them by the path at which
// the container sees them. Files of ConfigMaps and Secrets are written anew.
func (n *Node) mount(ctx context.Context, pod *Pod, container corev1.Container) (map[string]string, error) {
	folders := map[string]string{}
	for _, m := range container.VolumeMounts {
		folders[m.MountPath] = filepath.Join(pod.dir, "volumes", m.Name)
	}
	for _, m := range container.VolumeMounts {
		at := slices.IndexFunc(pod.object.Spec.Volumes, func(v corev1.Volume) bool { return v.Name == m.Name })
		if at < 0 {
			return nil, fmt.Errorf("volume %s is mounted and not there", m.Name)
		}
		files, err := n.files(ctx, pod, pod.object.Spec.Volumes[at])
		if err != nil {
			return nil, err
		}
		folder := folders[m.MountPath]
		if err := os.MkdirAll(folder, 0o755); err != nil {
			return nil, err
		}
		for name, data := range files {
			if err := writeFile(filepath.Join(folder, name), pod.substitute(data, folders)); err != nil {
				return nil, err
			}
		}
	}
	return folders, nil
}

// writeFile replaces a file in one step, as the kubelet does.
func writeFile(path, data string) error {
	if err := os.WriteFile(path+".new", []byte(data), 0o600); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}

// files are what a volume holds.
func (n *Node) files(ctx context.Context, pod *Pod, v corev1.Volume) (map[string]string, error) {
	core := n.client.CoreV1()
	switch {
	case v.EmptyDir != nil:
		return nil, nil
	case v.ConfigMap != nil:
		o, err := core.ConfigMaps(pod.Namespace).Get(ctx, v.ConfigMap.Name, metav1.GetOptions{})
		if err != nil {
			return nil, fmt.Errorf("volume %s: %w", v.Name, err)
		}
		return o.Data, nil
	case v.Secret != nil:
		o, err := core.Secrets(pod.Namespace).Get(ctx, v.Secret.SecretName, metav1.GetOptions{})
		if err != nil {
			if v.Secret.Optional != nil && *v.Secret.Optional {
				return nil, nil
			}
			return nil, fmt.Errorf("volume %s: %w", v.Name, err)
		}
		return texts(o.Data), nil
	}
	return nil, fmt.Errorf("volume %s is of a kind that only a real node has", v.Name)
}

// Refresh writes the files of ConfigMaps and Secrets into the pods of a
// component anew, as the kubelet does some time after they have changed.
func (n *Node) Refresh(ctx context.Context, namespace, component string) error {
	for _, pod := range n.Pods(namespace, component) {
		if _, err := n.mount(ctx, pod, pod.object.Spec.Containers[0]); err != nil {
			return err
		}
	}
	return nil
}

func texts(data map[string][]byte) map[string]string {
	all := map[string]string{}
	for name, value := range data {
		all[name] = string(value)
	}
	return all
}

// variables are the container's environment.
func (n *Node) variables(ctx context.Context, pod *Pod, container corev1.Container) (map[string]string, error) {
	all := map[string]string{}
	core := n.client.CoreV1()
	for _, from := range container.EnvFrom {
		var data map[string]string
		var err error
		optional := false
		switch {
		case from.ConfigMapRef != nil:
			optional = from.ConfigMapRef.Optional != nil && *from.ConfigMapRef.Optional
			var o *corev1.ConfigMap
			if o, err = core.ConfigMaps(pod.Namespace).Get(ctx, from.ConfigMapRef.Name, metav1.GetOptions{}); err == nil {
				data = o.Data
			}
		case from.SecretRef != nil:
			optional = from.SecretRef.Optional != nil && *from.SecretRef.Optional
			var o *corev1.Secret
			if o, err = core.Secrets(pod.Namespace).Get(ctx, from.SecretRef.Name, metav1.GetOptions{}); err == nil {
				data = texts(o.Data)
			}
		}
		if err != nil && !optional {
			return nil, fmt.Errorf("environment: %w", err)
		}
		for name, value := range data {
			all[from.Prefix+name] = value
		}
	}
	for _, variable := range container.Env {
		value, err := n.value(ctx, pod, variable)
		if err != nil {
			return nil, fmt.Errorf("environment: %s: %w", variable.Name, err)
		}
		all[variable.Name] = expand(value, all)
	}
	return all, nil
}

func (n *Node) value(ctx context.Context, pod *Pod, v corev1.EnvVar) (string, error) {
	from := v.ValueFrom
	core := n.client.CoreV1()
	switch {
	case from == nil:
		return v.Value, nil
	case from.FieldRef != nil:
		switch from.FieldRef.FieldPath {
		case "metadata.name":
			return pod.Name, nil
		case "metadata.namespace":
			return pod.Namespace, nil
		case "status.podIP":
			return pod.IP, nil
		}
	case from.ConfigMapKeyRef != nil:
		o, err := core.ConfigMaps(pod.Namespace).Get(ctx, from.ConfigMapKeyRef.Name, metav1.GetOptions{})
		if err != nil {
			return "", err
		}
		return o.Data[from.ConfigMapKeyRef.Key], nil
	case from.SecretKeyRef != nil:
		o, err := core.Secrets(pod.Namespace).Get(ctx, from.SecretKeyRef.Name, metav1.GetOptions{})
		if err != nil {
			if from.SecretKeyRef.Optional != nil && *from.SecretKeyRef.Optional {
				return "", nil
			}
			return "", err
		}
		return string(o.Data[from.SecretKeyRef.Key]), nil
	}
	return "", fmt.Errorf("comes from where only a real node can read")
}

// expand puts variables into a text where it says $(NAME).
func expand(text string, variables map[string]string) string {
	for name, value := range variables {
		text = strings.ReplaceAll(text, "$("+name+")", value)
	}
	return text
}
