package main

import (
	"strings"
	"testing"
	"time"
)

func TestChanges(t *testing.T) {
	web := networkEvent("create", "web", "bridge", nil)
	c1 := networkEvent("connect", "web", "bridge", map[string]string{"container": "c1"})
	c1.TimeNano = 5
	before := scene{"1 web": web, "2 c1": c1}
	after := scene{"2 c2": networkEvent("connect", "mesh", "overlay", map[string]string{"container": "c2"}), "1 web": web}
	at := time.Unix(7, 9)
	var got []string
	for _, e := range append(changes(before, after, at), changes(after, after, at)...) {
		if e.Time != 7 || e.TimeNano != 7e9+9 {
			t.Errorf("%+v", e)
		}
		got = append(got, e.Action+" "+e.Actor.Attributes["container"]+" "+e.Actor.Attributes["name"]+" "+e.Scope)
	}
	want := "disconnect c1 web local; connect c2 mesh global"
	if text := strings.Join(got, "; "); text != want {
		t.Errorf("%s, want %s", text, want)
	}
	if got := changes(scene{"1 web": web}, scene{}, at); len(got) != 1 || got[0].Action != "destroy" {
		t.Errorf("%v", got)
	}
}

func TestSize(t *testing.T) {
	for n, want := range map[uint64]string{0: "0B", 12345: "12.3kB", 10000: "10kB", 999: "999B", 1000: "1kB", 1536: "1.54kB", 123456789: "123MB", 999999: "1000kB", 1 << 63: "9.22EB"} {
		if got := size(n); got != want {
			t.Errorf("%d: %s, want %s", n, got, want)
		}
	}
}
