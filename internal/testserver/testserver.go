// Package testserver says what happens to a test that needs a real server where
// there is none.
package testserver

import "os"

// RequireVariable names the environment variable that, set to true, makes such
// a test fail.
const RequireVariable = "HEADGATE_TEST_REQUIRE_SERVERS"

// Required reports whether such a test has to fail; otherwise it is skipped, so
// that the other tests can be run on any machine.
func Required() bool { return os.Getenv(RequireVariable) == "true" }
