// Package servers builds the programs that the scenarios run against, from
// their Go modules and nothing else: etcd, the Kubernetes API server and
// controller manager, KEDA's operator and metrics adapter, and the tools that
// render and apply the manifests.
//
// Each program is pinned by a module in a folder beside this file, so that the
// product's own module never sees Kubernetes. A program is built once and kept
// in the cache under its name and version; a second run finds it there. The tests
// that ask a scaler by KEDA's own client code are such a program too.
package servers

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"
)

// Program is one command of one pinned module.
type Program struct {
	Name    string // file name in the cache, before the version
	Folder  string // of the module that pins it, beside this file
	Module  string // whose version counts
	Package string
	Stamp   string // variable that is given the module's version by the linker; may be empty

	// Tests makes the program of the package's tests. Their source is our own, so
	// what it holds is a part of the version.
	Tests bool
}

// Programs lists everything that is built, the quick ones first.
var Programs = []Program{
	{Name: "etcd", Folder: "etcd", Module: "go.etcd.io/etcd/server/v3", Package: "go.etcd.io/etcd/server/v3"},
	{Name: "kustomize", Folder: "kustomize", Module: "sigs.k8s.io/kustomize/kustomize/v5", Package: "sigs.k8s.io/kustomize/kustomize/v5"},
	{Name: "kube-apiserver", Folder: "kubernetes", Module: "k8s.io/kubernetes", Package: "k8s.io/kubernetes/cmd/kube-apiserver", Stamp: "k8s.io/component-base/version.gitVersion"},
	{Name: "kube-controller-manager", Folder: "kubernetes", Module: "k8s.io/kubernetes", Package: "k8s.io/kubernetes/cmd/kube-controller-manager", Stamp: "k8s.io/component-base/version.gitVersion"},
	{Name: "kubectl", Folder: "kubernetes", Module: "k8s.io/kubernetes", Package: "k8s.io/kubernetes/cmd/kubectl", Stamp: "k8s.io/component-base/version.gitVersion"},
	{Name: "keda-operator", Folder: "keda", Module: "github.com/kedacore/keda/v2", Package: "github.com/kedacore/keda/v2/cmd/operator"},
	{Name: "keda-adapter", Folder: "keda", Module: "github.com/kedacore/keda/v2", Package: "github.com/kedacore/keda/v2/cmd/adapter"},
	{Name: "helm", Folder: "helm", Module: "helm.sh/helm/v4", Package: "helm.sh/helm/v4/cmd/helm"},
	{Name: KedaClient, Folder: "../kedaclient", Module: "github.com/kedacore/keda/v2", Package: ".", Tests: true},
}

// KedaClient is the program that asks a scaler by KEDA's own client code.
const KedaClient = "keda-client"

// reportEvery is how often a build that is under way says so.
const reportEvery = 5 * time.Second

// Folder is where the modules lie. It is known from the place of this source,
// so the programs are built from any working directory.
func Folder() string {
	_, file, _, _ := runtime.Caller(0)
	return filepath.Dir(file)
}

// Cache is where built programs are kept: headgate/bin in the user's cache.
func Cache() (string, error) {
	base, err := os.UserCacheDir() // $XDG_CACHE_HOME, else $HOME/.cache
	if err != nil {
		return "", fmt.Errorf("find the user's cache folder: %w", err)
	}
	return filepath.Join(base, "headgate", "bin"), nil
}

// Build makes every program that the cache does not hold yet and returns the
// paths of all, by name. Progress goes to out, a line every few seconds, since
// the first build of Kubernetes takes minutes.
func Build(ctx context.Context, out io.Writer) (map[string]string, error) {
	cache, err := Cache()
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(cache, 0o755); err != nil {
		return nil, err
	}
	paths := make(map[string]string, len(Programs))
	for i, p := range Programs {
		version, err := p.version(ctx)
		if err != nil {
			return nil, err
		}
		path := filepath.Join(cache, p.Name+"-"+version)
		paths[p.Name] = path
		if _, err := os.Stat(path); err == nil {
			continue
		} else if !errors.Is(err, os.ErrNotExist) {
			return nil, err
		}
		label := fmt.Sprintf("[%d/%d] %s %s", i+1, len(Programs), p.Name, version)
		if err := build(ctx, out, label, p, version, path); err != nil {
			return nil, err
		}
	}
	return paths, nil
}

// version is the module's, and where the program is made of tests what they hold.
func (p Program) version(ctx context.Context) (string, error) {
	version, err := ModuleField(ctx, p.Folder, p.Module, "Version")
	if err != nil || !p.Tests {
		return version, err
	}
	sum := sha256.New()
	dir := filepath.Join(Folder(), p.Folder)
	files, err := os.ReadDir(dir)
	if err != nil {
		return "", err
	}
	for _, file := range files {
		if file.IsDir() { // another package, which the tests do not need
			continue
		}
		data, err := os.ReadFile(filepath.Join(dir, file.Name()))
		if err != nil {
			return "", err
		}
		fmt.Fprintf(sum, "%s %d\n%s", file.Name(), len(data), data)
	}
	return fmt.Sprintf("%s-%.6x", version, sum.Sum(nil)), nil
}

// ModuleField is one field of what "go list -m" tells of a module that the
// module in folder requires; "Dir" is where its source lies.
func ModuleField(ctx context.Context, folder, module, field string) (string, error) {
	dir := filepath.Join(Folder(), folder)
	if field == "Dir" { // known only once it is downloaded
		download := exec.CommandContext(ctx, "go", "mod", "download", module)
		download.Dir = dir
		if text, err := download.CombinedOutput(); err != nil {
			return "", fmt.Errorf("download %s: %w: %s", module, err, text)
		}
	}
	list := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{."+field+"}}", module)
	list.Dir = dir
	var stderr bytes.Buffer
	list.Stderr = &stderr
	text, err := list.Output()
	if err != nil {
		return "", fmt.Errorf("look up %s of %s: %w: %s", field, module, err, stderr.Bytes())
	}
	return strings.TrimSpace(string(text)), nil
}

// build makes one program. It appears in the cache only when it is complete, so
// that an interrupted build leaves nothing that looks like a program.
func build(ctx context.Context, out io.Writer, label string, p Program, version, path string) error {
	unfinished := fmt.Sprintf("%s.%d", path, os.Getpid())
	defer os.Remove(unfinished)
	flags := "-s -w"
	if p.Stamp != "" {
		flags += " -X " + p.Stamp + "=" + version
	}
	how := []string{"build"}
	if p.Tests {
		how = []string{"test", "-c"}
	}
	command := exec.CommandContext(ctx, "go", append(how, "-p", "2", "-trimpath", "-ldflags", flags, "-o", unfinished, p.Package)...)
	command.Dir = filepath.Join(Folder(), p.Folder)
	command.Env = append(os.Environ(), "CGO_ENABLED=0")
	var text bytes.Buffer
	command.Stdout, command.Stderr = &text, &text

	started := time.Now()
	fmt.Fprintf(out, "headgate: %s: building from its Go module, once\n", label)
	if err := command.Start(); err != nil {
		return fmt.Errorf("build %s: %w", p.Name, err)
	}
	done := make(chan error, 1)
	go func() { done <- command.Wait() }()
	ticks := time.NewTicker(reportEvery)
	defer ticks.Stop()
	for {
		select {
		case <-ticks.C:
			fmt.Fprintf(out, "headgate: %s: %.0f s\n", label, time.Since(started).Seconds())
		case err := <-done:
			if err != nil {
				return fmt.Errorf("build %s: %w: %s", p.Name, err, text.Bytes())
			}
			if err := os.Rename(unfinished, path); err != nil {
				return fmt.Errorf("build %s: %w", p.Name, err)
			}
			if p.Tests {
				removeOthers(path, p.Name)
			}
			fmt.Fprintf(out, "headgate: %s: built in %.0f s\n", label, time.Since(started).Seconds())
			return nil
		}
	}
}

// removeOthers removes what earlier states of the tests left in the cache: they
// change often, and each is as large as KEDA. What is being built has a process'
// id behind its name and stays.
func removeOthers(path, name string) {
	others, _ := filepath.Glob(filepath.Join(filepath.Dir(path), name+"-*"))
	for _, other := range others {
		_, err := strconv.Atoi(strings.TrimPrefix(filepath.Ext(other), "."))
		if unfinished := err == nil; other != path && !unfinished {
			_ = os.Remove(other)
		}
	}
}
