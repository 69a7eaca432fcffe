package fleet

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/headgate/headgate/controller"
	"github.com/headgate/headgate/coordinator/client"
	"github.com/headgate/headgate/internal/invalid"
	"github.com/headgate/headgate/metrics"
)

// Forms of an address beside that of one coordinator.
const (
	schemeDNS    = "dns+"    // before http://name:port: every address of the name
	schemeSeries = "series+" // before http://[:port]: every instance that Prometheus shows
)

// lookUpEvery is the least time between two look-ups of a name.
const lookUpEvery = 2 * time.Second

const wantAddress = "one address such as http://127.0.0.1:9400, several separated by commas, " +
	"dns+http://name:9400 for all addresses of a name, or series+http:// for the instances of the series"

// Dialer opens the ways to coordinators.
type Dialer struct {
	HTTP     *http.Client // nil is http.DefaultClient
	Signals  *Signals     // of the addresses that begin with series+
	Log      *slog.Logger
	Resolver Resolver // nil is that of the system
}

// Resolver looks up names; *net.Resolver is one.
type Resolver interface {
	LookupNetIP(ctx context.Context, network, host string) ([]netip.Addr, error)
}

// Dial returns the gate at an address, whose queues are those of the coordinator
// ids: a *client.Client where it is one coordinator's, and else a *Fleet. It
// talks to nobody yet. The error is an *invalid.Value of coordinator_url.
func (d Dialer) Dial(address string, ids []string, sharing Sharing) (Replica, error) {
	config := Config{Sharing: sharing, Open: func(base string) (Replica, error) { return client.New(base, d.HTTP) }}
	var err error
	switch {
	case strings.HasPrefix(address, schemeDNS):
		config.Every = lookUpEvery
		config.Find, err = newNames(address, d.Resolver)
	case strings.HasPrefix(address, schemeSeries):
		config.Find, err = newInstances(address, ids, d.Signals)
	case strings.Contains(address, ","):
		config.Find, err = newList(address)
	default:
		one, err := client.New(address, d.HTTP)
		if err != nil {
			return nil, invalid.NewAddress("coordinator_url", address, wantAddress)
		}
		return one, nil
	}
	if err != nil {
		return nil, err
	}
	return New(config, d.Log), nil
}

// Name is what tells the replicas at an address from others: the address, and
// for those that the series show whose these are.
func Name(address string, ids []string) string {
	if !strings.HasPrefix(address, schemeSeries) {
		return address
	}
	return address + "#" + strings.Join(slices.Compact(slices.Sorted(slices.Values(ids))), ",")
}

// list is replicas whose addresses are known.
type list []string

func newList(address string) (list, error) {
	var all list
	for one := range strings.SplitSeq(address, ",") {
		one = strings.TrimRight(strings.TrimSpace(one), "/")
		if _, err := client.New(one, nil); err != nil {
			return nil, invalid.NewAddress("coordinator_url", one, wantAddress)
		}
		if slices.Contains(all, one) {
			return nil, invalid.NewAddress("coordinator_url", one, "each address once")
		}
		all = append(all, one)
	}
	return all, nil
}

// Find implements Finder.
func (l list) Find(context.Context) ([]string, error) { return slices.Clone(l), nil }

// names finds the replicas by the addresses of a name.
type names struct {
	resolver Resolver
	base     url.URL // Host has the port
}

func newNames(address string, resolver Resolver) (*names, error) {
	const want = "dns+http://name:port"
	base, err := url.Parse(strings.TrimPrefix(address, schemeDNS))
	switch {
	case err != nil || base.Hostname() == "" || base.Port() == "" || base.RawQuery != "" || base.Fragment != "" || base.User != nil:
		return nil, invalid.NewAddress("coordinator_url", address, want)
	case base.Scheme == "https": // certificates are not for addresses
		return nil, invalid.NewAddress("coordinator_url", address, want+": TLS needs names, so a list of https:// addresses")
	case base.Scheme != "http":
		return nil, invalid.NewAddress("coordinator_url", address, want)
	}
	if resolver == nil {
		resolver = net.DefaultResolver
	}
	return &names{resolver, *base}, nil
}

// Find implements Finder. Of a name that has addresses of both families those of
// the fourth count, for they are of the same replicas.
func (n *names) Find(ctx context.Context) ([]string, error) {
	found, err := n.resolver.LookupNetIP(ctx, "ip", n.base.Hostname())
	if err != nil {
		return nil, err // names what was looked up
	}
	var four, six []string
	for _, ip := range found {
		ip = ip.Unmap()
		base := n.base
		base.Host = net.JoinHostPort(ip.String(), n.base.Port())
		if ip.Is4() {
			four = append(four, base.String())
		} else {
			six = append(six, base.String())
		}
	}
	if len(four) > 0 {
		return four, nil
	}
	return six, nil
}

// Signals shows which replicas the last snapshot had.
type Signals struct {
	latest atomic.Pointer[metrics.Snapshot]
}

// Through returns a reader that reads as r does, and keeps what it read here.
func (s *Signals) Through(r controller.Reader) controller.Reader { return signalReader{s, r} }

type signalReader struct {
	signals *Signals
	reader  controller.Reader
}

func (r signalReader) Read(ctx context.Context) (metrics.Snapshot, error) {
	snapshot, err := r.reader.Read(ctx)
	if err == nil {
		r.signals.latest.Store(&snapshot)
	}
	return snapshot, err
}

// instances finds the replicas by what Prometheus shows of them.
type instances struct {
	signals *Signals
	ids     []string
	base    url.URL // Host is empty, or ":" and another port than the instances have
}

func newInstances(address string, ids []string, signals *Signals) (*instances, error) {
	const want = "series+http://, or with the port of the coordinators series+http://:9400"
	base, err := url.Parse(strings.TrimPrefix(address, schemeSeries))
	if err != nil || base.Scheme != "http" && base.Scheme != "https" || base.Hostname() != "" || base.Host != "" && base.Port() == "" ||
		base.RawQuery != "" || base.Fragment != "" || base.User != nil {
		return nil, invalid.NewAddress("coordinator_url", address, want)
	}
	return &instances{signals, ids, *base}, nil
}

// Find implements Finder. While one of the coordinators is absent nothing is
// found, for its replicas may be at work.
func (i *instances) Find(context.Context) ([]string, error) {
	snapshot := i.signals.latest.Load()
	if snapshot == nil {
		return nil, errors.New("the replicas of Prometheus' series are not known yet")
	}
	var found []string
	for _, id := range i.ids {
		o, present := snapshot.Coordinators[id]
		if !present {
			return nil, fmt.Errorf("no replicas of %q are in Prometheus", id)
		}
		for _, r := range o.Replicas {
			if r.Instance == "" {
				return nil, fmt.Errorf("the series of %q have no instance label", id)
			}
			found = append(found, i.address(r.Instance))
		}
	}
	return found, nil
}

// address is where the coordinator of an instance is.
func (i *instances) address(instance string) string {
	base := i.base
	port := base.Port()
	base.Host = instance
	if port != "" {
		host, _, err := net.SplitHostPort(instance)
		if err != nil {
			host = instance
		}
		base.Host = net.JoinHostPort(host, port)
	}
	return strings.TrimRight(base.String(), "/")
}
