// Module docs holds the pages to the truth: their commands run, their links
// lead somewhere, their figures say how they were measured, and the description
// of the HTTP APIs is what the servers do. Its dependencies are nobody else's.
module github.com/headgate/headgate/tools/docs

go 1.26.0

require (
	github.com/google/go-cmp v0.7.0
	github.com/headgate/headgate v0.0.0
	github.com/yuin/goldmark v1.8.7
)

replace github.com/headgate/headgate => ../..
