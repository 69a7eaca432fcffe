// Package promserver runs a real Prometheus server as a child process: for
// tests, and for whoever wants to see the loop at work on one machine.
package promserver

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"syscall"
	"time"

	"go.yaml.in/yaml/v3"
)

// BinaryVariable names the environment variable that may hold the path of the
// Prometheus binary.
const BinaryVariable = "HEADGATE_TEST_PROMETHEUS"

// ErrNoBinary says that there is no Prometheus server on this machine.
var ErrNoBinary = errors.New("no Prometheus server")

// Find returns the path of a Prometheus binary: the one that BinaryVariable
// names, else the one on PATH. The error wraps ErrNoBinary.
func Find() (string, error) {
	name := os.Getenv(BinaryVariable)
	if name == "" {
		name = "prometheus"
	}
	path, err := exec.LookPath(name)
	if err != nil {
		return "", fmt.Errorf("%w: %w", ErrNoBinary, err)
	}
	return path, nil
}

// Scrape is one job of the server.
type Scrape struct {
	Job      string            // its name; unique
	Targets  []string          // host:port of each process
	Path     string            // of the metrics; "" is /metrics
	Interval time.Duration     // 0 is Config.Interval
	Labels   map[string]string // put on every series of the job; may be nil
}

// Config says what the server does.
type Config struct {
	Binary    string        // path of the server, as Find returns it
	Dir       string        // an existing folder for its configuration and data
	Address   string        // host:port to listen on; "" is a free port on 127.0.0.1
	Interval  time.Duration // between scrapes and rule evaluations, > 0; a multiple of a millisecond
	Scrapes   []Scrape
	RuleFiles []string  // paths of rule files; may be nil
	Log       io.Writer // takes the server's log; nil for none
}

// YAML returns the server's configuration file.
func (c Config) YAML() ([]byte, error) {
	type static struct {
		Targets []string          `yaml:"targets"`
		Labels  map[string]string `yaml:"labels,omitempty"`
	}
	type job struct {
		Name     string   `yaml:"job_name"`
		Path     string   `yaml:"metrics_path,omitempty"`
		Interval string   `yaml:"scrape_interval,omitempty"`
		Timeout  string   `yaml:"scrape_timeout,omitempty"`
		Static   []static `yaml:"static_configs"`
	}
	type global struct {
		Scrape   string `yaml:"scrape_interval"`
		Timeout  string `yaml:"scrape_timeout"`
		Evaluate string `yaml:"evaluation_interval"`
		Native   bool   `yaml:"scrape_native_histograms"`
		Classic  bool   `yaml:"always_scrape_classic_histograms"`
	}
	jobs := make([]job, 0, len(c.Scrapes))
	for _, s := range c.Scrapes {
		j := job{Name: s.Job, Path: s.Path, Static: []static{{Targets: s.Targets, Labels: s.Labels}}}
		if s.Interval > 0 {
			j.Interval, j.Timeout = millis(s.Interval), millis(s.Interval)
		}
		jobs = append(jobs, j)
	}
	every := millis(c.Interval)
	return yaml.Marshal(struct {
		Global global   `yaml:"global"`
		Rules  []string `yaml:"rule_files,omitempty"`
		Jobs   []job    `yaml:"scrape_configs"`
	}{global{every, every, every, true, true}, c.RuleFiles, jobs})
}

// millis writes a duration as Prometheus reads it.
func millis(d time.Duration) string { return fmt.Sprintf("%dms", d.Milliseconds()) }

// Server is a running Prometheus.
type Server struct {
	URL string // such as http://127.0.0.1:9090

	config Config
	cmd    *exec.Cmd
	ended  chan struct{} // closed when the process has ended
	err    error         // how it ended; read after ended
}

// stopLimit is how long a server has to end by itself before it is killed.
const stopLimit = 10 * time.Second

// Start writes the configuration, starts the server and waits until it is
// ready. When ctx ends first, or the server does, there is an error and
// nothing runs. ctx has no say over the server once it is ready: Stop ends it.
func Start(ctx context.Context, config Config) (*Server, error) {
	if err := config.write(); err != nil {
		return nil, err
	}
	address := config.Address
	if address == "" {
		address = "127.0.0.1:0"
	}
	cmd := exec.Command(config.Binary,
		"--config.file="+config.file(),
		"--storage.tsdb.path="+filepath.Join(config.Dir, "data"),
		"--web.listen-address="+address,
		"--log.level=info",
	)
	logs, err := cmd.StderrPipe()
	if err != nil {
		return nil, fmt.Errorf("start prometheus: %w", err)
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start prometheus: %w", err)
	}
	s := &Server{config: config, cmd: cmd, ended: make(chan struct{})}
	listening := make(chan string, 1)
	go func() {
		defer close(s.ended)
		follow(logs, config.Log, listening)
		s.err = cmd.Wait()
	}()

	select {
	case bound := <-listening:
		s.URL = "http://" + bound
		err = s.waitReady(ctx)
	case <-s.ended:
		err = fmt.Errorf("it ended: %w", s.err)
	case <-ctx.Done():
		err = ctx.Err()
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("start prometheus: %w", err), s.Stop())
	}
	return s, nil
}

// bound is the line by which the server tells the address that it listens on;
// with port 0 there is no other way to learn it that cannot be raced.
var bound = regexp.MustCompile(`msg="Listening on".* address=(\S+)`)

// follow copies the log until its end, and tells the address once.
func follow(logs io.Reader, to io.Writer, listening chan<- string) {
	if to == nil {
		to = io.Discard
	}
	lines := bufio.NewReader(logs)
	for told := false; ; {
		line, err := lines.ReadString('\n')
		if match := bound.FindStringSubmatch(line); match != nil && !told {
			told = true
			listening <- match[1]
		}
		io.WriteString(to, line) // a log that cannot be written is nobody's loss
		if err != nil {
			return
		}
	}
}

func (s *Server) waitReady(ctx context.Context) error {
	poll := time.NewTicker(20 * time.Millisecond)
	defer poll.Stop()
	for {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, s.URL+"/-/ready", nil)
		if err != nil {
			return err
		}
		request.Close = true
		if response, err := http.DefaultClient.Do(request); err == nil {
			response.Body.Close()
			if response.StatusCode == http.StatusOK {
				return nil
			}
		}
		select {
		case <-poll.C:
		case <-s.ended:
			return fmt.Errorf("it ended: %w", s.err)
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// Rescrape replaces the jobs of a running server.
func (s *Server) Rescrape(scrapes []Scrape) error {
	s.config.Scrapes = scrapes
	if err := s.config.write(); err != nil {
		return err
	}
	if err := s.cmd.Process.Signal(syscall.SIGHUP); err != nil {
		return fmt.Errorf("reload prometheus: %w", err)
	}
	return nil
}

// Ended is closed when the process has ended, by Stop or by itself.
func (s *Server) Ended() <-chan struct{} { return s.ended }

// PID is the process' id.
func (s *Server) PID() int { return s.cmd.Process.Pid }

// Stop ends the server and waits for it. A second call does nothing more.
func (s *Server) Stop() error {
	select {
	case <-s.ended:
		return nil
	default:
	}
	if err := s.cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("stop prometheus: %w", err)
	}
	limit := time.NewTimer(stopLimit)
	defer limit.Stop()
	select {
	case <-s.ended:
	case <-limit.C:
		if err := s.cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
			return fmt.Errorf("stop prometheus: %w", err)
		}
		<-s.ended
	}
	return nil
}

func (c Config) file() string { return filepath.Join(c.Dir, "prometheus.yml") }

func (c Config) write() error {
	text, err := c.YAML()
	if err != nil {
		return fmt.Errorf("write the configuration of prometheus: %w", err)
	}
	if err := os.WriteFile(c.file(), text, 0o600); err != nil {
		return fmt.Errorf("write the configuration of prometheus: %w", err)
	}
	return nil
}
