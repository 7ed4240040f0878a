package jsonenc

import (
	"encoding/json"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

type inner struct {
	A int `json:"a"`
}

type Embedded struct {
	First string `json:"first"`
}

type all struct {
	Embedded
	Text    string            `json:"text"`
	Escaped string            `json:"escaped"`
	On      bool              `json:"on"`
	Number  int               `json:"number,omitempty"`
	Port    uint16            `json:"port"`
	Cookie  uint64            `json:"cookie,omitempty"`
	Raw     json.RawMessage   `json:"raw,omitempty"`
	Nothing json.RawMessage   `json:"nothing"`
	Addr    netip.Addr        `json:"addr,omitzero"`
	Prefix  netip.Prefix      `json:"prefix"`
	IP      net.IP            `json:"ip,omitempty"`
	Time    time.Time         `json:"time"`
	Ptr     *inner            `json:"ptr,omitempty"`
	Nil     *inner            `json:"nil"`
	List    []inner           `json:"list"`
	Ptrs    []*inner          `json:"ptrs,omitempty"`
	Names   []string          `json:"names,omitempty"`
	Map     map[string]inner  `json:"map,omitempty"`
	NilMap  map[string]string `json:"nilMap"`
	Inner   inner             `json:"inner,omitempty"`
	Bytes   []byte            `json:"bytes"`
	Hidden  string            `json:"-"`
}

func full() all {
	return all{
		Embedded: Embedded{"one"}, Text: "plain ~", Escaped: "\"\\\n<&>\u00e9\u2028\xff", On: true, Number: -7, Port: 65535,
		Cookie: 1<<64 - 1, Raw: json.RawMessage(`"raw"`), Addr: netip.MustParseAddr("fd00::1"),
		Prefix: netip.MustParsePrefix("10.1.0.0/16"), IP: net.IPv4(10, 1, 0, 1),
		Time: time.Date(2026, 1, 2, 3, 4, 5, 678, time.UTC), Ptr: &inner{1}, List: []inner{{1}, {2}},
		Ptrs: []*inner{nil, {3}}, Names: []string{"a", ""}, Map: map[string]inner{"z": {1}, "<a>": {2}}, Hidden: "secret",
		Bytes: []byte{0, 255, 7, 1},
	}
}

// plain is a value without characters that need an escape, as records are.
func plain() all {
	v := full()
	v.Escaped, v.Map = "", map[string]inner{"z": {1}}
	return v
}

func TestAsEncodingJSON(t *testing.T) {
	f := full()
	for name, v := range map[string]any{
		"full": f, "pointer": &f, "empty": all{}, "no pointer": (*all)(nil), "nil": nil, "list": []string{}, "no list": []string(nil),
	} {
		t.Run(name, func(t *testing.T) {
			want, err := json.MarshalIndent(v, "", "  ")
			if err != nil {
				t.Fatal(err)
			}
			if got, err := Marshal(v, "  "); err != nil || string(got) != string(want) {
				t.Errorf("%v\ngot:  %s\nwant: %s", err, got, want)
			}
		})
	}
}

func TestUnindented(t *testing.T) {
	v := all{Names: []string{"a"}}
	want, _ := json.Marshal(v)
	if got, err := Marshal(v, ""); err != nil || string(got) != string(want) {
		t.Errorf("%v\ngot:  %s\nwant: %s", err, got, want)
	}
}

// TestRaw leaves a RawMessage as it is.
func TestRaw(t *testing.T) {
	const is = `{ "b":[1, 2 ],"a":{}}`
	v := struct {
		Raw   json.RawMessage `json:"raw"`
		After int             `json:"after"`
	}{json.RawMessage(is), 1}
	want := "{\n  \"raw\": " + is + ",\n  \"after\": 1\n}"
	if got, err := Marshal(v, "  "); err != nil || string(got) != want {
		t.Errorf("%v\ngot:  %s\nwant: %s", err, got, want)
	}
}

func TestErrors(t *testing.T) {
	for name, v := range map[string]any{
		"channel": make(chan int),
		"function": struct {
			F func() `json:"f"`
		}{},
		"field no name": struct{ A int }{},
		"in a list":     []any{1.5},
		"in a map":      map[string]any{"a": 1.5},
		"bad text": struct {
			IP net.IP `json:"ip"`
		}{net.IP{1}},
	} {
		if got, err := Marshal(v, " "); err == nil {
			t.Errorf("%s: no error, wrote %s", name, got)
		}
	}
}

// marshal are the encoders that BenchmarkFirst compares.
var marshal = map[string]func(v any) ([]byte, error){
	"jsonenc":       func(v any) ([]byte, error) { return Marshal(v, "  ") },
	"encoding/json": func(v any) ([]byte, error) { return json.MarshalIndent(v, "", "  ") },
}

// encoderEnv names the encoder that a process started by BenchmarkFirst uses.
const encoderEnv = "JSONENC_BENCHMARK"

func TestMain(m *testing.M) {
	encode := marshal[os.Getenv(encoderEnv)]
	if encode == nil {
		os.Exit(m.Run())
	}
	v := plain()
	start := time.Now()
	if _, err := encode(v); err != nil {
		panic(err)
	}
	fmt.Println(time.Since(start).Nanoseconds())
}

// BenchmarkFirst measures the first value of a type in a process. encoding/json
// can't be made to forget a type, so each value is encoded by a process of its own.
func BenchmarkFirst(b *testing.B) {
	for name := range marshal {
		b.Run(name, func(b *testing.B) {
			var took []int
			for b.Loop() {
				cmd := exec.Command(os.Args[0])
				cmd.Env = append(os.Environ(), encoderEnv+"="+name)
				out, err := cmd.Output()
				if err != nil {
					b.Fatal(err)
				}
				ns, err := strconv.Atoi(strings.TrimSpace(string(out)))
				if err != nil {
					b.Fatal(err)
				}
				took = append(took, ns)
			}
			slices.Sort(took)
			b.ReportMetric(float64(took[len(took)/2]), "ns/value(p50)")
			b.ReportMetric(float64(took[len(took)/10]), "ns/value(p10)")
		})
	}
}

// BenchmarkNext measures the values after the first.
func BenchmarkNext(b *testing.B) {
	v := plain()
	for name, encode := range marshal {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				if _, err := encode(v); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
