package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"github.com/google/licensecheck"
	"go.yaml.in/yaml/v3"
)

// binaries are what ships, each from its folder in cmd.
var binaries = []string{"controller", "external-scaler", "pipeline"}

// module is one that is compiled in.
type module struct {
	path, version, licence string
	in                     []string // binaries
	direct                 bool     // asked for by go.mod
	through                []string // direct modules that bring it along
}

// list is the page on the modules of the repository at root. Every module that
// go.mod asks for needs a purpose in the file, and every purpose a module.
func list(ctx context.Context, root, file string) ([]byte, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	var purposes map[string]string
	if err := yaml.Unmarshal(data, &purposes); err != nil {
		return nil, fmt.Errorf("read %s: %w", file, err)
	}
	modules, err := compiledIn(ctx, root)
	if err != nil {
		return nil, err
	}
	var errs []error
	known := maps.Clone(purposes)
	for _, m := range modules {
		if m.direct && purposes[m.path] == "" {
			errs = append(errs, fmt.Errorf("%s has no purpose in %s", m.path, file))
		}
		delete(known, m.path)
	}
	for _, path := range slices.Sorted(maps.Keys(known)) {
		errs = append(errs, fmt.Errorf("%s has a purpose in %s, and is compiled into no binary", path, file))
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return write(modules, purposes), nil
}

// goPackage is what "go list -json" tells of a package.
type goPackage struct {
	ImportPath string
	Imports    []string
	ImportMap  map[string]string // as written -> as compiled
	Module     *struct {
		Path, Version, Dir string
		Main, Indirect     bool
	}
}

// compiledIn finds the modules of all binaries, by their paths.
func compiledIn(ctx context.Context, root string) ([]*module, error) {
	packages := map[string]goPackage{}
	modules := map[string]*module{}
	for _, binary := range binaries {
		all, err := dependencies(ctx, root, "./cmd/"+binary)
		if err != nil {
			return nil, err
		}
		for _, p := range all {
			packages[p.ImportPath] = p
			if p.Module == nil || p.Module.Main {
				continue
			}
			m := modules[p.Module.Path]
			if m == nil {
				name, err := licence(p.Module.Dir)
				if err != nil {
					return nil, fmt.Errorf("the licence of %s: %w", p.Module.Path, err)
				}
				m = &module{path: p.Module.Path, version: p.Module.Version, licence: name, direct: !p.Module.Indirect}
				modules[m.path] = m
			}
			if !slices.Contains(m.in, binary) {
				m.in = append(m.in, binary)
			}
		}
	}
	for _, p := range packages {
		if p.Module != nil && modules[p.Module.Path] != nil && modules[p.Module.Path].direct {
			bring(packages, modules, p, modules[p.Module.Path], map[string]bool{})
		}
	}
	return slices.SortedFunc(maps.Values(modules), func(a, b *module) int { return cmp.Compare(a.path, b.path) }), nil
}

// bring notes at all that a package of a direct module imports, directly or not,
// that it came through that module. What another direct module imports comes
// through that one.
func bring(packages map[string]goPackage, modules map[string]*module, p goPackage, through *module, seen map[string]bool) {
	for _, path := range p.Imports {
		imported := packages[cmp.Or(p.ImportMap[path], path)]
		if seen[imported.ImportPath] || imported.Module == nil || imported.Module.Main {
			continue
		}
		seen[imported.ImportPath] = true
		m := modules[imported.Module.Path]
		if m != through && m.direct {
			continue
		}
		if m != through && !slices.Contains(m.through, through.path) {
			m.through = append(m.through, through.path)
		}
		bring(packages, modules, imported, through, seen)
	}
}

// dependencies lists a command and all packages that are compiled into it, as it
// ships: for Linux and without C.
func dependencies(ctx context.Context, root, command string) ([]goPackage, error) {
	list := exec.CommandContext(ctx, "go", "list", "-deps", "-json=ImportPath,Imports,ImportMap,Module", command)
	list.Dir = root
	list.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH=amd64")
	var stderr bytes.Buffer
	list.Stderr = &stderr
	out, err := list.Output()
	if err != nil {
		return nil, fmt.Errorf("list what %s needs: %w: %s", command, err, stderr.Bytes())
	}
	var all []goPackage
	for decoder := json.NewDecoder(bytes.NewReader(out)); ; {
		var p goPackage
		if err := decoder.Decode(&p); errors.Is(err, io.EOF) {
			return all, nil
		} else if err != nil {
			return nil, fmt.Errorf("list what %s needs: %w", command, err)
		}
		all = append(all, p)
	}
}

// licence names the licences of a module by the texts at its top, as SPDX does.
func licence(dir string) (string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return "", err
	}
	var found []string
	for _, e := range entries {
		if !isLicence(e) {
			continue
		}
		text, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			return "", err
		}
		for _, match := range licensecheck.Scan(text).Match {
			if !slices.Contains(found, match.ID) {
				found = append(found, match.ID)
			}
		}
	}
	if len(found) == 0 {
		return "", fmt.Errorf("%s has no text that is one", dir)
	}
	slices.Sort(found)
	return strings.Join(found, ", "), nil
}

func isLicence(e fs.DirEntry) bool {
	name := strings.ToUpper(e.Name())
	return e.Type().IsRegular() && (strings.HasPrefix(name, "LICENSE") || strings.HasPrefix(name, "LICENCE") || strings.HasPrefix(name, "COPYING"))
}

// write makes the page.
func write(modules []*module, purposes map[string]string) []byte {
	var b bytes.Buffer
	direct, all := 0, map[string]int{}
	for _, m := range modules {
		if m.direct {
			direct++
		}
		for _, binary := range m.in {
			all[binary]++
		}
	}
	fmt.Fprintf(&b, `# Dependencies

Written by `+"`make docs`"+`. These %d modules are compiled into the binaries: %d that Headgate asks for, and what they bring along. The controller has %d of them, the external scaler %d, the pipeline %d. go.sum pins each by its hash. What only tests and tools need is not here.

`+"`make sbom`"+` writes the same for machines, as CycloneDX, and `+"`make reproducible`"+` builds the binaries twice and compares them.

## Asked for

| module | version | licence | in | what for |
|---|---|---|---|---|
`, len(modules), direct, all["controller"], all["external-scaler"], all["pipeline"])
	for _, m := range modules {
		if m.direct {
			fmt.Fprintf(&b, "| %s | %s | %s | %s | %s |\n", m.path, m.version, m.licence, strings.Join(m.in, ", "), purposes[m.path])
		}
	}
	fmt.Fprint(&b, "\n## Brought along\n\n| module | version | licence | in | through |\n|---|---|---|---|---|\n")
	for _, m := range modules {
		if !m.direct {
			slices.Sort(m.through)
			fmt.Fprintf(&b, "| %s | %s | %s | %s | %s |\n", m.path, m.version, m.licence, strings.Join(m.in, ", "), strings.Join(m.through, ", "))
		}
	}
	return b.Bytes()
}
