package main

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"testing"

	"dcni/pkg/overlay"
	"dcni/pkg/records"
)

// TestConflists has files of networks that come and go beside others' files.
func TestConflists(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	conf := records.ConfDir(filepath.Join(dir, "net.d"))
	var networks []overlay.Existing
	var unread error
	c := &conflists{
		dir: conf, locks: records.Store{Run: dir + "/run", Lib: dir + "/lib"}, log: slog.New(slog.DiscardHandler),
		list: func(context.Context) ([]overlay.Existing, error) { return networks, unread },
	}
	network := func(name string) overlay.Existing {
		return overlay.Existing{Name: name, Generation: 7, Network: overlay.Network{
			VNI: 4096, Subnets: []overlay.Subnet{{Prefix: netip.MustParsePrefix("10.9.0.0/24"), Gateway: netip.MustParseAddr("10.9.0.1")}},
		}}
	}
	check := func(what string, want ...string) {
		t.Helper()
		files, err := filepath.Glob(string(conf) + "/*")
		if err != nil {
			t.Fatal(err)
		}
		there := map[string]bool{}
		for _, f := range files {
			there[filepath.Base(f)] = true
		}
		for _, name := range want {
			if !there[name] {
				t.Errorf("%s: %s is missing", what, name)
			}
			delete(there, name)
		}
		if len(there) > 0 {
			t.Errorf("%s: there are %v too", what, there)
		}
	}
	sync := func() {
		t.Helper()
		if err := c.sync(t.Context()); err != nil {
			t.Error(err)
		}
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(os.MkdirAll(string(conf), 0o755))
	must(os.WriteFile(string(conf)+"/10-db.conflist", []byte(`{"name":"db"}`), 0o644))
	must(os.WriteFile(conf.Path("back"), []byte(`{"name":"back"}`), 0o644))
	networks = []overlay.Existing{network("back"), network("db"), network("web")}
	sync()
	check("others' files", "10-db.conflist", "dcni-back.conflist", "dcni-web.conflist")

	must(os.Remove(string(conf) + "/10-db.conflist"))
	must(os.Remove(conf.Path("web")))
	must(c.put(*c.known))
	check("an other's file is gone, and one of ours", "dcni-back.conflist", "dcni-db.conflist", "dcni-web.conflist")

	networks, unread = networks[:1], &overlay.UnreadableError{Names: []string{"web"}, Err: errors.New("no JSON")}
	sync()
	check("a network that can't be read", "dcni-back.conflist", "dcni-web.conflist")

	networks, unread = nil, nil
	sync()
	check("no network", "dcni-back.conflist")
}
