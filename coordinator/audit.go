package coordinator

import "time"

// auditAction is what an audit record tells of an override. It is one of a
// closed set.
type auditAction string

const (
	auditSet     auditAction = "set"     // or replaced
	auditCleared auditAction = "cleared" // before its time
	auditExpired auditAction = "expired"
)

// audit logs who did what to the provider's override and why; when is the
// record's own time. The keys are the same in every record: audit, action,
// provider, holder, reason, scale, expires_at, set_by, and the scale and the
// rate in force after it. A record is a warning, so that a log that is kept
// short has it too.
//
// The override is e; who acted is holder, which is the one who set it where
// nobody did but the clock.
func (g *gate) audit(action auditAction, e entry, holder, reason string) {
	expires := time.Now().Add(e.expires - g.c.now()).Round(time.Second).UTC().Format(time.RFC3339)
	g.c.log.Warn("override "+string(action), "audit", "override", "action", string(action), "provider", g.Name,
		"holder", holder, "reason", reason, "scale", e.scale, "expires_at", expires, "set_by", e.holder,
		"scale_in_force", g.scale(), "rate_per_second", g.bucket.rate)
	g.news.told(g.scale(), g.share, g.level())
}
