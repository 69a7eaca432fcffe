// Command images checks the container images of the product: what is in them,
// as whom they run, and that the manifests in deploy agree with them.
//
//	images ROOT                      makes each image of its Dockerfile, without
//	                                 a builder, and checks it
//	images ROOT controller=FILE...   checks images that a builder saved as an
//	                                 archive (docker save), instead of those
//
// ROOT is the folder of the repository.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"golang.org/x/mod/modfile"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintf(os.Stderr, "images: %v\n", err)
		os.Exit(1)
	}
}

// run is the whole program.
func run(ctx context.Context, args []string, stdout io.Writer) error {
	if len(args) == 0 || strings.HasPrefix(args[0], "-") {
		return errors.New("usage: images ROOT [BINARY=ARCHIVE...]")
	}
	root, err := filepath.Abs(args[0])
	if err != nil {
		return err
	}
	archives := map[string]string{}
	for _, arg := range args[1:] {
		binary, file, _ := strings.Cut(arg, "=")
		if file == "" || !slices.ContainsFunc(images(), func(w wanted) bool { return w.binary == binary }) {
			return fmt.Errorf("%q is no BINARY=ARCHIVE", arg)
		}
		archives[binary] = file
	}
	goVersion, err := readGoVersion(root)
	if err != nil {
		return err
	}
	work, err := os.MkdirTemp("", "headgate-images-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(work)
	buildContext := filepath.Join(work, "context")
	if err := copyContext(root, buildContext); err != nil {
		return fmt.Errorf("copy the build context: %w", err)
	}

	contents := map[string]content{}
	var errs []error
	for _, w := range images() {
		image, err := func() (v1.Image, error) {
			r, err := readRecipe(root, w.binary)
			if err != nil {
				return nil, err
			}
			if want := "docker.io/library/golang:" + goVersion; r.base != want {
				return nil, fmt.Errorf("it is built in %s, want %s: the version of go.mod", r.base, want)
			}
			if file, given := archives[w.binary]; given {
				return tarball.ImageFromPath(file, nil)
			}
			out, err := os.MkdirTemp(work, "out-")
			if err != nil {
				return nil, err
			}
			return assembly{r, buildContext, out, map[string]string{"TARGETOS": "linux", "TARGETARCH": runtime.GOARCH}}.buildImage(ctx)
		}()
		if err != nil {
			return fmt.Errorf("%s: %w", w.binary, err)
		}
		c, err := readContent(image)
		if err != nil {
			return fmt.Errorf("%s: read the image: %w", w.binary, err)
		}
		if err := w.check(c); err != nil {
			errs = append(errs, fmt.Errorf("the image of %s:\n%w", w.binary, err))
		}
		contents[w.binary] = c
		describe(stdout, w.binary, c)
	}
	deployments, err := readDeployments(root)
	if err != nil {
		return err
	}
	r, err := readRelease(root)
	if err != nil {
		return err
	}
	return errors.Join(append(errs, checkDeployments(deployments, r, contents))...)
}

// readGoVersion returns the version of Go that go.mod builds with.
func readGoVersion(root string) (string, error) {
	name := filepath.Join(root, "go.mod")
	data, err := os.ReadFile(name)
	if err != nil {
		return "", err
	}
	f, err := modfile.Parse(name, data, nil)
	switch {
	case err != nil:
		return "", err
	case f.Toolchain != nil:
		return strings.TrimPrefix(f.Toolchain.Name, "go"), nil
	case f.Go == nil:
		return "", fmt.Errorf("%s names no version of Go", name)
	}
	return f.Go.Version, nil
}

// describe tells what an image has and how large it is.
func describe(to io.Writer, binary string, c content) {
	fmt.Fprintf(to, "%-16s user %s, %d files, %.1f MB, of which the binary is %.1f MB\n", binary, c.config.User,
		len(c.regular()), float64(c.bytes)/1e6, float64(len(c.files["/"+binary].data))/1e6)
}
