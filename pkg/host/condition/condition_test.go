package condition

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"reflect"
	"testing"

	"dcni/pkg/doctor"
)

func TestManaged(t *testing.T) {
	dir := t.TempDir()
	if err := errors.Join(os.Mkdir(dir+"/devices", 0o755), os.Mkdir(dir+"/system-connections", 0o755)); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{"1": "[device]\nmanaged=true\nconnection-uuid=u1\n", "2": "[device]\nmanaged=false\n", "lo": "managed=true\n", "999999": "managed=true\n"} {
		if err := os.WriteFile(dir+"/devices/"+name, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := managed(dir); err != nil || !reflect.DeepEqual(got, []string{"lo"}) { // index 1 everywhere
		t.Errorf("%v, %v", got, err)
	}
	if err := os.WriteFile(dir+"/system-connections/lo.nmconnection", []byte("[connection]\nuuid=u1\n[.nmmeta]\nexternal=true\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if got, err := managed(dir); err != nil || got != nil {
		t.Errorf("connected externally: %v, %v", got, err)
	}
	if got, err := managed(dir + "/none"); err != nil || got != nil {
		t.Errorf("no NetworkManager: %v, %v", got, err)
	}
}

func TestConfiguredBy(t *testing.T) {
	for text, want := range map[string]string{
		"# a comment\nADMIN_STATE=configured\nNETWORK_FILE=/run/x.network\n": "/run/x.network true",
		"ADMIN_STATE=configuring\nNETWORK_FILE=y\n":                          "y true",
		"ADMIN_STATE=unmanaged\n":                                            " false",
		"ADMIN_STATE=pending\n":                                              " false",
		"":                                                                   " false",
	} {
		if file, is := configuredBy(text); fmt.Sprint(file, " ", is) != want {
			t.Errorf("%q: %s %t, want %s", text, file, is, want)
		}
	}
}

func attribute(typ uint16, data []byte) []byte {
	b := binary.NativeEndian.AppendUint16(nil, uint16(len(data)+4))
	b = append(binary.NativeEndian.AppendUint16(b, typ), data...)
	return append(b, make([]byte, -len(b)&3)...)
}

func TestNeighbourTable(t *testing.T) {
	number := func(n uint32) []byte { return binary.NativeEndian.AppendUint32(nil, n) }
	config := append([]byte{4, 0, 0, 1}, number(77)...)
	whole := append(make([]byte, 4), attribute(1, []byte("arp_cache\x00"))...)
	whole = append(append(whole, attribute(4, number(1024))...), attribute(5, config)...)
	if got, ok := neighbourTable(whole); !ok || got != (doctor.NeighbourTable{Family: 4, Entries: 77, Limit: 1024}) {
		t.Errorf("%+v, %v", got, ok)
	}
	for _, p := range [][]byte{nil, make([]byte, 4), append(make([]byte, 4), attribute(1, []byte("arp_cache\x00"))...), append(make([]byte, 4), attribute(4, []byte{1})...)} {
		if got, ok := neighbourTable(p); ok {
			t.Errorf("%v: %+v", p, got)
		}
	}
}

// TestRead reads this host, whatever it is: the neighbour tables are there in every
// network namespace.
func TestRead(t *testing.T) {
	f, err := Read()
	if err != nil && os.Geteuid() == 0 {
		t.Error(err)
	}
	for _, n := range f.Neighbours {
		if n.Family == 4 && n.Limit > 0 {
			return
		}
	}
	t.Errorf("no table of IPv4 in %+v", f.Neighbours)
}

func TestCounters(t *testing.T) {
	got, err := parseCounters(`Inter-|   Receive                                                |  Transmit
 face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed
    lo:       1    2    3    4    0     0          0         0        5       6    7    8    0     0       0          0
eth0.5:18446744073709551615 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0
`)
	want := map[string]Counters{"lo": {1, 2, 3, 4, 5, 6, 7, 8}, "eth0.5": {RxBytes: 1<<64 - 1}}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%v, %v", got, err)
	}
	for _, text := range []string{"lo: 1 2 3\n", "lo: a 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16\n"} {
		if got, err := parseCounters(text); err == nil {
			t.Errorf("%q: %v", text, got)
		}
	}
	if all, err := ReadCounters("/proc/self/ns/net"); os.Geteuid() == 0 && (err != nil || len(all) == 0) {
		t.Errorf("here: %v, %v", all, err)
	}
	if _, err := ReadCounters(t.TempDir() + "/none"); !os.IsNotExist(err) {
		t.Error(err)
	}
}
