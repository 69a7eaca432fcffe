package main

import (
	"archive/tar"
	"bytes"
	"context"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/patternmatcher"
	"github.com/moby/patternmatcher/ignorefile"
)

// assembly makes the image of a recipe without a builder. The commands of the
// build stage run on this machine, in a copy of the build context, with this
// machine's Go instead of the base image's; what they leave in /out is in a
// folder of the assembly instead. All other files that the image copies from
// the build stage are this machine's, too.
type assembly struct {
	recipe  recipe
	context string            // folder with what the builder would be sent
	out     string            // folder that stands for /out
	args    map[string]string // build arguments
}

// outFolder is where the build stage leaves what it made.
const outFolder = "/out"

// buildImage runs both stages. The context ends the commands of the first.
func (a assembly) buildImage(ctx context.Context) (v1.Image, error) {
	given := maps.Clone(a.args)
	vars := variables{}
	for _, c := range a.recipe.build {
		switch c := c.(type) {
		case *instructions.ArgCommand:
			vars.declare(c.Args, given)
		case *instructions.RunCommand:
			if err := a.run(ctx, c, vars); err != nil {
				return nil, err
			}
		case *instructions.WorkdirCommand, *instructions.CopyCommand: // the context is where it runs
		default:
			return nil, fmt.Errorf("the build stage has %s, which is not known here", c.Name())
		}
	}
	return a.finalStage(given)
}

// run runs a command of the build stage.
func (a assembly) run(ctx context.Context, c *instructions.RunCommand, vars variables) error {
	if !c.PrependShell || len(c.CmdLine) != 1 {
		return fmt.Errorf("%s is not in the shell's form", c)
	}
	line := strings.ReplaceAll(c.CmdLine[0], outFolder+"/", a.out+"/")
	command := exec.CommandContext(ctx, "/bin/sh", "-c", line)
	command.Dir = a.context
	command.Env = os.Environ()
	for name, value := range vars {
		command.Env = append(command.Env, name+"="+value)
	}
	if output, err := command.CombinedOutput(); err != nil {
		return fmt.Errorf("run %s: %w\n%s", line, err, output)
	}
	return nil
}

// finalStage makes the image of the second stage.
func (a assembly) finalStage(given map[string]string) (v1.Image, error) {
	files := tree{}
	vars := variables{}
	config := v1.Config{ExposedPorts: map[string]struct{}{}, Labels: map[string]string{}}
	for _, c := range a.recipe.image {
		if err := a.recipe.fill(c, vars); err != nil {
			return nil, err
		}
		switch c := c.(type) {
		case *instructions.ArgCommand:
			vars.declare(c.Args, given)
		case *instructions.EnvCommand:
			for _, pair := range c.Env {
				config.Env = append(config.Env, pair.Key+"="+pair.Value)
				vars[pair.Key] = pair.Value
			}
		case *instructions.LabelCommand:
			for _, pair := range c.Labels {
				config.Labels[pair.Key] = pair.Value
			}
		case *instructions.ExposeCommand:
			for _, port := range c.Ports {
				config.ExposedPorts[port+"/tcp"] = struct{}{}
			}
		case *instructions.WorkdirCommand:
			config.WorkingDir = c.Path
		case *instructions.UserCommand:
			config.User = c.User
		case *instructions.EntrypointCommand:
			if c.PrependShell {
				return nil, fmt.Errorf("%s needs a shell, and there is none", c)
			}
			config.Entrypoint = c.CmdLine
		case *instructions.CopyCommand:
			if err := a.copy(files, c); err != nil {
				return nil, err
			}
		default:
			return nil, fmt.Errorf("the image has %s, which is not known here", c.Name())
		}
	}
	layer, err := tarball.LayerFromOpener(files.open)
	if err != nil {
		return nil, err
	}
	image, err := mutate.AppendLayers(empty.Image, layer)
	if err != nil {
		return nil, err
	}
	file, err := image.ConfigFile()
	if err != nil {
		return nil, err
	}
	file = file.DeepCopy()
	file.OS, file.Architecture, file.Config = "linux", a.args["TARGETARCH"], config
	return mutate.ConfigFile(image, file)
}

// copy does what one COPY says.
func (a assembly) copy(into tree, c *instructions.CopyCommand) error {
	uid, gid, err := owner(c.Chown)
	if err != nil {
		return err
	}
	mode := int64(-1) // that of the file
	if c.Chmod != "" {
		if mode, err = strconv.ParseInt(c.Chmod, 8, 32); err != nil {
			return fmt.Errorf("%s: %w", c, err)
		}
	}
	if len(c.SourcePaths) != 1 || c.From != "" && c.From != buildStage {
		return fmt.Errorf("%s: want one source, of the context or of the stage %s", c, buildStage)
	}
	source := filepath.Join(a.context, c.SourcePaths[0])
	if c.From == buildStage {
		source = c.SourcePaths[0] // this machine's
		if inside, found := strings.CutPrefix(source, outFolder+"/"); found {
			source = filepath.Join(a.out, inside)
		}
	}
	info, err := os.Stat(source)
	if err != nil {
		return fmt.Errorf("%s: %w", c, err)
	}
	destination := c.DestPath
	if strings.HasSuffix(destination, "/") && !info.IsDir() {
		destination += path.Base(c.SourcePaths[0])
	}
	return filepath.WalkDir(source, func(file string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		inside, err := filepath.Rel(source, file)
		if err != nil {
			return err
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		if file == source { // which may be a link
			info, err = os.Stat(file)
			if err != nil {
				return err
			}
		}
		header := tar.Header{Name: path.Join(destination, filepath.ToSlash(inside)), Mode: mode, Uid: uid, Gid: gid}
		if mode < 0 {
			header.Mode = int64(info.Mode().Perm())
		}
		return into.add(header, file, info)
	})
}

// owner reads the value of --chown, numbers only; without one the owner is root.
func owner(chown string) (uid, gid int, err error) {
	if chown == "" {
		return 0, 0, nil
	}
	user, group, _ := strings.Cut(chown, ":")
	if uid, err = strconv.Atoi(user); err == nil {
		gid, err = strconv.Atoi(group)
	}
	return uid, gid, err
}

// tree is a layer's files by their paths, which have no leading slash.
type tree map[string]node

type node struct {
	header  tar.Header
	content string // path of the file that has it; empty for a folder
}

// add adds a file or a folder under the header's name, and the folders that it
// lies in.
func (t tree) add(header tar.Header, file string, info fs.FileInfo) error {
	name := strings.TrimPrefix(path.Clean(header.Name), "/")
	for folder := path.Dir(name); folder != "."; folder = path.Dir(folder) {
		if _, found := t[folder]; !found {
			t[folder] = node{header: tar.Header{Typeflag: tar.TypeDir, Name: folder + "/", Mode: 0o755}}
		}
	}
	switch {
	case info.IsDir():
		header.Typeflag, header.Name = tar.TypeDir, name+"/"
		t[name] = node{header: header}
	case info.Mode().IsRegular():
		header.Typeflag, header.Name, header.Size = tar.TypeReg, name, info.Size()
		t[name] = node{header: header, content: file}
	default:
		return fmt.Errorf("%s is %v, want a file or a folder", file, info.Mode())
	}
	return nil
}

// open returns the tree as a tar stream, the same for the same files.
func (t tree) open() (io.ReadCloser, error) {
	var buffer bytes.Buffer
	w := tar.NewWriter(&buffer)
	for _, name := range slices.Sorted(maps.Keys(t)) {
		n := t[name]
		if err := w.WriteHeader(&n.header); err != nil {
			return nil, err
		}
		if n.content == "" {
			continue
		}
		data, err := os.ReadFile(n.content)
		if err != nil {
			return nil, err
		}
		if _, err := w.Write(data); err != nil {
			return nil, err
		}
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return io.NopCloser(&buffer), nil
}

// copyContext copies what a builder would be sent: the files of the repository
// that .dockerignore lets through.
func copyContext(root, into string) error {
	ignore, err := os.Open(filepath.Join(root, ".dockerignore"))
	if err != nil {
		return err
	}
	defer ignore.Close()
	patterns, err := ignorefile.ReadAll(ignore)
	if err != nil {
		return err
	}
	matcher, err := patternmatcher.New(patterns)
	if err != nil {
		return err
	}
	return filepath.WalkDir(root, func(file string, entry fs.DirEntry, err error) error {
		if err != nil || file == root {
			return err
		}
		inside, err := filepath.Rel(root, file)
		if err != nil {
			return err
		}
		ignored, err := matcher.MatchesOrParentMatches(inside)
		switch {
		case err != nil:
			return err
		case entry.IsDir() && ignored && !matcher.Exclusions():
			return fs.SkipDir
		case entry.IsDir() && strings.HasPrefix(entry.Name(), "."):
			return fs.SkipDir // none of these has a file that is let through
		case ignored || !entry.Type().IsRegular():
			return nil
		}
		data, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		target := filepath.Join(into, inside)
		if err := os.MkdirAll(filepath.Dir(target), 0o755); err != nil {
			return err
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		if err := os.WriteFile(target, data, 0o600); err != nil {
			return err
		}
		return os.Chmod(target, info.Mode().Perm()) // whatever the umask
	})
}
