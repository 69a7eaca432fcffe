package backtest

import "time"

// queryTimeout bounds one query over a window of ticks.
const queryTimeout = 2 * time.Minute
