package records

import (
	"encoding/base64"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"dcni/pkg/wire"
)

// What libcni has kept counts, else the network's file as it is now.
func TestChainOf(t *testing.T) {
	results, lists := t.TempDir(), t.TempDir()
	a := wire.Attachment{Network: "web", Container: "c1", IfName: "eth0"}
	write := func(path, text string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want := func(list, result string) {
		t.Helper()
		if c := chainIn(results, lists, a); string(c.List) != list || string(c.Result) != result {
			t.Errorf("list %s, result %s; want %s and %s", c.List, c.Result, list, result)
		}
	}
	want("", "")
	write(filepath.Join(lists, "1.conflist"), "{")
	write(filepath.Join(lists, "2.conflist"), `{"name": "lab"}`)
	write(filepath.Join(lists, "3.txt"), `{"name": "web", "plugins": 3}`)
	if err := os.Symlink("/dev/zero", filepath.Join(lists, "4.conflist")); err != nil {
		t.Fatal(err)
	}
	want("", "")
	write(filepath.Join(lists, "5.conflist"), `{"name": "web"}`)
	want(`{"name": "web"}`, "")
	kept := filepath.Join(results, "web-c1-eth0")
	write(kept, `{"config": "e30=", "networkName": "web", "containerId": "c1", "ifName": "eth0", "result": {"ips": []}}`)
	want("{}", `{"ips": []}`)
	write(kept, `{"config": "e30=", "networkName": "web-c1", "containerId": "", "ifName": "eth0", "result": {"ips": []}}`)
	want(`{"name": "web"}`, "") // another attachment's, whose names make the same file's
	write(kept, `{"config": 5}`)
	want(`{"name": "web"}`, "")
	whole := `{"config": "e30=", "networkName": "web", "containerId": "c1", "ifName": "eth0", "capabilityArgs": %s}`
	for values, readable := range map[string]bool{`{"mac": "x"}`: true, "5": false} {
		write(kept, fmt.Sprintf(whole, values))
		if c := keptIn(results, ConfDir(lists), a); (c != nil) != readable {
			t.Errorf("values %s: %+v", values, c)
		}
	}
}

// What libcni reads beside a list is part of it, also where libcni has kept the list alone.
func TestWithSidePlugins(t *testing.T) {
	results, d := t.TempDir(), ConfDir(t.TempDir())
	write := func(path, text string) {
		t.Helper()
		if err := os.MkdirAll(filepath.Dir(path), 0o750); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want := func(list, whole, failure string) {
		t.Helper()
		got, err := d.WithSidePlugins([]byte(list))
		if string(got) != whole || fmt.Sprint(err) != failure {
			t.Errorf("%s: %s, %v; want %s, %s", list, got, err, whole, failure)
		}
	}
	const list = `{"name":"web","plugins":[{"type":"a"}]}`
	side := func(name string) string { return filepath.Join(string(d), "web", name) }
	want(list, list, "<nil>")
	write(filepath.Join(string(d), "file"), "")
	want(`{"name":"file"}`, `{"name":"file"}`, "<nil>")
	write(side("20.conf"), `{"type":"c"}`)
	write(side("10.conf"), `{"type":"b"}`)
	write(side("30.conflist"), `{"type":"d"}`)
	write(filepath.Join(string(d), "up.conf"), `{"type":"e"}`)
	whole := `{"name":"web","plugins":[{"type":"a"},{"type":"b"},{"type":"c"}]}`
	want(list, whole, "<nil>")
	want(`{"name":"web"}`, `{"name":"web","plugins":[{"type":"b"},{"type":"c"}]}`, "<nil>")
	for _, inlined := range []string{"true", `"True"`} {
		only := `{"loadOnlyInlinedPlugins":` + inlined + `,"name":"web"}`
		want(only, only, "<nil>")
	}
	for _, other := range []string{`{"name":".."}`, `{"name":""}`, "[", `{"name":"lab"}`} {
		want(other, other, "<nil>")
	}
	a := wire.Attachment{Network: "web", Container: "c1", IfName: "eth0"}
	write(filepath.Join(string(d), "web.conflist"), list)
	if c := chainIn(results, string(d), a); string(c.List) != whole {
		t.Errorf("the file's list is %s", c.List)
	}
	write(filepath.Join(results, "web-c1-eth0"), fmt.Sprintf(`{"config":%q,"networkName":"web","containerId":"c1","ifName":"eth0"}`,
		base64.StdEncoding.EncodeToString([]byte(list))))
	if c := chainIn(results, string(d), a); string(c.List) != whole {
		t.Errorf("the kept list is %s", c.List)
	}
	if c := keptIn(results, d, a); c == nil || string(c.Conf) != whole {
		t.Errorf("kept: %+v", c)
	}
	write(side("40.conf"), `{}`)
	want(list, list, side("40.conf")+": no type")
	write(side("40.conf"), `[`)
	want(list, list, side("40.conf")+": unexpected end of JSON input")
}
