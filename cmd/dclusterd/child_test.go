package main

import (
	"strings"
	"testing"
)

// TestLastWords finds the process's own words between its library's, however they come.
func TestLastWords(t *testing.T) {
	text := "{\"level\":\"warn\"}\ndclusterd member: first\n{}\ndclusterd member: last\nnot a whole line"
	for size := 1; size <= len(text); size++ {
		var w lastWords
		for rest := text; rest != ""; {
			n := min(size, len(rest))
			if _, err := w.Write([]byte(rest[:n])); err != nil {
				t.Fatal(err)
			}
			rest = rest[n:]
		}
		if w.String() != "last" {
			t.Errorf("%d bytes at a time: %q", size, w.String())
		}
	}
	var w lastWords
	_, _ = w.Write([]byte(strings.Repeat("x", 2*maxLine)))
	if len(w.line) > maxLine {
		t.Errorf("it keeps %d bytes", len(w.line))
	}
}
