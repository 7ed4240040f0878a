package records

import (
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
	write(kept, `{"config": "e30=", "result": {"ips": []}}`)
	want("{}", `{"ips": []}`)
	write(kept, `{"config": 5}`)
	want(`{"name": "web"}`, "")
	whole := `{"config": "e30=", "networkName": "web", "containerId": "c1", "ifName": "eth0", "capabilityArgs": %s}`
	for values, readable := range map[string]bool{`{"mac": "x"}`: true, "5": false} {
		write(kept, fmt.Sprintf(whole, values))
		if c := keptIn(results, a); (c != nil) != readable {
			t.Errorf("values %s: %+v", values, c)
		}
	}
}
