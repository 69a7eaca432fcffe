package metrics

func writeQueueSeries() []Series {
	return nil
}
