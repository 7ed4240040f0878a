package main

import (
	"fmt"
	"io"
	"slices"
	"time"
)

// A result is what a cluster was measured to need.
type result struct {
	shape  shape
	claims float64 // a second, all nodes at once

	listed  time.Duration // all nodes at once
	listing float64       // MB, the member's peak then

	beginning float64 // CPU seconds, of a node that begins to follow

	// While endpoints come and go, all of it a second and of all nodes together.
	events, entered, kept float64 // changes heard of, entries, lists of names that were written down
	sent                  float64 // bytes, from the member
	nodesCPU, memberCPU   float64 // cores
	seen                  samples
	peak                  float64 // MB, the member's

	said said // of keys

	again time.Duration // after the member's restart
	herd  float64       // MB, the peak of the member that was started again
}

// A usage is what was used until a time.
type usage struct {
	at                    time.Time
	own, member           time.Duration
	sent                  float64
	events, entered, kept int64
}

func (c *simulation) usage() (u usage, err error) {
	u.at, u.events, u.entered, u.kept = time.Now(), c.counts.events.Load(), c.counts.entered.Load(), c.counts.kept.Load()
	if u.own, err = ownCPU(); err != nil {
		return u, err
	}
	if u.member, err = c.member.cpu(); err != nil {
		return u, err
	}
	u.sent, err = c.member.sent()
	return u, err
}

// rates notes what was used between two times.
func (r *result) rates(from, to usage) {
	seconds := to.at.Sub(from.at).Seconds()
	r.events, r.entered = float64(to.events-from.events)/seconds, float64(to.entered-from.entered)/seconds
	r.kept = float64(to.kept-from.kept) / seconds
	r.sent = (to.sent - from.sent) / seconds
	r.nodesCPU, r.memberCPU = (to.own-from.own).Seconds()/seconds, (to.member-from.member).Seconds()/seconds
}

// samples are times.
type samples []time.Duration

// percentile returns a sample that so many in a hundred are not above.
func (s samples) percentile(p int) time.Duration {
	sorted := slices.Clone(s)
	slices.Sort(sorted)
	return sorted[min(len(sorted)*p/100, len(sorted)-1)]
}

// printTable prints a column for each cluster.
func printTable(w io.Writer, all []result) {
	row := func(name string, value func(result) string) {
		fmt.Fprintf(w, "| %-44s |", name)
		for _, r := range all {
			fmt.Fprintf(w, " %23s |", value(r))
		}
		fmt.Fprintln(w)
	}
	number := func(name, format string, value func(result) float64) {
		row(name, func(r result) string { return fmt.Sprintf(format, value(r)) })
	}
	row("", func(r result) string { return r.shape.String() })
	row("---", func(result) string { return "---:" })
	number("endpoints", "%.0f", func(r result) float64 { return float64(r.shape.nodes * r.shape.endpoints) })
	number("claims/s, all nodes at once", "%.0f", func(r result) float64 { return r.claims })
	number("all nodes list at once: done after s", "%.2f", func(r result) float64 { return r.listed.Seconds() })
	number("... member's peak MB", "%.0f", func(r result) float64 { return r.listing })
	number("a node begins to follow: CPU s", "%.3f", func(r result) float64 { return r.beginning })
	number("changes: events/s on all nodes", "%.0f", func(r result) float64 { return r.events })
	number("... MB/s from the member", "%.2f", func(r result) float64 { return r.sent / 1e6 })
	number("... entries/s on all nodes", "%.0f", func(r result) float64 { return r.entered })
	number("... lists of names written/s on all nodes", "%.0f", func(r result) float64 { return r.kept })
	number("... CPU cores of all nodes", "%.2f", func(r result) float64 { return r.nodesCPU })
	number("... CPU cores of the member", "%.2f", func(r result) float64 { return r.memberCPU })
	number("... seen on other nodes, p50 ms", "%.0f", func(r result) float64 { return ms(r.seen.percentile(50)) })
	number("... seen on other nodes, p99 ms", "%.0f", func(r result) float64 { return ms(r.seen.percentile(99)) })
	number("... member's peak MB", "%.0f", func(r result) float64 { return r.peak })
	number("encrypted, all say their keys: done after s", "%.2f", func(r result) float64 { return r.said.written.Seconds() })
	number("... MB in the store", "%.1f", func(r result) float64 { return r.said.stored / 1e6 })
	number("... all read what is for them: done after s", "%.2f", func(r result) float64 { return r.said.read.Seconds() })
	number("... one more node comes: MB written", "%.2f", func(r result) float64 { return r.said.pages / 1e6 })
	number("... ... MB read, all nodes together", "%.2f", func(r result) float64 { return r.said.heard / 1e6 })
	number("... ... done after s", "%.2f", func(r result) float64 { return r.said.one.Seconds() })
	number("member restarted: all up to date after s", "%.2f", func(r result) float64 { return r.again.Seconds() })
	number("... member's peak MB", "%.0f", func(r result) float64 { return r.herd })
}

func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
