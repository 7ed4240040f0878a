package cni

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"testing"

	types100 "github.com/containernetworking/cni/pkg/types/100"

	"dcni/pkg/wire"
)

// spy answers every verb with its name.
type spy struct{ called string }

func (s *spy) Add(*Request) (*types100.Result, error) {
	s.called += "ADD"
	return &types100.Result{CNIVersion: "1.1.0"}, nil
}
func (s *spy) Del(*Request) error    { s.called += "DEL"; return nil }
func (s *spy) Check(*Request) error  { s.called += "CHECK"; return nil }
func (s *spy) GC(*Request) error     { s.called += "GC"; return nil }
func (s *spy) Status(*Request) error { s.called += "STATUS"; return nil }

// perform makes a call with a whole environment but for what is changed.
func perform(stdin string, env ...string) (called, stdout string, err error) {
	vars := map[string]string{
		"CNI_CONTAINERID": "c1", "CNI_NETNS": "/run/netns/c1", "CNI_IFNAME": "eth0", "CNI_PATH": "/opt/cni/bin",
	}
	for _, e := range env {
		k, v, _ := strings.Cut(e, "=")
		vars[k] = v
	}
	c, err := readCall(func(k string) string { return vars[k] }, strings.NewReader(stdin))
	if err != nil {
		return "", "", err
	}
	s := &spy{}
	var out bytes.Buffer
	_, err = c.run(func() (verbs, error) { return s, nil }, &out)
	return s.called, out.String(), err
}

func TestCalls(t *testing.T) {
	conf := func(version string) string { return `{"name": "web", "cniVersion": "` + version + `"}` }
	for _, test := range []struct {
		name   string
		stdin  string
		env    []string
		called string
		code   wire.Code
		words  string
	}{
		{"ADD", conf("0.3.0"), []string{"CNI_COMMAND=ADD"}, "ADD", 0, ""},
		{"DEL without a namespace", conf("0.3.1"), []string{"CNI_COMMAND=DEL", "CNI_NETNS="}, "DEL", 0, ""},
		{"CHECK", conf("0.4.0"), []string{"CNI_COMMAND=CHECK"}, "CHECK", 0, ""},
		{"GC without a container", conf("1.1.0"), []string{"CNI_COMMAND=GC", "CNI_CONTAINERID=", "CNI_NETNS=", "CNI_IFNAME="}, "GC", 0, ""},
		{"STATUS", conf("1.1.0"), []string{"CNI_COMMAND=STATUS", "CNI_CONTAINERID=", "CNI_IFNAME="}, "STATUS", 0, ""},

		{"CHECK too early", conf("0.3.1"), []string{"CNI_COMMAND=CHECK"}, "", 1, `cniVersion "0.3.1": does not know CHECK; must be 0.4.0 or later`},
		{"GC too early", conf("1.0.0"), []string{"CNI_COMMAND=GC"}, "", 1, "does not know GC"},
		{"STATUS too early", conf("0.4.0"), []string{"CNI_COMMAND=STATUS"}, "", 1, "does not know STATUS"},
		{"no version", `{"name": "web"}`, []string{"CNI_COMMAND=ADD"}, "", 1, `config is "0.1.0", plugin supports ["0.3.0"`},
		{"a later version", conf("2.0.0"), []string{"CNI_COMMAND=DEL"}, "", 1, `config is "2.0.0"`},

		{"no such command", conf("1.0.0"), []string{"CNI_COMMAND=UP"}, "", 4, `unknown CNI_COMMAND "UP": must be ADD, DEL`},
		{"nothing there", conf("1.0.0"), []string{"CNI_COMMAND=ADD", "CNI_CONTAINERID=", "CNI_NETNS=", "CNI_IFNAME=", "CNI_PATH="}, "", 4,
			"CNI_CONTAINERID, CNI_NETNS, CNI_IFNAME, CNI_PATH: missing from the environment; ADD needs it"},
		{"CHECK without a namespace", conf("1.0.0"), []string{"CNI_COMMAND=CHECK", "CNI_NETNS="}, "", 4, "CNI_NETNS: missing"},
		{"GC without a path", conf("1.1.0"), []string{"CNI_COMMAND=GC", "CNI_PATH="}, "", 4, "CNI_PATH: missing"},
		{"a path for an ID", conf("1.0.0"), []string{"CNI_COMMAND=ADD", "CNI_CONTAINERID=../c1"}, "", 4, `CNI_CONTAINERID "../c1": must be letters`},
		{"a long interface", conf("1.0.0"), []string{"CNI_COMMAND=ADD", "CNI_IFNAME=abcdefghijklmnop"}, "", 4, `CNI_IFNAME "abcdefghijklmnop": must be 1 to 15 bytes`},
		{"interface .", conf("1.0.0"), []string{"CNI_COMMAND=DEL", "CNI_IFNAME=."}, "", 4, "CNI_IFNAME"},
		{"interface a:b", conf("1.0.0"), []string{"CNI_COMMAND=DEL", "CNI_IFNAME=a:b"}, "", 4, "CNI_IFNAME"},
		{"interface ...", conf("1.0.0"), []string{"CNI_COMMAND=DEL", "CNI_IFNAME=..."}, "DEL", 0, ""},
		{"the longest interface", conf("1.0.0"), []string{"CNI_COMMAND=ADD", "CNI_IFNAME=abcdefghijklmno"}, "ADD", 0, ""},
		{"interface ..", conf("1.0.0"), []string{"CNI_COMMAND=DEL", "CNI_IFNAME=.."}, "", 4, "CNI_IFNAME"},
		{"interface a/b", conf("1.0.0"), []string{"CNI_COMMAND=DEL", "CNI_IFNAME=a/b"}, "", 4, "CNI_IFNAME"},
		{"interface a b", conf("1.0.0"), []string{"CNI_COMMAND=DEL", "CNI_IFNAME=a\u00a0b"}, "", 4, "CNI_IFNAME"},
		{"interface with a wide space", conf("1.0.0"), []string{"CNI_COMMAND=DEL", "CNI_IFNAME=a\u2003b"}, "", 4, "CNI_IFNAME"},

		{"no JSON", `{"name":`, []string{"CNI_COMMAND=ADD"}, "", 6, "configuration: unexpected end of JSON input"},
		{"no configuration", ``, []string{"CNI_COMMAND=DEL"}, "", 6, "configuration"},
		{"no object", `[]`, []string{"CNI_COMMAND=ADD"}, "", 6, "configuration: must be an object"},
		{"a name that is no string", `{"cniVersion": "1.0.0", "name": 5}`, []string{"CNI_COMMAND=ADD"}, "", 6, "name: must be a string"},
		{"no name", `{"cniVersion": "1.0.0"}`, []string{"CNI_COMMAND=ADD"}, "", 7, `name "": must be letters`},
		{"a path for a name", `{"cniVersion": "1.0.0", "name": "a/b"}`, []string{"CNI_COMMAND=ADD"}, "", 7, `name "a/b": must be letters`},
	} {
		t.Run(test.name, func(t *testing.T) {
			called, _, err := perform(test.stdin, test.env...)
			var code wire.Code
			if e := (*wire.Error)(nil); errors.As(err, &e) {
				code = e.Code
			}
			if called != test.called || code != test.code || err != nil && !strings.Contains(err.Error(), test.words) {
				t.Errorf("called %q, code %d, error %v; want %q, %d, %s", called, code, err, test.called, test.code, test.words)
			}
		})
	}
}

// VERSION needs nothing, and reads nothing.
func TestVersion(t *testing.T) {
	_, stdout, err := perform("no JSON", "CNI_COMMAND=VERSION", "CNI_PATH=", "CNI_CONTAINERID=", "CNI_NETNS=", "CNI_IFNAME=")
	want := `{"cniVersion":"1.1.0","supportedVersions":["0.3.0","0.3.1","0.4.0","1.0.0","1.1.0"]}` + "\n"
	if err != nil || stdout != want {
		t.Errorf("%v: %s", err, stdout)
	}
}

// full is a disk without room.
type full struct{}

func (full) Write([]byte) (int, error) { return 0, errors.New("no space left on device") }

// A result that can't be written down is an ADD that failed.
func TestUnwritableResult(t *testing.T) {
	for _, version := range []string{"0.4.0", "1.1.0"} {
		c := &Call{
			Command: "ADD", ContainerID: "c1", IfName: "eth0",
			Conf: []byte(`{"name": "web", "cniVersion": "` + version + `"}`),
		}
		s := &spy{}
		_, err := c.run(func() (verbs, error) { return s, nil }, full{})
		if s.called != "ADDDEL" || report(err, version).Code != uint(wire.CodeIO) {
			t.Errorf("CNI %s: called %s, error %v", version, s.called, err)
		}
	}
}

func TestReport(t *testing.T) {
	var out bytes.Buffer
	if err := report(wire.Invalid("mtu", 5, "must be more"), "1.0.0").print(&out); err != nil {
		t.Fatal(err)
	}
	var have map[string]any
	if err := json.Unmarshal(out.Bytes(), &have); err != nil {
		t.Fatal(err)
	}
	if have["cniVersion"] != "1.0.0" || have["code"] != 7.0 || have["msg"] != "mtu 5: must be more" || len(have) != 3 {
		t.Errorf("printed %s", out.String())
	}
}

// TestDelErrors: the error of a DEL has no words by which a runtime takes it for one
// that had nothing to do; other errors stay as they are.
func TestDelErrors(t *testing.T) {
	const stdin = `{"name": "no such file or directory", "cniVersion": "1.0.0"}`
	for command, want := range map[string]string{
		"DEL": `name \"path is missing\"`, "ADD": `name \"no such file or directory\"`,
	} {
		vars := map[string]string{
			"CNI_COMMAND": command, "CNI_CONTAINERID": "c1", "CNI_NETNS": "/run/netns/c1", "CNI_IFNAME": "eth0", "CNI_PATH": "/opt/cni/bin",
		}
		var out bytes.Buffer
		p := process{func(k string) string { return vars[k] }, strings.NewReader(stdin), &out, &out}
		if err := p.attend(nil); err == nil || !strings.Contains(out.String(), want) {
			t.Errorf("%s: %v, %s", command, err, &out)
		}
	}
	vars := map[string]string{
		"CNI_COMMAND": "DEL", "CNI_CONTAINERID": "c1", "CNI_NETNS": "", "CNI_IFNAME": "eth0", "CNI_PATH": "/opt/cni/bin",
	}
	var out, log bytes.Buffer
	p := process{func(k string) string { return vars[k] }, strings.NewReader(`{"name": "web", "cniVersion": "1.0.0"}`), &out, &log}
	err := p.attend(func() (verbs, error) { panic("file not found") })
	if err == nil || !strings.Contains(out.String(), `"msg": "panic: file missing"`) || !strings.Contains(log.String(), "goroutine") {
		t.Errorf("a panic: %v, %s, %s", err, &out, &log)
	}
	f := failure{Msg: "lease not found", Details: "stat /x: no such file or directory"}
	if f.notGone(); f.Msg != "lease missing" || f.Details != "stat /x: path is missing" {
		t.Errorf("%+v", f)
	}
}
