package settings

import (
	"fmt"
	"io"
	"strings"
)

// WriteUsage lists the variables for --help, each with its type, range,
// default and meaning.
func WriteUsage(w io.Writer, variables []Variable) error {
	for _, v := range variables {
		kind := v.Type
		if v.Range != "" {
			kind += ", " + v.Range
		}
		if _, err := fmt.Fprintf(w, "  %s\n      %s (%s; default %s)\n", v.Name, v.Help, kind, quoteDefault(v.Default)); err != nil {
			return fmt.Errorf("writing the usage: %w", err)
		}
	}
	return nil
}

// Markdown is the same list as a table, as the docs show it.
func Markdown(variables []Variable) string {
	var b strings.Builder
	b.WriteString("| name | type | default | meaning |\n|---|---|---|---|\n")
	cell := strings.NewReplacer("|", `\|`, "\n", " ")
	for _, v := range variables {
		kind := v.Type
		if v.Range != "" {
			kind += ", " + v.Range
		}
		def := ""
		if v.Default != "" {
			def = "`" + v.Default + "`"
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", v.Name, cell.Replace(kind), cell.Replace(def), cell.Replace(v.Help))
	}
	return b.String()
}
