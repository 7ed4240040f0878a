package main

import (
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"dcni/pkg/cni"
	"dcni/pkg/ddns"
	"dcni/pkg/host"
	"dcni/pkg/host/early"
	"dcni/pkg/names"
	"dcni/pkg/network"
	"dcni/pkg/records"
	"dcni/pkg/wire"
)

// errandFor is a call of ddns for a container at 10.0.1.2.
func errandFor(b *box, verb, container string) cni.Errand {
	env := map[string]string{
		"CNI_COMMAND": verb, "CNI_CONTAINERID": container, "CNI_NETNS": b.path, "CNI_IFNAME": "eth0", "CNI_PATH": "/opt/cni/bin",
		"CNI_ARGS": "IgnoreUnknown=1;K8S_POD_NAME=one",
	}
	conf := fmt.Sprintf(`{"cniVersion": "1.1.0", "name": "web", "type": "ddns", "prevResult": {"cniVersion": "1.1.0",
		"interfaces": [{"name": "br-web", "mac": "02:42:01:02:03:04"}, {"name": "v12345", "mtu": 1500},
			{"name": "eth0", "mac": "02:42:0a:00:01:02", "mtu": 1500, "sandbox": %q}],
		"ips": [{"address": "10.0.1.2/24", "gateway": "10.0.1.1", "interface": 2}],
		"routes": [{"dst": "0.0.0.0/0", "gw": "10.0.1.1"}]}}`, b.path)
	return cni.Errand{
		Plugin: ddns.Plugin, Program: "/opt/cni/bin/ddns", Getenv: func(name string) string { return env[name] },
		Conf: []byte(conf), Stdout: io.Discard, Log: slog.New(slog.DiscardHandler), Waits: func() bool { return true },
	}
}

// do runs an errand in this process.
func (r *rig) do(d *dnetd, e cni.Errand) (byte, time.Duration) {
	r.t.Helper()
	start := time.Now()
	machine, err := host.New(r.store)
	if err != nil {
		r.t.Fatal(err)
	}
	defer machine.Close()
	machine.Ask = d.askSelf
	status := d.outcome(e, machine)
	return status, time.Since(start)
}

// newHere returns a dnetd in this process, with no tasks.
func (r *rig) newHere() *dnetd {
	r.t.Helper()
	d, err := newDnetd(options{socket: r.socket()}, r.store, slog.New(slog.DiscardHandler))
	if err != nil {
		r.t.Fatal(err)
	}
	return d
}

// TestErrand attaches a container, and lets it go.
func TestErrand(t *testing.T) {
	r := newRig(t)
	d, b := r.newHere(), r.box()
	for _, step := range []struct {
		verb    string
		status  byte
		printed string
		known   int
	}{
		{"ADD", early.Done, `"nameservers"`, 1},
		{"CHECK", early.Failed, "prevResult: name server 127.0.0.11 is missing", 1},
		{"ADD", early.Failed, "DEL comes first", 1},
		{"DEL", early.Done, "", 0},
		{"DEL", early.Done, "", 0},
		{"ADD", early.Done, `"nameservers"`, 1},
		{"DEL", early.Done, "", 0},
	} {
		e, out := errandFor(b, step.verb, "one-id"), &printout{}
		e.Stdout = out
		status, _ := r.do(d, e)
		if status != step.status || !strings.Contains(out.String(), step.printed) || step.printed == "" && out.Len() > 0 {
			t.Errorf("%s: status %d, want %d, with %q: %s", step.verb, status, step.status, step.printed, out)
		}
		if n := d.memory.count(); n != step.known {
			t.Errorf("%s: %d sandboxes are known, want %d", step.verb, n, step.known)
		}
	}
}

// TestErrandOnRecord wants the record to say where the name server listens, be it
// as foreseen or not.
func TestErrandOnRecord(t *testing.T) {
	for _, taken := range []bool{false, true} {
		r := newRig(t)
		d, b := r.newHere(), r.box()
		if taken {
			s, err := host.OpenNameServer(b.path, b.cookie, names.UsualPort, false)
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
		}
		if status, _ := r.do(d, errandFor(b, "ADD", "one-id")); status != early.Done {
			t.Fatalf("status %d", status)
		}
		rec, err := r.store.Get(wire.Attachment{Network: "web", Container: "one-id", IfName: "eth0"}, plugin)
		if err != nil {
			t.Fatal(err)
		}
		port, _ := d.memory.ports(b.cookie)
		if rec.State != records.Up || rec.Resolver.Port != port || (port == names.UsualPort) == taken {
			t.Errorf("on record %s at port %d, served at %d, the usual port taken: %v", rec.State, rec.Resolver.Port, port, taken)
		}
	}
}

// An oddRoot is an object of a kind that no host knows.
type oddRoot struct{ *names.Resolver }

// TestErrandDeclined has errands that are the plugin's to carry out: nothing is
// done and nothing printed.
func TestErrandDeclined(t *testing.T) {
	r := newRig(t)
	d, b := r.newHere(), r.box()
	lock, err := r.store.LockAttachment(wire.Attachment{Network: "web", Container: "busy-id", IfName: "eth0"})
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Unlock()
	busy, gone, mad := errandFor(b, "ADD", "busy-id"), errandFor(b, "ADD", "gone-id"), errandFor(b, "ADD", "mad-id")
	gone.Waits = func() bool { return false }
	mad.Plugin = &cni.Plugin{Name: "ddns", Parse: func(network.Conf) (cni.Mode, error) { panic("of no use") }}
	aside := errandFor(b, "DEL", "aside-id")
	aside.Plugin = &cni.Plugin{Name: "ddns", Parse: ddns.Plugin.Parse, Guest: ddns.Plugin.Guest, Roots: func(cni.Site) []wire.Object {
		return []wire.Object{oddRoot{}} // is removed in a goroutine of its own
	}}
	for name, e := range map[string]cni.Errand{"busy": busy, "gone": gone, "mad": mad, "aside": aside} {
		var out bytes.Buffer
		e.Stdout = &out
		if status, _ := r.do(d, e); status != early.Declined || out.Len() > 0 {
			t.Errorf("%s: status %d, printed %q", name, status, &out)
		}
	}
	if list, err := r.store.List("web"); len(list) > 0 || err != nil {
		t.Errorf("records: %v, %v", list, err)
	}
}

// TestErrandUnheard has the plugin end while its ADD is carried out. It is not
// told, and what it asked for is there to be found.
func TestErrandUnheard(t *testing.T) {
	r := newRig(t)
	d, e := r.newHere(), errandFor(r.box(), "ADD", "one-id")
	var out bytes.Buffer
	asked := 0
	e.Stdout, e.Waits = &out, func() bool { asked++; return asked == 1 }
	if status, _ := r.do(d, e); status != early.Declined || out.Len() > 0 {
		t.Errorf("status %d, printed %q", status, &out)
	}
	if list, err := r.store.List("web"); len(list) != 1 || err != nil {
		t.Errorf("records: %v, %v", list, err)
	}
}

// TestErrandOfWhom sends errands that are not ddns's. To be declined is to be
// answered with one byte.
func TestErrandOfWhom(t *testing.T) {
	r := newRig(t)
	r.start()
	for name, message := range map[string]string{
		"another program": "errand\x00" + ownMark + "\x00CNI_COMMAND=ADD\x00\x00{}",
		"another version": "errand\x00v0.0.0-other\x00CNI_COMMAND=ADD\x00\x00{}",
	} {
		c, err := net.Dial("unixpacket", r.socket())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if _, err := c.Write([]byte(message)); err != nil {
			t.Fatal(err)
		}
		answer := make([]byte, 100)
		if n, err := c.Read(answer); err != nil || n != 1 || answer[0] != early.Declined {
			t.Errorf("%s: %q, %v", name, answer[:n], err)
		}
	}
}

// BenchmarkErrand is ADD as dnetd carries it out, without the plugin's process.
func BenchmarkErrand(b *testing.B) {
	r := newRig(b)
	d := r.newHere()
	var adds []time.Duration
	for b.Loop() {
		box := r.box()
		for _, verb := range []string{"ADD", "DEL"} {
			status, took := r.do(d, errandFor(box, verb, "one-id"))
			if status != early.Done {
				b.Fatalf("%s: status %d", verb, status)
			}
			if verb == "ADD" {
				adds = append(adds, took)
			}
		}
	}
	slices.Sort(adds)
	b.ReportMetric(float64(adds[len(adds)/2].Microseconds()), "us/ADD")
}
