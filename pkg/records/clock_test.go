package records

import (
	"slices"
	"testing"
	"time"
)

// The time of day may be set while attachments are there: the age of a record and which one is older stay what they were.
func TestClockSet(t *testing.T) {
	for _, step := range []time.Duration{0, time.Hour, -time.Hour, -24 * time.Hour} {
		older, younger, upgraded := &Record{Plugin: "older"}, &Record{Plugin: "younger"}, &Record{Plugin: "upgraded"}
		older.Enter(Up)
		younger.Enter(Up)
		older.Since = older.Since.Add(-step) // the clock is set behind it
		upgraded.Since = younger.Since.Add(-time.Minute)
		older.SinceBoot -= time.Second
		if age := older.Age(); age < time.Second || age > time.Minute {
			t.Errorf("clock set by %s: the age is %s", step, age)
		}
		list := slices.SortedFunc(slices.Values([]*Record{younger, older, upgraded}), (*Record).Compare)
		if list[0] != upgraded || list[1] != older {
			t.Errorf("clock set by %s: the order is %s, %s, %s", step, list[0].Plugin, list[1].Plugin, list[2].Plugin)
		}
	}
	future := Moment{Since: time.Now().Add(24 * time.Hour)}
	if age := future.Age(); age < time.Hour {
		t.Errorf("of a record of an older version, the clock set back since: the age is %s", age)
	}
}

// TestConnectionsClockSet: connections are listed in the order in which they were made, also where the time
// of day was set between them.
func TestConnectionsClockSet(t *testing.T) {
	s := Store{Run: t.TempDir()}
	for i, network := range []string{"web", "lab"} {
		c := connection(network, 0)
		c.Moment = Now()
		c.Since = c.Since.Add(time.Duration(-i) * time.Hour)
		if err := s.PutConnection(c); err != nil {
			t.Fatal(err)
		}
	}
	if list, err := s.Connections("c1"); err != nil || len(list) != 2 || list[0].Network != "web" {
		t.Errorf("%v, %v", list, err)
	}
}
