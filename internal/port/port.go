// Package port opens the HTTP ports of all binaries alike: with limits on what a
// slow or flooding client can hold, and to strangers only where the settings say
// that in so many words.
package port

import (
	"context"
	"errors"
	"fmt"
	"log"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/prometheus/exporter-toolkit/web"
	"go.yaml.in/yaml/v3"

	"github.com/headgate/headgate/access"
	"github.com/headgate/headgate/internal/invalid"
	"github.com/headgate/headgate/internal/reply"
)

// AllowSetting is the variable that lets strangers in.
const AllowSetting = "HEADGATE_ALLOW_UNAUTHENTICATED"

// Port is one to open.
type Port struct {
	Setting string // variable or key that gives the address
	Address string // host:port

	WebSetting    string // variable that names the web configuration file
	WebConfigFile string // with TLS and users; none where empty

	AccessSetting string // variable that names the guard's file
	Guard         *access.Guard

	Allowed bool // whether strangers may be let in, by AllowSetting
}

// Check reports what is wrong with a port, joined: each is an *invalid.Value.
func (p Port) Check() error {
	content, err := ReadWebConfig(p.WebConfigFile)
	if err != nil {
		return invalid.New(p.WebSetting, p.WebConfigFile, "a Prometheus web configuration file: "+err.Error())
	}
	if p.Guard.Asks() && len(content.Users) > 0 {
		return invalid.New(p.WebSetting, p.WebConfigFile, "a file without basic_auth_users beside "+p.AccessSetting+
			": clients with tokens could not come through, and a token of the access file is a password too")
	}
	return CheckStrangers(p.Setting, p.Address, p.Guard.Asks() || authenticates(content), p.Allowed,
		p.AccessSetting+", or "+p.WebSetting+" with users or the client_auth_type RequireAndVerifyClientCert")
}

// authenticates reports whether a web configuration lets nobody in who has not
// said who it is.
func authenticates(c *web.Config) bool {
	return len(c.Users) > 0 || c.TLSConfig.ClientAuth == "RequireAndVerifyClientCert"
}

// CheckStrangers reports an address that strangers can reach, where they are
// neither asked who they are nor said to be allowed. How they could be asked is
// in words. The error is an *invalid.Value.
func CheckStrangers(setting, address string, authenticated, allowed bool, how string) error {
	if authenticated || allowed || Loopback(address) {
		return nil
	}
	return invalid.New(setting, address, "an address of this machine alone such as 127.0.0.1:8080, or authentication by "+
		how+", or "+AllowSetting+"=true to let in everyone who can reach it")
}

// Loopback reports whether only this machine can reach an address.
func Loopback(address string) bool {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return false
	}
	return host == "localhost" || net.ParseIP(host).IsLoopback()
}

// ReadWebConfig reads and checks a web configuration file; without a file it is
// empty. The error repeats no value, for some of them are secrets.
func ReadWebConfig(file string) (*web.Config, error) {
	var content web.Config
	if file == "" {
		return &content, nil
	}
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	if err := web.Validate(file); err != nil {
		return nil, invalid.WithoutValues(err)
	}
	if err := yaml.Unmarshal(data, &content); err != nil {
		return nil, invalid.WithoutValues(err)
	}
	content.TLSConfig.SetDirectory(filepath.Dir(file))
	return &content, nil
}

// Server is a port that is open. It is made by Open.
type Server struct {
	http          *http.Server
	listener      net.Listener
	webConfigFile string
	log           *slog.Logger
}

// Open opens the port, which has to be right by Check, and answers nobody yet.
// Requests have base as their context.
func (p Port) Open(base context.Context, handler http.Handler, limits Limits, log *slog.Logger) (*Server, error) {
	content, err := ReadWebConfig(p.WebConfigFile)
	if err != nil {
		return nil, fmt.Errorf("read the web configuration file: %w", err)
	}
	listener, err := limits.Listen(p.Address)
	if err != nil {
		return nil, err
	}
	asked := p.Guard.Asks() || authenticates(content)
	WarnOfStrangers(log, p.Setting, listener.Addr().String(), asked)
	if !asked && !p.Allowed {
		handler = localNames(handler)
	}
	server := limits.server(handler)
	server.ErrorLog = errorLog(log)
	server.BaseContext = func(net.Listener) context.Context { return base }
	return &Server{server, listener, p.WebConfigFile, log}, nil
}

// WarnOfStrangers says that strangers can reach an address and are not asked who
// they are, where that is so.
func WarnOfStrangers(log *slog.Logger, setting, address string, authenticated bool) {
	if !authenticated && !Loopback(address) {
		log.Warn("everyone who can reach this port may use it, and nobody is asked who it is", "setting", setting, "address", address,
			"allowed_by", AllowSetting)
	}
}

// Address is where the port is, with its number where 0 was asked for.
func (s *Server) Address() string { return s.listener.Addr().String() }

// Serve answers until Shutdown, which is no error.
func (s *Server) Serve() error {
	flags := &web.FlagConfig{WebConfigFile: &s.webConfigFile}
	if err := web.Serve(s.listener, s.http, flags, s.log); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve HTTP: %w", err)
	}
	return nil
}

// Close closes a port that was opened and is not served.
func (s *Server) Close() { s.listener.Close() }

// Shutdown closes the port, gives requests under way so long to end, and breaks
// off those that do not.
func (s *Server) Shutdown(limit time.Duration) error {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	err := s.http.Shutdown(ctx)
	if errors.Is(err, context.DeadlineExceeded) {
		s.log.Warn("requests did not end in time and are broken off", "address", s.Address(), "limit", limit)
		err = s.http.Close()
	}
	return err
}

// localNames answers none but requests to names of this machine. A page whose
// site gave its own name this machine's address would be of the same origin as
// this port, and could ask it for anything.
func localNames(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !local(r.Host) {
			reply.JSON(w, http.StatusMisdirectedRequest, map[string]string{
				"error": fmt.Sprintf("this port is for its own machine alone, and %.100q is no name of it: ask for localhost, or set %s", r.Host, AllowSetting),
			})
			return
		}
		next.ServeHTTP(w, r)
	})
}

// local reports whether a Host header has a name that nobody else can give.
func local(host string) bool {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	host = strings.TrimSuffix(strings.TrimPrefix(host, "["), "]")
	name := strings.ToLower(strings.TrimSuffix(host, "."))
	return host == "" || net.ParseIP(host) != nil || name == "localhost" || strings.HasSuffix(name, ".localhost")
}

// errorLog takes what net/http says. What any stranger can make it say at will
// is for those who look for it.
func errorLog(to *slog.Logger) *log.Logger {
	return log.New(errorWriter{to}, "", 0)
}

type errorWriter struct{ log *slog.Logger }

func (w errorWriter) Write(line []byte) (int, error) {
	text := strings.TrimSuffix(string(line), "\n")
	level := slog.LevelWarn
	if strings.HasPrefix(text, "http: TLS handshake error") || strings.HasPrefix(text, "http2:") {
		level = slog.LevelDebug
	}
	w.log.Log(context.Background(), level, text)
	return len(line), nil
}
