package node

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/cri-streaming/pkg/streaming"
	"k8s.io/cri-streaming/pkg/streaming/portforward"
	"k8s.io/cri-streaming/pkg/streaming/remotecommand"
	utilexec "k8s.io/utils/exec"

	"github.com/headgate/headgate/e2e/cluster"
)

// open begins to listen for the API server, on the loopback.
func (n *Node) open() error {
	authority, err := cluster.NewAuthority("headgate-node")
	if err != nil {
		return err
	}
	certificate, key, err := authority.Issue(Name, "127.0.0.1")
	if err != nil {
		return err
	}
	pair, err := tls.X509KeyPair(certificate, key)
	if err != nil {
		return err
	}
	if n.listen, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
		return err
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /containerLogs/{namespace}/{pod}/{container}", n.serveLogs)
	mux.HandleFunc("/exec/{namespace}/{pod}/{container}", n.serveExec)
	mux.HandleFunc("/portForward/{namespace}/{pod}", n.servePortForward)
	n.server = &http.Server{
		Handler: mux, ReadHeaderTimeout: 10 * time.Second,
		ErrorLog: slog.NewLogLogger(n.log.Handler(), slog.LevelWarn),
		// The streams of port-forward are of HTTP 1.1, which is upgraded.
		TLSConfig:    &tls.Config{Certificates: []tls.Certificate{pair}, NextProtos: []string{"http/1.1"}},
		TLSNextProto: map[string]func(*http.Server, *tls.Conn, http.Handler){},
	}
	return nil
}

// serve answers the API server until the server is closed.
func (n *Node) serve() {
	if err := n.server.ServeTLS(n.listen, "", ""); !errors.Is(err, http.ErrServerClosed) {
		n.log.Error("the API server is not answered any more", "error", err)
	}
}

// register tells the API server where the node is reached.
func (n *Node) register(ctx context.Context) error {
	node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: Name}}
	node, err := n.client.CoreV1().Nodes().Create(ctx, node, metav1.CreateOptions{})
	if err != nil {
		return fmt.Errorf("register the node: %w", err)
	}
	port := n.listen.Addr().(*net.TCPAddr).Port
	node.Status = corev1.NodeStatus{
		Addresses:       []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: "127.0.0.1"}},
		DaemonEndpoints: corev1.NodeDaemonEndpoints{KubeletEndpoint: corev1.DaemonEndpoint{Port: int32(port)}},
		Conditions:      []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue, LastHeartbeatTime: metav1.Now()}},
	}
	if _, err := n.client.CoreV1().Nodes().UpdateStatus(ctx, node, metav1.UpdateOptions{}); err != nil {
		return fmt.Errorf("register the node: %w", err)
	}
	return nil
}

// pod finds the one that a request is about, or answers that there is none.
func (n *Node) pod(w http.ResponseWriter, r *http.Request) *Pod {
	key := r.PathValue("namespace") + "/" + r.PathValue("pod")
	n.mu.Lock()
	defer n.mu.Unlock()
	pod := n.pods[key]
	if pod == nil || pod.spec.Binary == "" {
		http.Error(w, fmt.Sprintf("pod %s does not run", key), http.StatusNotFound)
		return nil
	}
	return pod
}

// serveLogs answers with the log of a pod's process. No pod is as old as the
// times by which logs are asked for, so these are passed over.
func (n *Node) serveLogs(w http.ResponseWriter, r *http.Request) {
	pod := n.pod(w, r)
	if pod == nil {
		return
	}
	text, err := os.ReadFile(pod.LogPath())
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	if tail := r.URL.Query().Get("tailLines"); tail != "" {
		lines := strings.SplitAfter(string(text), "\n")
		count, err := strconv.Atoi(tail)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		text = []byte(strings.Join(lines[max(0, len(lines)-1-count):], ""))
	}
	_, _ = w.Write(text) // whoever asked is gone where this fails
}

func (n *Node) serveExec(w http.ResponseWriter, r *http.Request) {
	pod := n.pod(w, r)
	if pod == nil {
		return
	}
	options, err := remotecommand.NewOptions(r)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	usual := streaming.DefaultConfig
	remotecommand.ServeExec(w, r, container{n, pod}, pod.Name, "", r.PathValue("container"), r.URL.Query()["command"], options,
		usual.StreamIdleTimeout, usual.StreamCreationTimeout, usual.SupportedRemoteCommandProtocols)
}

func (n *Node) servePortForward(w http.ResponseWriter, r *http.Request) {
	pod := n.pod(w, r)
	if pod == nil {
		return
	}
	options, err := portforward.NewV4Options(r)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	usual := streaming.DefaultConfig
	portforward.ServePortForward(w, r, container{n, pod}, pod.Name, "", options,
		usual.StreamIdleTimeout, usual.StreamCreationTimeout, usual.SupportedPortForwardProtocols)
}

// container is what stands for a pod's container.
type container struct {
	node *Node
	pod  *Pod
}

// ExecInContainer runs a program of the product beside the pod's process, with
// its environment and files. The image has no other programs.
func (c container) ExecInContainer(ctx context.Context, _, _, _ string, command []string, in io.Reader, out, stderr io.WriteCloser, _ bool, _ <-chan remotecommand.TerminalSize, _ time.Duration) error {
	c.node.mu.Lock()
	spec, folders := c.pod.spec, c.pod.folders
	c.node.mu.Unlock()
	if len(command) == 0 || path.Base(command[0]) != filepath.Base(spec.Binary) || path.Dir(command[0]) != "/" {
		return fmt.Errorf("the image has no program %q", command)
	}
	var args []string
	for _, arg := range command[1:] {
		args = append(args, c.pod.substitute(arg, folders))
	}
	run := exec.CommandContext(ctx, spec.Binary, args...)
	run.Env, run.Dir = spec.Env, cmp.Or(spec.Dir, c.pod.dir)
	run.Stdin, run.Stdout, run.Stderr = in, out, stderr
	err := run.Run()
	var ended *exec.ExitError
	if errors.As(err, &ended) {
		return utilexec.CodeExitError{Err: err, Code: ended.ExitCode()}
	}
	return err
}

// PortForward connects a stream with a port of the pod.
func (c container) PortForward(ctx context.Context, _, _ string, port int32, stream io.ReadWriteCloser) error {
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, "tcp", c.pod.Address(int(port)))
	if err != nil {
		return err
	}
	defer conn.Close()
	back := make(chan error, 1)
	go func() {
		_, err := io.Copy(stream, conn)
		stream.Close() // and so ends what is copied the other way
		back <- err
	}()
	_, err = io.Copy(conn, stream)
	if half, is := conn.(*net.TCPConn); is {
		err = errors.Join(err, half.CloseWrite())
	}
	return errors.Join(err, <-back)
}
