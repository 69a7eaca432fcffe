package metrics

func coordinatorSeries() []Series {
	return nil
}
