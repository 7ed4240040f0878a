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
	for line, want := range map[string]string{
		`{"level":"fatal","ts":"2026","msg":"failed to commit tx","error":"write db: no space left on device"}`: "failed to commit tx: write db: no space left on device",
		`{"level":"panic","msg":"tocommit is out of range","stacktrace":"a\nb"}`:                                "tocommit is out of range",
		`{"level":"error","msg":"slow","error":"x"}`:                                                            "before",
		`{"level":"fatal","error":{}`:                                                                           "before",
	} {
		w := lastWords{last: "before"}
		if _, _ = w.Write([]byte(line + "\n")); w.String() != want {
			t.Errorf("%s: %q, want %q", line, w.String(), want)
		}
	}
	var w lastWords
	_, _ = w.Write([]byte(strings.Repeat("x", 2*maxLine)))
	if len(w.line) > maxLine {
		t.Errorf("it keeps %d bytes", len(w.line))
	}
}
