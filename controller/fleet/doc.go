// Package fleet lets a controller throttle several replicas that share one
// provider's budget as if they were one. Each gets the scale, and its share of
// the budget, under the lease; the shares of all are never above 1 in sum, also
// while replicas come, go, hang and return.
package fleet
