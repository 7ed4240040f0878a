package yaml

import (
	"strings"
	"testing"
)

func TestToJSON(t *testing.T) {
	for in, want := range map[string]string{
		"a: 1.10\nb: [x, true, null, ~, \"5\"]\nc: 2020-01-01\nd: yes\n5: x": `{"5":"x","a":"1.10","b":["x",true,null,null,"5"],"c":"2020-01-01","d":"yes"}`,
		"x: &x {a: b}\ny: {<<: *x, c: d}\nz: *x":                             `{"x":{"a":"b"},"y":{"a":"b","c":"d"},"z":{"a":"b"}}`,
		"":                                                                   "null",
		"[1":                                                                 "error",
		"a: b\n\tc":                                                          "error",
		"a: b\n---\na: c":                                                    "error",
		"---\na: b\n...\n":                                                   `{"a":"b"}`,
		"a: {b: c":                                                           "error",
	} {
		out, err := ToJSON([]byte(in))
		got := string(out)
		if err != nil {
			got = "error"
			if !strings.Contains(err.Error(), "line") {
				t.Errorf("%q: the error does not name the line: %v", in, err)
			}
		}
		if got != want {
			t.Errorf("%q: %s, want %s", in, got, want)
		}
	}
}

// TestTooManyValues: a document that its aliases make too long is an error.
func TestTooManyValues(t *testing.T) {
	const words = 400 // and as many lists of them
	text := "words: &words [" + strings.Repeat("x,", words) + "]\nlists: [" + strings.Repeat("*words,", words) + "]\n"
	if out, err := ToJSON([]byte(text)); err == nil {
		t.Errorf("%d bytes came of %d", len(out), len(text))
	}
}
