// Package reply writes the JSON answers of an HTTP API.
package reply

import (
	"encoding/json"
	"net/http"
	"strings"

	"github.com/headgate/headgate/internal/invalid"
)

// JSON answers with a body, on one line.
func JSON(w http.ResponseWriter, status int, body any) {
	data, err := json.Marshal(body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	w.Write(append(data, '\n'))
}

// BadRequest answers 400 with every field that was wrong: each *invalid.Value
// of the error.
func BadRequest(w http.ResponseWriter, err error) { Invalid(w, http.StatusBadRequest, err) }

// Invalid answers with every field that was wrong, as BadRequest does, under
// another status.
func Invalid(w http.ResponseWriter, status int, err error) {
	type field struct {
		Field string `json:"field"`
		Got   string `json:"got"`
		Want  string `json:"want"`
	}
	body := struct {
		Error  string  `json:"error"`
		Fields []field `json:"fields"`
	}{Error: strings.ReplaceAll(err.Error(), "\n", "; ")}
	for _, v := range invalid.All(err) {
		body.Fields = append(body.Fields, field{v.Field, v.Got, v.Want})
	}
	JSON(w, status, body)
}
