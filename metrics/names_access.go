package metrics

// Series of the access to a binary's ports. Each binary has them whose clients
// are asked who they are.
const (
	AccessRefused    = "headgate_access_refused_total"
	AccessFileErrors = "headgate_access_file_errors_total"
	AccessFileGood   = "headgate_access_file_good"
)

func accessSeries() []Series {
	return []Series{
		{Name: AccessRefused, Kind: Counter, Labels: []string{LabelReason},
			Help: "Requests and calls that were refused, because it was not known whose they were, or for want of a role."},
		{Name: AccessFileErrors, Kind: Counter,
			Help: "Times that the access file had changed and was wrong, so that the old one went on counting."},
		{Name: AccessFileGood, Kind: Gauge,
			Help: "1 while the access file is as it counts, 0 while it is wrong and an older one counts."},
	}
}
