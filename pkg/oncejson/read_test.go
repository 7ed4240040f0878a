package oncejson

import (
	"bytes"
	"encoding/json"
	"reflect"
	"strings"
	"testing"
)

// Whatever the text, Split does as encoding/json; what is not unusual it does by
// itself.
func TestSplit(t *testing.T) {
	for text, alone := range map[string]bool{
		`{}`:                             true,
		` { "a" : 1 , "b":[ ] } ` + "\n": true,
		`{"a":{"b":[1,-2.5e+3,0,0.1E2],"c":"\u00e9\n\"","d":[true,false,null]}}`: true,
		`{"a":1,"a":2}`:      true,
		`{"a":"ä"}`:          true,
		"{\"a\":\"\xff\"}":   true,
		`{"":null}`:          true,
		`{"\u0061":1}`:       false,
		`{"ä":1}`:            false,
		`null`:               false,
		`[]`:                 false,
		`"a"`:                false,
		``:                   false,
		`{`:                  false,
		`{"a":1`:             false,
		`{"a":1,}`:           false,
		`{,}`:                false,
		`{"a" 1}`:            false,
		`{a:1}`:              false,
		`{"a":}`:             false,
		`{"a":1}}`:           false,
		`{"a":01}`:           false,
		`{"a":+1}`:           false,
		`{"a":-}`:            false,
		`{"a":1.}`:           false,
		`{"a":.5}`:           false,
		`{"a":1e}`:           false,
		`{"a":nul}`:          false,
		`{"a":trueish}`:      false,
		`{"a":[1,]}`:         false,
		`{"a":[1 2]}`:        false,
		`{"a":"\x"}`:         false,
		`{"a":"\u12"}`:       false,
		"{\"a\":\"\n\"}":     false,
		"{\"a\":\"\x00\"}":   false,
		"{\"a\":1}\x00":      false,
		`{"a":"`:             false,
		`{"a":"\`:            false,
		nested(maxDepth):     true,
		nested(maxDepth + 1): false,
	} {
		splitsAs(t, []byte(text))
		if Members([]byte(text), func(string, json.RawMessage) bool { return true }) != alone {
			t.Errorf("%.60s: alone must be %t", text, alone)
		}
	}
}

func nested(depth int) string {
	return strings.Repeat(`{"a":`, depth) + "1" + strings.Repeat("}", depth)
}

func FuzzSplit(f *testing.F) {
	f.Add([]byte(`{"a":[1,"b",{"c":null}],"d":-1.5e3}`))
	f.Fuzz(func(t *testing.T, text []byte) { splitsAs(t, text) })
}

func splitsAs(t *testing.T, text []byte) {
	t.Helper()
	var want map[string]json.RawMessage
	fail := json.Unmarshal(text, &want)
	got, err := Split(text)
	if (err == nil) != (fail == nil) || err != nil && err.Error() != fail.Error() {
		t.Errorf("%.60q: %v, must be %v", text, err, fail)
	}
	if err == nil && !reflect.DeepEqual(got, want) {
		t.Errorf("%.60q: %q, must be %q", text, got, want)
	}
}

func TestMembersStop(t *testing.T) {
	var seen []string
	all := Members([]byte(`{"a":1,"b":2,"c":3}`), func(key string, _ json.RawMessage) bool {
		seen = append(seen, key)
		return key != "b"
	})
	if all || !reflect.DeepEqual(seen, []string{"a", "b"}) {
		t.Error(all, seen)
	}
}

func TestItems(t *testing.T) {
	var got [][]byte
	if !Items([]byte(` [ 1 , {"a":"b"},null ] `), func(v json.RawMessage) bool { got = append(got, v); return true }) {
		t.Error("not a list")
	}
	if want := [][]byte{[]byte("1"), []byte(`{"a":"b"}`), []byte("null")}; !reflect.DeepEqual(got, want) {
		t.Errorf("%q", got)
	}
	for _, text := range []string{"", "null", "{}", "[1,]", "[1]2", "[", "[" + nested(maxDepth) + "]"} {
		if Items([]byte(text), func(json.RawMessage) bool { return true }) {
			t.Errorf("%.20s: must be no list", text)
		}
	}
}

// What f appends to a value must not overwrite what comes behind it.
func TestMembersEnd(t *testing.T) {
	text := []byte(`{"a":1,"b":2}`)
	whole := bytes.Clone(text)
	Members(text, func(_ string, v json.RawMessage) bool { _ = append(v, "xx"...); return true })
	if !bytes.Equal(text, whole) {
		t.Errorf("%s", text)
	}
}

func TestText(t *testing.T) {
	for text, want := range map[string]any{
		`"a b"`: "a b", `""`: "", `"a\n"`: nil, `"ä"`: nil, `"a" `: nil, `1`: nil, `null`: nil, ``: nil, `"a`: nil,
	} {
		got, ok := Text([]byte(text))
		if ok != (want != nil) || ok && got != want {
			t.Errorf("%s: %q %t", text, got, ok)
		}
	}
}

func TestInt(t *testing.T) {
	for text, want := range map[string]any{
		"0": 0, "-1": -1, "1500": 1500, "01": nil, "+1": nil, "1.0": nil, "1e3": nil, "": nil, "null": nil, `"1"`: nil,
		"1 ": nil, "9223372036854775808": nil,
	} {
		got, ok := Int([]byte(text))
		if ok != (want != nil) || ok && got != want {
			t.Errorf("%s: %d %t", text, got, ok)
		}
	}
}
