package operator

import (
	"context"
	"net/url"
	"slices"
	"time"

	"github.com/headgate/headgate/controller/statuspage"
)

// predictTimeout is how long somebody who pressed Tab waits.
const predictTimeout = time.Second

// Names are the names that a running controller knows, for a shell to complete.
// Where there is none to ask they are empty.
func (s *Session) Names(ctx context.Context) (targets, providers []string) {
	ask, err := Asking{Timeout: predictTimeout}.connect(ctx, s)
	if err != nil {
		return nil, nil
	}
	var status statuspage.Status
	if _, _, err := ask.get(ctx, "/v1/status", url.Values{"limit": {"200"}}, &status); err != nil {
		return nil, nil
	}
	for _, t := range status.List.Targets {
		targets = append(targets, t.Target)
		for _, p := range t.Providers {
			providers = append(providers, p.Provider)
		}
	}
	slices.Sort(targets)
	slices.Sort(providers)
	return targets, slices.Compact(providers)
}
