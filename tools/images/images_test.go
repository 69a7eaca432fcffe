package main

import (
	"archive/tar"
	"bytes"
	"context"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
)

// repository is where the product is, seen from here.
const repository = "../.."

// Go's cache of test results does not see files outside of this module: after a
// change of a Dockerfile or a manifest, "make images-check" tells.
func TestTheImagesAndTheManifestsAgree(t *testing.T) {
	var told bytes.Buffer
	if err := run(t.Context(), []string{repository}, &told); err != nil {
		t.Fatal(err)
	}
	for _, w := range images() {
		if !strings.Contains(told.String(), w.binary+" ") {
			t.Errorf("nothing is told of %s:\n%s", w.binary, told.String())
		}
	}
}

// assembled is the image of the pipeline, made of a program that is quick to
// build.
func assembled(t *testing.T) content {
	t.Helper()
	root := t.TempDir()
	for name, text := range map[string]string{
		".dockerignore":        "secret\n",
		"secret/key":           "",
		"go.mod":               "module small\n\ngo 1.26.0\n",
		"main.go":              "package main\n\nfunc main() {}\n",
		"deploy/docker/passwd": "headgate:x:65532:65532::/:/sbin/nologin\n",
	} {
		file := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(file, 0o664); err != nil { // as where the umask of a checkout is 002
			t.Fatal(err)
		}
	}
	buildContext := t.TempDir()
	if err := copyContext(root, buildContext); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(buildContext, "secret")); err == nil {
		t.Error("what .dockerignore names is in the build context")
	}
	r, err := readRecipe(repository, "pipeline")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Join(buildContext, "cmd", "pipeline"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(filepath.Join(buildContext, "main.go"), filepath.Join(buildContext, "cmd", "pipeline", "main.go")); err != nil {
		t.Fatal(err)
	}
	args := map[string]string{"TARGETOS": "linux", "TARGETARCH": runtime.GOARCH, "VERSION": "v1", "REVISION": "abc"}
	a := assembly{r, buildContext, t.TempDir(), args}
	image, err := a.buildImage(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	again, err := assembly{r, buildContext, t.TempDir(), args}.buildImage(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	first, err := image.Digest()
	if err != nil {
		t.Fatal(err)
	}
	if second, err := again.Digest(); err != nil || first != second {
		t.Errorf("made twice the image is %v and %v (%v), want the same", first, second, err)
	}
	c, err := readContent(image)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestAFaultyImageIsFoundOut(t *testing.T) {
	good := assembled(t)
	w := wanted{binary: "pipeline", data: "/var/lib/headgate"}
	if err := w.check(good); err != nil {
		t.Fatalf("a good image is refused: %v", err)
	}
	if got := good.config.Labels["org.opencontainers.image.version"]; got != "v1" {
		t.Errorf("the version is %q, want that of the build argument", got)
	}
	dynamic, err := os.ReadFile("/bin/sh")
	if err != nil {
		t.Fatal(err)
	}
	edit := func(c *content, name string, change func(f *file)) {
		f := c.files[name]
		change(&f)
		c.files[name] = f
	}
	tests := []struct {
		name  string
		spoil func(c *content)
		want  string
	}{
		{"a shell", func(c *content) { c.files["/bin/sh"] = file{header: tar.Header{Typeflag: tar.TypeReg, Mode: 0o755}} }, "/bin/sh is in it, and should not be"},
		{"a link", func(c *content) { c.files["/lib"] = file{header: tar.Header{Typeflag: tar.TypeSymlink, Mode: 0o755}} }, "/lib is in it"},
		{"no certificates", func(c *content) { delete(c.files, authorities) }, authorities + " is missing"},
		{"empty certificates", func(c *content) { edit(c, authorities, func(f *file) { f.data = nil }) }, "has no certificates"},
		{"a private key", func(c *content) {
			edit(c, authorities, func(f *file) { f.data = append(slices.Clone(f.data), "-----BEGIN PRIVATE KEY-----"...) })
		}, "has a private key"},
		{"no folder for data", func(c *content) { delete(c.files, w.data) }, "/var/lib/headgate is missing, or is not the user's"},
		{"a folder for data of root's", func(c *content) { edit(c, w.data, func(f *file) { f.header.Uid = 0 }) }, "or is not the user's"},
		{"another folder to run in", func(c *content) { c.config.WorkingDir = "/" }, `it runs in "/"`},
		{"a binary of another user", func(c *content) { edit(c, "/pipeline", func(f *file) { f.header.Uid = 65532 }) }, "/pipeline belongs to 65532:0"},
		{"a binary that others may write to", func(c *content) { edit(c, "/pipeline", func(f *file) { f.header.Mode = 0o777 }) }, "has mode 0777"},
		{"a binary with the set-uid bit", func(c *content) { edit(c, "/pipeline", func(f *file) { f.header.Mode = 0o4755 }) }, "has mode 04755"},
		{"a binary that nobody may run", func(c *content) { edit(c, "/pipeline", func(f *file) { f.header.Mode = 0o644 }) }, "want one that everybody may run"},
		{"a binary that needs libraries", func(c *content) { edit(c, "/pipeline", func(f *file) { f.data = dynamic }) }, "the program is not static"},
		{"a script", func(c *content) { edit(c, "/pipeline", func(f *file) { f.data = []byte("#!/bin/sh\n") }) }, "no ELF file"},
		{"another processor", func(c *content) { c.arch = "s390x" }, `the image for "s390x"`},
		{"no entrypoint", func(c *content) { c.config.Entrypoint = nil }, "it runs []"},
		{"a command beside the entrypoint", func(c *content) { c.config.Cmd = []string{"run"} }, `with ["run"]`},
		{"root", func(c *content) { c.config.User = "0:0" }, `the user is "0:0"`},
		{"no user", func(c *content) { c.config.User = "" }, `the user is ""`},
		{"a user by name", func(c *content) { c.config.User = "headgate" }, `the user is "headgate"`},
		{"another user in passwd", func(c *content) { c.config.User = "7:7" }, "want the one line of the user 7:7"},
		{"no licence", func(c *content) { delete(c.config.Labels, "org.opencontainers.image.licenses") }, "image.licenses is"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			c := good
			c.files, c.config.Labels = maps.Clone(good.files), maps.Clone(good.config.Labels)
			test.spoil(&c)
			if err := w.check(c); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("the error is %v, want %q in it", err, test.want)
			}
		})
	}
}

func TestManifestsThatDoNotFitTheirImageAreFoundOut(t *testing.T) {
	all, err := readDeployments(repository)
	if err != nil {
		t.Fatal(err)
	}
	r, err := readRelease(repository)
	if err != nil {
		t.Fatal(err)
	}
	image := assembled(t)
	contents := map[string]content{"pipeline": image}
	var one deployment
	for _, d := range all {
		if d.Metadata.Name == "pipeline" {
			one = d
		}
	}
	if err := checkDeployments([]deployment{one}, r, contents); err != nil {
		t.Fatalf("a good manifest is refused: %v", err)
	}
	tests := []struct {
		name  string
		spoil func(pod *podSecurity, c *container)
		want  string
	}{
		{"another user", func(pod *podSecurity, _ *container) { pod.RunAsUser = 1000 }, "it runs as 1000:65532"},
		{"volumes of another group", func(pod *podSecurity, _ *container) { pod.FSGroup = 0 }, "volumes of group 0"},
		{"root allowed", func(pod *podSecurity, _ *container) { pod.RunAsNonRoot = false }, "runAsNonRoot false"},
		{"a file system to write to", func(_ *podSecurity, c *container) { c.SecurityContext.ReadOnlyRootFilesystem = false }, "may be written to"},
		{"a command", func(_ *podSecurity, c *container) { c.Command = []string{"/bin/pipeline"} }, `it has the command ["/bin/pipeline"]`},
		{"no port", func(_ *podSecurity, c *container) { c.Ports = nil }, `its ports are []`},
		{"another address", func(_ *podSecurity, c *container) {
			c.Env = slices.Clone(c.Env)
			for i := range c.Env {
				c.Env[i].Value = strings.ReplaceAll(c.Env[i].Value, "9400", "9401")
			}
		}, `HEADGATE_JOB_METRICS_LISTEN is "0.0.0.0:9401"`},
		{"another version", func(_ *podSecurity, c *container) { c.Image += "0" }, "its image is"},
		{"another registry", func(_ *podSecurity, c *container) { c.Image = "elsewhere/pipeline:v0.1.0" }, "its image is elsewhere"},
		{"a volume over the certificates", func(_ *podSecurity, c *container) {
			c.VolumeMounts = slices.Clone(c.VolumeMounts)
			c.VolumeMounts[0].MountPath = "/etc/"
		}, "the volume at /etc/ hides"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			d := one
			d.Spec.Template.Spec.Containers = slices.Clone(one.Spec.Template.Spec.Containers)
			test.spoil(&d.Spec.Template.Spec.SecurityContext, &d.Spec.Template.Spec.Containers[0])
			if err := checkDeployments([]deployment{d}, r, contents); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("the error is %v, want %q in it", err, test.want)
			}
		})
	}
	t.Run("an image that nobody runs", func(t *testing.T) {
		err := checkDeployments([]deployment{one}, r, map[string]content{"pipeline": image, "other": image})
		if err == nil || !strings.Contains(err.Error(), "no Deployment runs the image of other") {
			t.Errorf("the error is %v", err)
		}
	})
}

func TestADockerfileOfAnotherShapeIsRefused(t *testing.T) {
	const build = "FROM golang:1 AS build\nRUN true\n"
	for name, test := range map[string]struct{ text, want string }{
		"one stage":                  {"FROM scratch\nUSER 1:1\n", "it has 1 stages"},
		"another name of the first":  {"FROM golang:1 AS first\nRUN true\nFROM scratch\nUSER 1:1\n", "want one named build"},
		"an image on something":      {build + "FROM alpine\nUSER 1:1\n", "the image starts from alpine"},
		"an instruction that is not": {build + "FROM scratch\nCOPYY a b\n", "unknown instruction"},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := parseRecipe([]byte(test.text)); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("the error is %v, want %q in it", err, test.want)
			}
		})
	}
}

func TestWhatTheAssemblyDoesNotKnowIsAnError(t *testing.T) {
	const build = "FROM golang:1 AS build\nRUN true\n"
	for name, test := range map[string]struct{ text, want string }{
		"an instruction of the first stage": {"FROM golang:1 AS build\nUSER 1:1\nFROM scratch\nUSER 1:1\n", "the build stage has USER"},
		"an instruction of the image":       {build + "FROM scratch\nVOLUME /data\n", "the image has VOLUME"},
		"a command that fails":              {"FROM golang:1 AS build\nRUN exit 3\nFROM scratch\nUSER 1:1\n", "exit status 3"},
		"an entrypoint for a shell":         {build + "FROM scratch\nENTRYPOINT /pipeline\n", "needs a shell"},
		"a file that is not there":          {build + "FROM scratch\nCOPY nothing /nothing\n", "no such file"},
		"a file of elsewhere":               {build + "FROM scratch\nCOPY --from=alpine /bin/sh /sh\n", "want one source"},
		"an owner by name":                  {build + "FROM scratch\nCOPY --chown=headgate a /a\n", "headgate"},
	} {
		t.Run(name, func(t *testing.T) {
			r, err := parseRecipe([]byte(test.text))
			if err != nil {
				t.Fatal(err)
			}
			_, err = assembly{r, t.TempDir(), t.TempDir(), nil}.buildImage(t.Context())
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("the error is %v, want %q in it", err, test.want)
			}
		})
	}
}

func TestAGoVersionThatDiffersIsFoundOut(t *testing.T) {
	for name, test := range map[string]struct{ text, want string }{
		"go alone":    {"module m\n\ngo 1.26.0\n", "1.26.0"},
		"a toolchain": {"module m\n\ngo 1.26.0\n\ntoolchain go1.26.8\n", "1.26.8"},
	} {
		t.Run(name, func(t *testing.T) {
			root := t.TempDir()
			if err := os.WriteFile(filepath.Join(root, "go.mod"), []byte(test.text), 0o644); err != nil {
				t.Fatal(err)
			}
			if got, err := readGoVersion(root); err != nil || got != test.want {
				t.Errorf("the version is %q (%v), want %q", got, err, test.want)
			}
		})
	}
}
