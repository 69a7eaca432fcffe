package scenario

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/headgate/headgate/e2e/cluster"
	"github.com/headgate/headgate/internal/pages"
)

// Docs: the commands of the docs that are marked "sh cluster" work on a real
// cluster, as they stand there: with kubectl and helm, in the namespace that the
// manifests name. A page that installs something begins without it; the others
// find what the guide to the manifests installed.
var Docs = Scenario{Name: "docs", Namespace: shippedNamespace, Limit: 15 * time.Minute, Run: func(ctx context.Context, e *Env) error {
	d, err := e.newDocs()
	if err != nil {
		return err
	}
	all, err := pages.Read(e.Root)
	if err != nil {
		return err
	}
	// Installing pages first, and of them last the one on whose installation the
	// others work.
	var first, last, rest []pages.Page
	for _, p := range all {
		switch {
		case p.Path == guide:
			last = append(last, p)
		case installs(d.commands(p)):
			first = append(first, p)
		default:
			rest = append(rest, p)
		}
	}
	ran, of := 0, 0
	for _, p := range append(append(first, last...), rest...) {
		own := d.commands(p)
		if len(own) == 0 {
			continue
		}
		n, err := d.run(ctx, p, own)
		if err != nil {
			return err
		}
		ran, of = ran+n, of+1
	}
	if ran == 0 {
		return errors.New("no page has commands for a cluster")
	}
	e.Figure("blocks", ran)
	e.Figure("pages", of)
	return nil
}}

// guide is the page on the manifests.
const guide = "deploy/keda/README.md"

// docs runs the commands of pages.
type docs struct {
	*Env
	dir     string // a copy of the repository, whose manifests fit this cluster
	session pages.Session
	ran     map[string]bool // what was run already, as it stands in a page
}

func (e *Env) newDocs() (*docs, error) {
	d := &docs{Env: e, dir: filepath.Join(e.dir, "repository"), ran: map[string]bool{}}
	if err := pages.Copy(e.Root, d.dir); err != nil {
		return nil, err
	}
	// What an overlay of a user's own would say.
	fit := strings.NewReplacer(
		shippedPrometheus, e.Prometheus.URL,
		"dns+http://pipelines.headgate.svc", "http://"+e.Node.Address(e.Namespace, "pipeline"),
		"dns+http://pipelines.{{ .Release.Namespace }}.svc", "http://"+e.Node.Address(e.Namespace, "pipeline"),
		shippedPipeline, e.Node.Address(e.Namespace, "pipeline"),
		"pipeline.{{ .Release.Namespace }}.svc", e.Node.Address(e.Namespace, "pipeline"),
		shippedScaler, e.Node.Address(e.Namespace, "external-scaler"),
		`printf "external-scaler.%s.svc:6000" .Release.Namespace`, `"`+e.Node.Address(e.Namespace, "external-scaler")+`:6000"`,
	)
	err := filepath.WalkDir(filepath.Join(d.dir, "deploy"), func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		return os.WriteFile(path, []byte(fit.Replace(string(data))), 0o644)
	})
	if err != nil {
		return nil, fmt.Errorf("fit the manifests: %w", err)
	}
	tools := filepath.Join(e.dir, "tools")
	if err := os.MkdirAll(tools, 0o755); err != nil {
		return nil, err
	}
	for _, name := range []string{"kubectl", "helm", "kustomize"} {
		if err := os.Symlink(e.Programs[name], filepath.Join(tools, name)); err != nil {
			return nil, err
		}
	}
	d.session = pages.Session{
		Dir: d.dir,
		Environ: []string{
			"PATH=" + tools + ":" + e.Binaries + ":" + os.Getenv("PATH"), "HOME=" + e.dir, "USER=somebody", "KUBECONFIG=" + e.Cluster.Kubeconfig(),
		},
		// A search of a log that finds nothing is none of a command's faults.
		Stage: `grep() { command grep "$@" || test $? = 1; }`,
		Edit:  strings.NewReplacer("postgres://user:password@host:5432/database", e.Store.URL+"&pool_max_conns=2").Replace,
	}
	return d, nil
}

// commands are the page's for a cluster, and its files.
func (d *docs) commands(p pages.Page) []pages.Block {
	var own []pages.Block
	commands := false
	for _, b := range p.Blocks {
		if b.File() || b.Commands(pages.Cluster) && !d.ran[b.Text] {
			own = append(own, b)
			commands = commands || !b.File()
		}
	}
	if !commands {
		return nil
	}
	return own
}

func installs(all []pages.Block) bool {
	for _, b := range all {
		if !b.File() && (strings.Contains(b.Text, "helm install") || strings.Contains(b.Text, "kubectl apply -k")) {
			return true
		}
	}
	return false
}

// settled waits until what was installed works and KEDA has asked for it, as
// somebody at a keyboard would before the next command.
const settled = `for component in pipeline controller external-scaler; do
  kubectl -n headgate rollout status --timeout=90s deployment/$component
done
kubectl -n headgate wait --timeout=60s --for=condition=Ready scaledobject/pipeline
`

// run runs the commands of a page in one shell and returns how many there were.
func (d *docs) run(ctx context.Context, p pages.Page, own []pages.Block) (int, error) {
	if installs(own) {
		if err := d.clear(ctx); err != nil {
			return 0, err
		}
	}
	var all []pages.Block
	for _, b := range own {
		all = append(all, b)
		if strings.Contains(b.Text, "create secret generic store") {
			all = append(all, pages.Block{Page: b.Page, Line: b.Line, Language: "sh", Text: settled})
		}
		if strings.Contains(b.Text, "port-forward") && !strings.Contains(b.Text, "curl") {
			all = append(all, pages.Block{Page: b.Page, Line: b.Line, Language: "sh", Text: forwarded(b.Text)})
		}
	}
	outcomes, err := d.session.Run(ctx, all)
	if err != nil {
		return 0, fmt.Errorf("%s: %w", p.Path, err)
	}
	for _, o := range outcomes {
		if o.Err != nil {
			return 0, fmt.Errorf("%v: %w\n%s\n%s", o.Block, o.Err, o.Text, o.Output)
		}
		d.ran[o.Text] = true
	}
	d.Say("%s: %d blocks of commands", p.Path, len(outcomes))
	return len(outcomes), nil
}

// forwarded asks the health at each port that is forwarded.
func forwarded(text string) string {
	var b strings.Builder
	for _, port := range []string{"8080", "9400", "8081"} {
		if strings.Contains(text, " "+port) {
			fmt.Fprintf(&b, "curl -sSf --retry 20 --retry-delay 1 --retry-connrefused http://127.0.0.1:%s/-/healthy\n", port)
		}
	}
	return b.String()
}

// clear takes away all that was installed, the namespace included.
func (d *docs) clear(ctx context.Context) error {
	ctx, cancel := within(ctx, 2*time.Minute, "clearing the namespace")
	defer cancel()
	objects := d.Cluster.Dynamic.Resource(cluster.ScaledObjects).Namespace(d.Namespace)
	if err := objects.DeleteCollection(ctx, metav1.DeleteOptions{}, listAll); err != nil {
		return fmt.Errorf("clear the namespace: %w", err)
	}
	namespaces := d.Cluster.Client.CoreV1().Namespaces()
	if err := namespaces.Delete(ctx, d.Namespace, deleteNow); err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("clear the namespace: %w", err)
	}
	if err := d.Node.Await(ctx, d.Namespace); err != nil {
		return err
	}
	err := cluster.Poll(ctx, func(ctx context.Context) error {
		_, err := namespaces.Get(ctx, d.Namespace, metav1.GetOptions{})
		switch {
		case apierrors.IsNotFound(err):
			return nil
		case err == nil:
			return errors.New("the namespace is still there")
		}
		return err
	})
	if err != nil {
		return err
	}
	_, err = d.Cluster.ApplyYAML(ctx, "apiVersion: v1\nkind: Namespace\nmetadata: {name: "+d.Namespace+"}\n")
	return err
}
