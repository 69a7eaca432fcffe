// Package node does the kubelet's part for a cluster without nodes: for each
// pod it runs the real binary as a process, with the environment, the files and
// the address that the pod would have, and tells the API server how it fares. The
// API server reaches it for what kubectl asks of a kubelet: logs, exec and
// port-forward.
//
// A pod's address is one of its own out of 127.0.0.0/8, so that all replicas
// listen on their usual ports; no two nodes on a machine give the same. What a
// network namespace and a container's own root would give is done by
// substitution: 0.0.0.0 in a setting becomes the pod's address, and the path of
// a mounted volume the folder that stands for it.
package node

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"

	"github.com/headgate/headgate/internal/process"
)

const (
	// Name is the one node's.
	Name = "loopback"

	// ComponentLabel says which part of the product a pod is. Pods of one
	// component in one namespace have addresses that follow one another.
	ComponentLabel = "app.kubernetes.io/component"

	// claimPort is where a second byte of addresses is held. No pod listens at the
	// address.
	claimPort = 9400

	probeEvery   = 100 * time.Millisecond
	restartAfter = time.Second
)

// Node runs pods. Its methods may be called by several goroutines.
type Node struct {
	client   kubernetes.Interface
	dir      string // with a folder for each pod
	binaries string // folder of the product's programs
	log      *slog.Logger

	group  sync.WaitGroup
	server *http.Server // that the API server asks
	listen net.Listener

	mu         sync.Mutex
	namespaces map[string]byte     // second byte of the addresses of a namespace
	claims     []net.Listener      // that hold them
	components map[string]byte     // third byte, by namespace/component
	slots      map[string][]string // names of the pods of a component, by place; "" is free
	pods       map[string]*Pod     // by namespace/name
	held       map[string]bool     // components that are not run, by namespace/component
	targets    map[string]string   // file of scrape targets, by namespace
}

// Pod is one pod and its process.
type Pod struct {
	Namespace, Name, Component, IP string

	object *corev1.Pod
	dir    string
	stop   context.CancelFunc // has the process ended, and the pod deleted

	// Under Node.mu:
	process     *process.Process
	spec        process.Spec      // what is run, once that is known
	folders     map[string]string // that stand for the container's, by its paths
	ready       bool
	terminating bool
}

// Address is the pod's address with a port.
func (p *Pod) Address(port int) string { return fmt.Sprintf("%s:%d", p.IP, port) }

// LogPath is where the pod's process logs.
func (p *Pod) LogPath() string { return filepath.Join(p.dir, p.Component+".log") }

// New returns a node. Folder binaries holds the product's programs.
func New(client kubernetes.Interface, dir, binaries string, log *slog.Logger) (*Node, error) {
	n := &Node{
		client: client, dir: dir, binaries: binaries, log: log,
		namespaces: map[string]byte{}, components: map[string]byte{}, slots: map[string][]string{},
		pods: map[string]*Pod{}, held: map[string]bool{}, targets: map[string]string{},
	}
	return n, n.open()
}

// Run runs pods until ctx ends, then ends their processes.
func (n *Node) Run(ctx context.Context) error {
	n.group.Go(n.serve)
	defer n.group.Wait()
	defer n.server.Close()
	if err := n.register(ctx); err != nil {
		return err
	}
	factory := informers.NewSharedInformerFactory(n.client, 0)
	informer := factory.Core().V1().Pods().Informer()
	_, err := informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    func(o any) { n.see(ctx, o) },
		UpdateFunc: func(_, o any) { n.see(ctx, o) },
		DeleteFunc: func(o any) { n.gone(o) },
	})
	if err != nil {
		return err
	}
	factory.Start(ctx.Done())
	<-ctx.Done()
	factory.Shutdown()
	n.server.Close()
	n.group.Wait()
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, claim := range n.claims {
		claim.Close()
	}
	return nil
}

// see looks at a pod that is new or has changed.
func (n *Node) see(ctx context.Context, o any) {
	object := o.(*corev1.Pod)
	key := object.Namespace + "/" + object.Name
	n.mu.Lock()
	defer n.mu.Unlock()
	pod, known := n.pods[key]
	switch {
	case known && object.DeletionTimestamp != nil && !pod.terminating:
		pod.terminating, pod.ready = true, false
		pod.stop()
	case !known && object.DeletionTimestamp == nil:
		component := object.Labels[ComponentLabel]
		if component == "" {
			return
		}
		pod := &Pod{
			Namespace: object.Namespace, Name: object.Name, Component: component,
			IP: n.address(object.Namespace, component, object.Name), object: object,
			dir: filepath.Join(n.dir, object.Namespace, object.Name),
		}
		podCtx, stop := context.WithCancel(ctx)
		pod.stop = stop
		n.pods[key] = pod
		n.group.Go(func() { n.run(podCtx, pod) })
	}
}

// gone ends the process of a pod that vanished without being told to.
func (n *Node) gone(o any) {
	if tombstone, is := o.(cache.DeletedFinalStateUnknown); is {
		o = tombstone.Obj
	}
	object, is := o.(*corev1.Pod)
	if !is {
		return
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if pod, known := n.pods[object.Namespace+"/"+object.Name]; known && pod.object.UID == object.UID {
		pod.terminating, pod.ready = true, false
		pod.stop()
	}
}

// address gives a pod the lowest free address of its component. n.mu is held.
func (n *Node) address(namespace, component, pod string) string {
	key := namespace + "/" + component
	slot := slices.Index(n.slots[key], "")
	if slot < 0 {
		slot = len(n.slots[key])
		n.slots[key] = append(n.slots[key], "")
	}
	n.slots[key][slot] = pod
	return n.addressOf(namespace, component, slot)
}

func (n *Node) addressOf(namespace, component string, slot int) string {
	if _, known := n.namespaces[namespace]; !known {
		n.namespaces[namespace] = n.claim()
	}
	key := namespace + "/" + component
	if _, known := n.components[key]; !known {
		n.components[key] = byte(len(n.components) % 250)
	}
	return fmt.Sprintf("127.%d.%d.%d", n.namespaces[namespace], n.components[key], slot+1)
}

// claim finds a second byte that no other node on this machine has given to a
// namespace of its own: whoever has it listens at its last address, until the
// node ends. Where all are taken, the pods will fail to listen. n.mu is held.
func (n *Node) claim() byte {
	for second := byte(10); second < 250; second++ {
		listener, err := net.Listen("tcp", fmt.Sprintf("127.%d.255.254:%d", second, claimPort))
		if err == nil {
			n.claims = append(n.claims, listener)
			return second
		}
	}
	return 0
}

// Address is the address that the first pod of a component has, or will have:
// what a Service in front of a single pod stands for.
func (n *Node) Address(namespace, component string) string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.addressOf(namespace, component, 0)
}

// ScrapeInto has the addresses of a namespace's pods that ask to be scraped
// kept in a file for Prometheus.
func (n *Node) ScrapeInto(namespace, file string) error {
	n.mu.Lock()
	n.targets[namespace] = file
	n.mu.Unlock()
	return n.tellPrometheus(namespace)
}

// tellPrometheus writes the addresses of a namespace's running pods, those that
// are ending included: what they do last is counted too.
func (n *Node) tellPrometheus(namespace string) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	file, asked := n.targets[namespace]
	if !asked {
		return nil
	}
	type group struct {
		Targets []string          `json:"targets"`
		Labels  map[string]string `json:"labels"`
	}
	groups := []group{}
	for _, pod := range n.pods {
		annotations := pod.object.Annotations
		if pod.Namespace != namespace || pod.process == nil || annotations["prometheus.io/scrape"] != "true" {
			continue
		}
		groups = append(groups, group{
			Targets: []string{pod.IP + ":" + annotations["prometheus.io/port"]},
			Labels:  map[string]string{"job": pod.Component, "namespace": namespace, "pod": pod.Name},
		})
	}
	slices.SortFunc(groups, func(a, b group) int { return slices.Compare(a.Targets, b.Targets) })
	data, err := json.Marshal(groups)
	if err != nil {
		return err
	}
	if err := os.WriteFile(file+".new", data, 0o644); err != nil {
		return err
	}
	return os.Rename(file+".new", file) // Prometheus never reads half of it
}

// Pods lists the pods of a component whose processes are ready, by name.
func (n *Node) Pods(namespace, component string) []*Pod {
	n.mu.Lock()
	defer n.mu.Unlock()
	var all []*Pod
	for _, pod := range n.pods {
		if pod.Namespace == namespace && pod.Component == component && pod.ready {
			all = append(all, pod)
		}
	}
	slices.SortFunc(all, func(a, b *Pod) int {
		if a.Name < b.Name {
			return -1
		}
		return 1
	})
	return all
}

// Logs lists the log files of a namespace's pods, those of ended ones too.
func (n *Node) Logs(namespace string) []string {
	paths, _ := filepath.Glob(filepath.Join(n.dir, namespace, "*", "*.log"))
	return paths
}

// Hold kills the processes of a component and starts none until Release.
func (n *Node) Hold(namespace, component string) {
	n.mu.Lock()
	n.held[namespace+"/"+component] = true
	var running []*process.Process
	for _, pod := range n.pods {
		if pod.Namespace == namespace && pod.Component == component && pod.process != nil {
			running = append(running, pod.process)
		}
	}
	n.mu.Unlock()
	for _, p := range running {
		p.Kill()
	}
}

// Release lets the processes of a component run again.
func (n *Node) Release(namespace, component string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.held, namespace+"/"+component)
}

// Processes lists the running processes of a component.
func (n *Node) Processes(namespace, component string) []*process.Process {
	n.mu.Lock()
	defer n.mu.Unlock()
	var all []*process.Process
	for _, pod := range n.pods {
		if pod.Namespace == namespace && pod.Component == component && pod.process != nil {
			all = append(all, pod.process)
		}
	}
	return all
}

// run binds a pod, runs its process as long as the pod is wanted, and has the
// pod deleted at the end.
func (n *Node) run(ctx context.Context, pod *Pod) {
	log := n.log.With("pod", pod.Namespace+"/"+pod.Name)
	if pod.object.Spec.NodeName == "" {
		err := n.client.CoreV1().Pods(pod.Namespace).Bind(ctx, &corev1.Binding{
			ObjectMeta: metav1.ObjectMeta{Name: pod.Name, UID: pod.object.UID},
			Target:     corev1.ObjectReference{Kind: "Node", Name: Name},
		}, metav1.CreateOptions{})
		if err != nil && ctx.Err() == nil {
			log.Error("pod could not be bound", "error", err)
		}
	}
	for restarts, told := 0, ""; ctx.Err() == nil; {
		// What a pod needs may come later, such as a Secret.
		spec, err := n.prepare(ctx, pod)
		switch {
		case err == nil:
			n.runOnce(ctx, pod, spec, restarts, log)
			restarts++
		case err.Error() != told && ctx.Err() == nil:
			told = err.Error()
			log.Error("pod could not be prepared", "error", err)
			n.tell(ctx, pod, corev1.PodPending, false, told)
		}
		select {
		case <-ctx.Done():
		case <-time.After(restartAfter):
		}
	}

	n.mu.Lock()
	terminating := pod.terminating
	key := pod.Namespace + "/" + pod.Component
	if slot := slices.Index(n.slots[key], pod.Name); slot >= 0 {
		n.slots[key][slot] = ""
	}
	delete(n.pods, pod.Namespace+"/"+pod.Name)
	n.mu.Unlock()
	if !terminating {
		return // the harness ends, and the cluster with it
	}
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	// The pod may be gone already, and another one have its name.
	_ = n.client.CoreV1().Pods(pod.Namespace).Delete(last, pod.Name, metav1.DeleteOptions{
		GracePeriodSeconds: new(int64(0)), Preconditions: &metav1.Preconditions{UID: &pod.object.UID},
	})
}

// runOnce runs the pod's process until it ends or the pod is to end.
func (n *Node) runOnce(ctx context.Context, pod *Pod, spec process.Spec, restarts int, log *slog.Logger) {
	n.mu.Lock()
	held := n.held[pod.Namespace+"/"+pod.Component]
	n.mu.Unlock()
	if held {
		return
	}
	p, err := process.Start(spec)
	if err != nil {
		log.Error("process could not be started", "error", err)
		return
	}
	n.mu.Lock()
	pod.process = p
	n.mu.Unlock()
	if err := n.tellPrometheus(pod.Namespace); err != nil {
		log.Error("scrape targets could not be written", "error", err)
	}
	n.tell(ctx, pod, corev1.PodRunning, false, "")
	if n.awaitReady(ctx, pod, p) {
		n.mu.Lock()
		pod.ready = !pod.terminating
		n.mu.Unlock()
		n.tell(ctx, pod, corev1.PodRunning, true, "")
	}
	select {
	case <-p.Ended():
		log.Info("process ended", "error", p.Err(), "restarts", restarts)
	case <-ctx.Done():
		grace := 30 * time.Second
		if seconds := pod.object.Spec.TerminationGracePeriodSeconds; seconds != nil {
			grace = time.Duration(*seconds) * time.Second
		}
		if err := p.Stop(grace); err != nil {
			log.Warn("process did not end by itself", "error", err)
		}
	}
	n.mu.Lock()
	pod.process, pod.ready = nil, false
	n.mu.Unlock()
	if err := n.tellPrometheus(pod.Namespace); err != nil {
		log.Error("scrape targets could not be written", "error", err)
	}
	if ctx.Err() == nil {
		n.tell(ctx, pod, corev1.PodRunning, false, "its process ended")
	}
}

// awaitReady asks the pod's readiness probe until it succeeds, and reports
// whether it did before the process or the pod ended.
func (n *Node) awaitReady(ctx context.Context, pod *Pod, p *process.Process) bool {
	probe := pod.object.Spec.Containers[0].ReadinessProbe
	if probe == nil || probe.HTTPGet == nil {
		return true
	}
	port := probe.HTTPGet.Port.IntValue()
	for _, named := range pod.object.Spec.Containers[0].Ports {
		if named.Name == probe.HTTPGet.Port.StrVal {
			port = int(named.ContainerPort)
		}
	}
	url := "http://" + pod.Address(port) + probe.HTTPGet.Path
	client := &http.Client{Timeout: time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	ticks := time.NewTicker(probeEvery)
	defer ticks.Stop()
	for {
		if response, err := client.Get(url); err == nil {
			_, _ = io.Copy(io.Discard, response.Body)
			response.Body.Close()
			if response.StatusCode < 400 {
				return true
			}
		}
		select {
		case <-ticks.C:
		case <-p.Ended():
			return false
		case <-ctx.Done():
			return false
		}
	}
}

// tell writes the pod's status.
func (n *Node) tell(ctx context.Context, pod *Pod, phase corev1.PodPhase, ready bool, message string) {
	state := corev1.ConditionFalse
	if ready {
		state = corev1.ConditionTrue
	}
	now := metav1.Now()
	conditions := []corev1.PodCondition{
		{Type: corev1.PodScheduled, Status: corev1.ConditionTrue, LastTransitionTime: now},
		{Type: corev1.PodInitialized, Status: corev1.ConditionTrue, LastTransitionTime: now},
		{Type: corev1.ContainersReady, Status: state, LastTransitionTime: now, Message: message},
		{Type: corev1.PodReady, Status: state, LastTransitionTime: now, Message: message},
	}
	patch, err := json.Marshal(map[string]any{
		"metadata": map[string]any{"uid": pod.object.UID}, // this pod, not a later one of its name
		"status": corev1.PodStatus{
			Phase: phase, Conditions: conditions, PodIP: pod.IP, PodIPs: []corev1.PodIP{{IP: pod.IP}},
			HostIP: "127.0.0.1", StartTime: &now,
			ContainerStatuses: []corev1.ContainerStatus{{
				Name: pod.object.Spec.Containers[0].Name, Image: pod.object.Spec.Containers[0].Image,
				Ready: ready, Started: new(true), State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{StartedAt: now}},
			}},
		},
	})
	if err == nil {
		_, err = n.client.CoreV1().Pods(pod.Namespace).Patch(ctx, pod.Name, types.StrategicMergePatchType, patch, metav1.PatchOptions{}, "status")
	}
	n.mu.Lock()
	terminating := pod.terminating
	n.mu.Unlock()
	if err != nil && ctx.Err() == nil && !terminating {
		n.log.Error("status could not be written", "pod", pod.Name, "error", err)
	}
}

// Await waits until no pod of a namespace is run any more.
func (n *Node) Await(ctx context.Context, namespace string) error {
	ticks := time.NewTicker(probeEvery)
	defer ticks.Stop()
	for {
		n.mu.Lock()
		left := 0
		for _, pod := range n.pods {
			if pod.Namespace == namespace {
				left++
			}
		}
		n.mu.Unlock()
		if left == 0 {
			return nil
		}
		select {
		case <-ticks.C:
		case <-ctx.Done():
			return fmt.Errorf("%d pods of %s still run: %w", left, namespace, ctx.Err())
		}
	}
}

// Signal sends a signal to the processes of a component.
func (n *Node) Signal(namespace, component string, signal syscall.Signal) error {
	for _, p := range n.Processes(namespace, component) {
		if err := p.Signal(signal); err != nil {
			return err
		}
	}
	return nil
}
