// Module browser looks at the status page with a real browser. It is a module
// of its own so that the product's stays small.
module github.com/headgate/headgate/e2e/browser

go 1.26.0

replace github.com/headgate/headgate => ../..

require (
	github.com/chromedp/cdproto v0.159.0
	github.com/chromedp/chromedp v0.23.0
	github.com/headgate/headgate v0.0.0
)

require github.com/go-json-experiment/json v0.0.0-20260213210345-44df1a37e875 // indirect
