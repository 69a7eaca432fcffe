package metrics

// Series of the pipeline.
const (
	SourceOffered   = "pipeline_source_items_offered_total"
	SourceAccepted  = "pipeline_source_items_accepted_total"
	SourceSkipped   = "pipeline_source_items_skipped_total"
	SourceLag       = "pipeline_source_lag_seconds"
	TransformKept   = "pipeline_transform_items_kept_total"
	TransformGone   = "pipeline_transform_items_removed_total"
	DirectSinkItems = "pipeline_direct_sink_items_total"

	PipelineBuildInfo = "headgate_build_info"
)

// LabelNode names a node of the pipeline's graph.
const LabelNode = "node"

func pipelineSeries() []Series {
	node := []string{LabelNode}
	return []Series{
		{Name: SourceOffered, Kind: Counter, Labels: node,
			Help: "Items that a source offered to the pipeline."},
		{Name: SourceAccepted, Kind: Counter, Labels: node,
			Help: "Items of a source that the pipeline took, with those that a transform removed."},
		{Name: SourceSkipped, Kind: Counter, Labels: node,
			Help: "Items that a source left out, for they were later than its max_lag."},
		{Name: SourceLag, Kind: Gauge, Labels: node,
			Help: "How late a source that goes by a schedule offers its items."},
		{Name: TransformKept, Kind: Counter, Labels: node,
			Help: "Items that a transform let go on."},
		{Name: TransformGone, Kind: Counter, Labels: node,
			Help: "Items that a transform removed."},
		{Name: DirectSinkItems, Kind: Counter, Labels: []string{LabelNode, LabelResult},
			Help: "Items that went to a sink without a write queue, by what became of them: written or dropped."},
		{Name: PipelineBuildInfo, Kind: Gauge,
			Labels: []string{"branch", "goarch", "goos", "goversion", "revision", "tags", "version"},
			Help:   "1, with the version that the pipeline was built from as labels."},
	}
}
