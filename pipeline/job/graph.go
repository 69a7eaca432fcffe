package job

import (
	"fmt"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/headgate/headgate/internal/invalid"
)

// graph is the dag of a job while it is read.
type graph struct {
	nodes []Node
	lines map[string]int      // where each node stands
	from  map[string][]string // who feeds a node
}

func (g *graph) node(name string) *Node {
	i := slices.IndexFunc(g.nodes, func(n Node) bool { return n.Name == name })
	if i < 0 {
		return nil
	}
	return &g.nodes[i]
}

// graph reads the nodes and the edges and checks how they fit together.
func (r *reader) graph(dag entry, j *Job) *graph {
	g := &graph{lines: map[string]int{}, from: map[string][]string{}}
	var nodes, edges entry
	for _, e := range r.entries("dag", dag.value) {
		switch e.key {
		case "nodes":
			nodes = e
		case "edges":
			edges = e
		default:
			r.report(r.at(e.line, join("dag", e.key)), describe(e.value), "no such key: one of edges, nodes")
		}
	}
	whole := true // every node could be read
	all := r.entries("dag.nodes", nodes.value)
	for _, e := range all {
		whole = r.addNode(g, e, j) && whole
	}
	if len(all) == 0 {
		r.errs = append(r.errs, invalid.Missing(r.at(dag.line, "dag.nodes"), "at least a source and a sink"))
		return g
	}
	r.addEdges(g, edges, whole)
	if whole {
		r.checkShape(g)
		r.checkShared(g)
		r.checkAcknowledged(g)
	}
	return g
}

// addNode reads one node, and reports whether its type is known.
func (r *reader) addNode(g *graph, e entry, j *Job) bool {
	path := join("dag.nodes", e.key)
	if !nameRule.MatchString(e.key) {
		r.report(r.at(e.line, "dag.nodes"), e.key, wantName)
		return false
	}
	entries := r.entries(path, e.value)
	typed := &section{r: r, path: path, from: map[string]origin{}}
	for _, t := range entries {
		if t.key == "type" {
			typed.from["type"] = origin{line: t.line, text: t.value.Value}
		}
	}
	r.fromEnvironment(typed, "type", "type")
	kinds := Kinds()
	i := slices.IndexFunc(kinds, func(k Kind) bool { return k.Type == typed.from["type"].text })
	if i < 0 {
		var names []string
		for _, k := range kinds {
			names = append(names, k.Type)
		}
		want := "one of " + strings.Join(names, ", ")
		if typed.from["type"].text == "" {
			r.errs = append(r.errs, invalid.Missing(r.at(e.line, join(path, "type")), want))
		} else {
			typed.report("type", typed.from["type"].text, want)
		}
		// Its variables cannot be told from unknown ones.
		r.claimAll(path)
		return false
	}
	kind := kinds[i]
	n := Node{Name: e.key, Type: kind.Type, Role: kind.Role, Settings: kind.New()}
	s := r.fill(path, e.line, entries, n.Settings, "type")
	r.finish(s, &n, j)
	g.nodes = append(g.nodes, n)
	g.lines[n.Name] = e.line
	return true
}

// claimAll takes all variables of a section whose keys are not known.
func (r *reader) claimAll(path string) {
	prefix := Variable(path) + "_"
	for _, pair := range r.in.Environ {
		if name, _, _ := strings.Cut(pair, "="); strings.HasPrefix(name, prefix) {
			r.variables[name] = path
		}
	}
}

// addEdges reads the edges. Where not every node could be read, an edge to an
// unknown one is no fault of its own.
func (r *reader) addEdges(g *graph, edges entry, whole bool) {
	list := resolve(edges.value)
	if list == nil || list.Tag == "!!null" {
		return
	}
	const want = "a list of pairs such as [from, to]"
	if list.Kind != yaml.SequenceNode {
		r.report(r.at(edges.line, "dag.edges"), describe(list), want)
		return
	}
	for _, pair := range list.Content {
		pair = resolve(pair)
		field := r.at(pair.Line, "dag.edges")
		if pair.Kind != yaml.SequenceNode || len(pair.Content) != 2 ||
			resolve(pair.Content[0]).Kind != yaml.ScalarNode || resolve(pair.Content[1]).Kind != yaml.ScalarNode {
			r.report(field, describe(pair), want)
			continue
		}
		from, to := resolve(pair.Content[0]).Value, resolve(pair.Content[1]).Value
		known := true
		for _, name := range []string{from, to} {
			if g.node(name) == nil {
				known = false
				if whole {
					r.report(field, name, "one of the nodes "+strings.Join(g.names(), ", "))
				}
			}
		}
		if !known {
			continue
		}
		text := from + " -> " + to
		switch {
		case from == to:
			r.report(field, text, "an edge between two nodes")
		case slices.Contains(g.from[to], from):
			r.report(field, text, "each edge once")
		default:
			g.node(from).Next = append(g.node(from).Next, to)
			g.from[to] = append(g.from[to], from)
		}
	}
}

func (g *graph) names() []string {
	var names []string
	for _, n := range g.nodes {
		names = append(names, n.Name)
	}
	return names
}

// checkShape reports nodes that stand where their role cannot. In a graph
// without a cycle, whose nodes all have inputs but the sources and outputs but
// the sinks, every node lies between a source and a sink.
func (r *reader) checkShape(g *graph) {
	for _, n := range g.nodes {
		field := r.at(g.lines[n.Name], join("dag.nodes", n.Name))
		in, out := g.from[n.Name], n.Next
		isSource, isSink := n.Role == RoleSource, n.Role == RoleSink
		fedElsewhere, emptiedElsewhere := false, false
		if q, is := n.Settings.(*WriteQueue); is {
			fedElsewhere, emptiedElsewhere = !q.Accepts(), !q.Writes()
		}
		if isSource && len(in) > 0 {
			r.report(field, "fed by "+strings.Join(in, ", "), "no edge to it, for it is a source")
		}
		if !isSource && len(in) == 0 && !fedElsewhere {
			r.report(field, "fed by nothing", "an edge to it: no source reaches it")
		}
		if isSink && len(out) > 0 {
			r.report(field, "followed by "+strings.Join(out, ", "), "no edge from it, for it is a sink")
		}
		if n.Role == RoleWriteQueue {
			if emptiedElsewhere && len(out) == 0 {
				continue
			}
			if len(out) != 1 || g.node(out[0]).Role != RoleSink {
				got := "nothing"
				if len(out) > 0 {
					got = strings.Join(out, ", ")
				}
				r.report(field, "followed by "+got, "exactly one sink behind a write queue")
			}
		} else if !isSink && len(out) == 0 {
			r.report(field, "followed by nothing", "an edge from it: it reaches no sink")
		}
	}
	if cycle := g.cycle(); cycle != nil {
		r.report(r.at(g.lines[cycle[0]], "dag.edges"), strings.Join(cycle, " -> "), "no way round in a circle")
	}
}

// cycle returns the names along a cycle, the first one again at the end, or
// nil.
func (g *graph) cycle() []string {
	done := map[string]bool{}
	var path []string
	var visit func(name string) []string
	visit = func(name string) []string {
		if i := slices.Index(path, name); i >= 0 {
			return append(slices.Clone(path[i:]), name)
		}
		if done[name] {
			return nil
		}
		path = append(path, name)
		for _, next := range g.node(name).Next {
			if found := visit(next); found != nil {
				return found
			}
		}
		path = path[:len(path)-1]
		done[name] = true
		return nil
	}
	for _, n := range g.nodes {
		if found := visit(n.Name); found != nil {
			return found
		}
	}
	return nil
}

// checkShared reports nodes that would get into each other's way.
func (r *reader) checkShared(g *graph) {
	seen := map[string]string{} // node by what it takes for itself
	take := func(n Node, what, got, want string) {
		other, taken := seen[what+got]
		if taken {
			r.report(r.at(g.lines[n.Name], join("dag.nodes", n.Name)), fmt.Sprintf("%s %s", what, got),
				fmt.Sprintf("%s, for %s has this one", want, other))
			return
		}
		seen[what+got] = n.Name
	}
	for _, n := range g.nodes {
		switch v := n.Settings.(type) {
		case *WriteQueue:
			take(n, "coordinator_id", v.CoordinatorID, "a coordinator_id of its own")
			take(n, "dead_letter_path", v.DeadLetterPath, "a dead_letter_path of its own")
			switch v.Kind {
			case Embedded:
				take(n, "durable_directory", v.Directory, "a durable_directory of its own")
			case Servers:
				take(n, "durable_stream", v.Stream, "a durable_stream of its own")
			}
		case *HTTP:
			take(n, "path", v.Listen+v.Path, "a path of its own")
		}
	}
}

// sorted returns the nodes with each after all that feed it. The graph has no
// cycle, or was refused.
func (g *graph) sorted() []Node {
	var order []Node
	placed := map[string]bool{}
	for len(order) < len(g.nodes) {
		before := len(order)
		for _, n := range g.nodes {
			if placed[n.Name] || slices.ContainsFunc(g.from[n.Name], func(in string) bool { return !placed[in] }) {
				continue
			}
			placed[n.Name] = true
			order = append(order, n)
		}
		if len(order) == before {
			return nil
		}
	}
	return order
}

// checkAcknowledged reports sources that are to wait until their items are written,
// where that cannot be known.
func (r *reader) checkAcknowledged(g *graph) {
	for _, n := range g.nodes {
		source, is := n.Settings.(*HTTP)
		if !is || source.Acknowledge != "written" {
			continue
		}
		for _, behind := range g.behind(n.Name) {
			var why string
			switch v := behind.Settings.(type) {
			case *Dedupe:
				why = "which leaves out what is sent again, written or not"
			case *WriteQueue:
				if v.Is() {
					why = "a durable queue, which keeps what it accepted"
				}
			}
			if why != "" {
				r.report(r.at(g.lines[n.Name], join("dag.nodes", n.Name)+".acknowledge"), source.Acknowledge,
					fmt.Sprintf("accepted, for behind it is %s, %s", behind.Name, why))
			}
		}
	}
}

// behind lists all nodes that items of one can come to.
func (g *graph) behind(name string) (all []Node) {
	seen := map[string]bool{}
	var visit func(string)
	visit = func(name string) {
		for _, next := range g.node(name).Next {
			if !seen[next] {
				seen[next] = true
				all = append(all, *g.node(next))
				visit(next)
			}
		}
	}
	visit(name)
	return all
}
