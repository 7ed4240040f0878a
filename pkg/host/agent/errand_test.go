package agent

import (
	"maps"
	"strings"
	"testing"

	"dcni/pkg/host/early"
)

func TestParseErrand(t *testing.T) {
	for name, c := range map[string]struct {
		message string
		want    Errand
		err     string
	}{
		"call": {
			"errand\x00v1.2.3\x00CNI_COMMAND=ADD\x00CNI_ARGS=A=1;B=2\x00\x00{\"name\": \"web\"}",
			Errand{Mark: "v1.2.3", Env: map[string]string{"CNI_COMMAND": "ADD", "CNI_ARGS": "A=1;B=2"}, Conf: []byte(`{"name": "web"}`)}, "",
		},
		"no environment, no input": {"errand\x00v1\x00\x00", Errand{Mark: "v1"}, ""},
		"zeros are input":          {"errand\x00v1\x00\x00\x00a\x00", Errand{Mark: "v1", Conf: []byte("\x00a\x00")}, ""},
		"twice":                    {"errand\x00v1\x00CNI_PATH=a\x00CNI_PATH=b\x00\x00", Errand{Mark: "v1", Env: map[string]string{"CNI_PATH": "a"}}, ""},
		"no value":                 {"errand\x00v1\x00CNI_PATH\x00\x00", Errand{Mark: "v1", Env: map[string]string{"CNI_PATH": ""}}, ""},
		"no end":                   {"errand\x00v1\x00CNI_PATH=a\x00", Errand{}, "an errand without end: must be strings, and an empty one"},
		"cut short":                {"errand\x00v1\x00CNI_PA", Errand{}, "an errand without end: must be strings, and an empty one"},
		"no version":               {"errand\x00\x00{}", Errand{}, "an errand without a version"},
		"too long":                 {"errand\x00v1\x00\x00" + strings.Repeat("x", early.MaxMessage), Errand{}, "an errand of 65547 bytes: must be less than 65536"},
	} {
		t.Run(name, func(t *testing.T) {
			var r Request
			err := r.unpack([]byte(c.message))
			if err != nil || c.err != "" {
				if err == nil || err.Error() != c.err {
					t.Fatalf("error %v, want %q", err, c.err)
				}
				return
			}
			got := r.Errand
			if r.Op != Run || got.Mark != c.want.Mark || string(got.Conf) != string(c.want.Conf) || !maps.Equal(got.Env, c.want.Env) {
				t.Errorf("got %q of %+v, want %+v", r.Op, got, c.want)
			}
		})
	}
}

// TestNoErrand has JSON ask for an errand, which only the other kind of message
// can.
func TestNoErrand(t *testing.T) {
	for _, message := range []string{`{"op": "run"}`, `{"op": "run", "errand": {"Version": "v1"}, "Errand": {}}`} {
		var r Request
		if err := r.unpack([]byte(message)); err != nil || r.Errand != nil {
			t.Errorf("%s: %+v, %v", message, r.Errand, err)
		}
	}
}

// FuzzErrand has any bytes be a message. What is read is no longer than it.
func FuzzErrand(f *testing.F) {
	f.Add([]byte("errand\x00v1\x00CNI_COMMAND=ADD\x00\x00{}"))
	f.Add([]byte("errand\x00\x00"))
	f.Add([]byte(`{"op": "status"}`))
	f.Fuzz(func(t *testing.T, message []byte) {
		var r Request
		if r.unpack(message) != nil || r.Errand == nil {
			return
		}
		size := len(early.Greeting) + len(r.Errand.Mark) + len(r.Errand.Conf)
		for name, value := range r.Errand.Env {
			size += len(name) + len(value)
		}
		if size > len(message) {
			t.Errorf("%d bytes of %d", size, len(message))
		}
	})
}
