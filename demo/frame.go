package main

import (
	"time"

	"github.com/headgate/headgate/pressure"
)

// frame is what a viewer sees of the loop at one moment. Rates are items per
// second.
type frame struct {
	at time.Duration // since the loop started

	level                pressure.Level
	depth, capacity      float64
	softEnter, hardEnter float64 // items
	arrivals, drain      float64 // NaN until measured
	scale, allowed       float64 // of the provider, in force
	storeTakes           float64 // the rehearsed capacity now

	accepted, written float64
}

// story is a frame's line among the decisions, as they fell.
type story struct {
	at    time.Duration
	level pressure.Level
	text  string
}
