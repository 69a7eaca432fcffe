// Package kedaclient holds nothing but tests: KEDA's own client code, as its
// operator runs it, asks a scaler on the loopback device.
package kedaclient
