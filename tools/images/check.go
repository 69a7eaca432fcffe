package main

import (
	"archive/tar"
	"bytes"
	"crypto/x509"
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"maps"
	"path"
	"regexp"
	"slices"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
)

// Paths in an image that are not its binary.
const (
	authorities = "/etc/ssl/certs/ca-certificates.crt"
	passwd      = "/etc/passwd"
)

// wanted is what an image shall be.
type wanted struct {
	binary string
	data   string // folder that the user may write to, and where it runs; empty for none
}

// images lists the images of the product.
func images() []wanted {
	return []wanted{
		{binary: "controller"},
		{binary: "external-scaler"},
		{binary: "pipeline", data: "/var/lib/headgate"},
	}
}

// content is what is in an image.
type content struct {
	config v1.Config
	arch   string
	files  map[string]file // by their absolute paths, without the root
	bytes  int64           // of all files
}

type file struct {
	header tar.Header
	data   []byte
}

// readContent reads an image, all layers over each other.
func readContent(image v1.Image) (content, error) {
	configFile, err := image.ConfigFile()
	if err != nil {
		return content{}, err
	}
	c := content{config: configFile.Config, arch: configFile.Architecture, files: map[string]file{}}
	flat := mutate.Extract(image)
	defer flat.Close()
	r := tar.NewReader(flat)
	for {
		header, err := r.Next()
		if err == io.EOF {
			return c, nil
		}
		if err != nil {
			return content{}, err
		}
		data, err := io.ReadAll(r)
		if err != nil {
			return content{}, err
		}
		if name := path.Clean("/" + header.Name); name != "/" {
			c.files[name] = file{*header, data}
			c.bytes += int64(len(data))
		}
	}
}

// regular lists the files that are no folders.
func (c content) regular() (names []string) {
	for name, f := range c.files {
		if f.header.Typeflag == tar.TypeReg {
			names = append(names, name)
		}
	}
	return names
}

// check compares what is in an image with what shall be. All faults are
// joined.
func (w wanted) check(c content) error {
	return errors.Join(
		w.checkFiles(c),
		w.checkProgram(c),
		checkUser(c),
		checkLabels(c.config.Labels, w.binary),
		checkAuthorities(c.files[authorities].data),
	)
}

// checkFiles: nothing but what is expected, nobody but root may change it, and
// the one folder that the user may write to is there.
func (w wanted) checkFiles(c content) error {
	var errs []error
	expected := []string{"/" + w.binary, authorities, passwd}
	folders := map[string]bool{}
	for _, name := range append(expected, w.data) {
		for name = path.Dir(name); len(name) > 1; name = path.Dir(name) {
			folders[name] = true
		}
	}
	for _, name := range expected {
		if _, found := c.files[name]; !found {
			errs = append(errs, fmt.Errorf("%s is missing", name))
		}
	}
	if data := c.files[w.data]; w.data != "" && (data.header.Typeflag != tar.TypeDir || fmt.Sprintf("%d:%d", data.header.Uid, data.header.Gid) != c.config.User) {
		errs = append(errs, fmt.Errorf("%s is missing, or is not the user's", w.data))
	}
	if path.Clean("/"+c.config.WorkingDir) != path.Clean("/"+w.data) {
		errs = append(errs, fmt.Errorf("it runs in %q, want %q", c.config.WorkingDir, w.data))
	}
	for _, name := range slices.Sorted(maps.Keys(c.files)) {
		h := c.files[name].header
		switch {
		case h.Typeflag == tar.TypeDir && (folders[name] || name == w.data && name != ""):
		case h.Typeflag != tar.TypeReg || !slices.Contains(expected, name):
			errs = append(errs, fmt.Errorf("%s is in it, and should not be", name))
		case h.Uid != 0 || h.Gid != 0:
			errs = append(errs, fmt.Errorf("%s belongs to %d:%d, want root", name, h.Uid, h.Gid))
		}
		if h.Mode&0o7022 != 0 {
			errs = append(errs, fmt.Errorf("%s has mode %#o, want none that others may write to", name, h.Mode&0o7777))
		}
	}
	return errors.Join(errs...)
}

// checkProgram: the entrypoint alone is run, and it is the static binary.
func (w wanted) checkProgram(c content) error {
	var errs []error
	if want := []string{"/" + w.binary}; !slices.Equal(c.config.Entrypoint, want) || len(c.config.Cmd) > 0 {
		errs = append(errs, fmt.Errorf("it runs %q with %q, want %q with nothing", c.config.Entrypoint, c.config.Cmd, want))
	}
	program, found := c.files["/"+w.binary]
	if !found {
		return errors.Join(errs...)
	}
	if program.header.Mode&0o555 != 0o555 {
		errs = append(errs, fmt.Errorf("/%s has mode %#o, want one that everybody may run", w.binary, program.header.Mode))
	}
	return errors.Join(append(errs, checkStatic(program.data, c.arch))...)
}

// machines are Go's names of the processors that images are built for.
var machines = map[string]elf.Machine{"amd64": elf.EM_X86_64, "arm64": elf.EM_AARCH64}

// checkStatic: an ELF executable that needs no loader and no libraries.
func checkStatic(program []byte, arch string) error {
	f, err := elf.NewFile(bytes.NewReader(program))
	if err != nil {
		return fmt.Errorf("the program is no ELF file: %w", err)
	}
	if machine, known := machines[arch]; !known || f.Machine != machine {
		return fmt.Errorf("the program is for %v, the image for %q", f.Machine, arch)
	}
	libraries, err := f.ImportedLibraries()
	if err != nil {
		return err
	}
	loader := slices.ContainsFunc(f.Progs, func(p *elf.Prog) bool { return p.Type == elf.PT_INTERP })
	if loader || len(libraries) > 0 {
		return fmt.Errorf("the program is not static: it has a loader (%v), or needs %q", loader, libraries)
	}
	return nil
}

var numericUser = regexp.MustCompile(`^[1-9][0-9]*:[1-9][0-9]*$`)

// checkUser: Kubernetes' runAsNonRoot needs a number; the libraries that look
// for a name find one.
func checkUser(c content) error {
	if !numericUser.MatchString(c.config.User) {
		return fmt.Errorf("the user is %q, want numbers of a user and a group that are not root", c.config.User)
	}
	lines := strings.Split(strings.TrimSuffix(string(c.files[passwd].data), "\n"), "\n")
	fields := strings.Split(lines[0], ":")
	if len(lines) != 1 || len(fields) != 7 || fields[2]+":"+fields[3] != c.config.User {
		return fmt.Errorf("%s is %q, want the one line of the user %s", passwd, lines, c.config.User)
	}
	return nil
}

func checkLabels(labels map[string]string, binary string) error {
	var errs []error
	for name, want := range map[string]string{
		"title": "^headgate " + binary + "$", "description": ".", "source": "^https://github.com/headgate/headgate$",
		"licenses": "^Apache-2.0$", "version": ".", "revision": ".",
	} {
		if got := labels["org.opencontainers.image."+name]; !regexp.MustCompile(want).MatchString(got) {
			errs = append(errs, fmt.Errorf("the label org.opencontainers.image.%s is %q, want %s", name, got, want))
		}
	}
	slices.SortFunc(errs, func(a, b error) int { return strings.Compare(a.Error(), b.Error()) })
	return errors.Join(errs...)
}

func checkAuthorities(data []byte) error {
	if !x509.NewCertPool().AppendCertsFromPEM(data) {
		return fmt.Errorf("%s has no certificates", authorities)
	}
	if bytes.Contains(data, []byte("PRIVATE KEY")) {
		return fmt.Errorf("%s has a private key", authorities)
	}
	return nil
}
