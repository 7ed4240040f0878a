package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"runtime"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// samples are times of one thing.
type samples []time.Duration

// percentile returns 0 of no samples.
func (s samples) percentile(p int) time.Duration {
	if len(s) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(s))
	return sorted[(len(sorted)-1)*p/100]
}

// A table has a row for each thing measured.
type table struct {
	rows   []row
	builds []buildRow
	cli    []buildRow
	peers  []peerRow
	// peersOf is what the rows beside peers are about.
	peersOf string
	ours    bool // is there anything to put in that column
	note    string
}

// A row has the figures of the reference, of ours and of the floor, and how
// many times better ours is; "" where nothing was measured.
type row struct{ what, reference, ours, floor, ratio string }

// times adds a percentile of the reference, ours and the floor.
func (t *table) times(what string, of []samples, p int) {
	reference, ours, floor := of[0].percentile(p), of[1].percentile(p), of[2].percentile(p)
	t.rows = append(t.rows, row{what, ms(reference), ms(ours), ms(floor), ratio(float64(reference), float64(ours))})
}

// numbers adds counts of the reference and ours.
func (t *table) numbers(what string, of [2]int, unit string) {
	ours := ""
	if t.ours {
		ours = fmt.Sprint(of[1], unit)
	}
	t.rows = append(t.rows, row{what, fmt.Sprint(of[0], unit), ours, "", ratio(float64(of[0]), float64(of[1]))})
}

// rates is numbers for what is better when there is more of it.
func (t *table) rates(what string, of [2]int, unit string) {
	t.numbers(what, of, unit)
	t.rows[len(t.rows)-1].ratio = ratio(float64(of[1]), float64(of[0]))
}

// micros adds a percentile of the reference and ours, in microseconds.
func (t *table) micros(what string, of []samples, p int) {
	reference, ours := of[0].percentile(p), of[1].percentile(p)
	t.rows = append(t.rows, row{what, us(reference), us(ours), "", ratio(float64(reference), float64(ours))})
}

// own adds what there is no reference for.
func (t *table) own(what, figure string) { t.rows = append(t.rows, row{what: what, ours: figure}) }

func us(d time.Duration) string { return fmt.Sprint(d.Microseconds(), " µs") }

func ms(d time.Duration) string {
	if d == 0 {
		return ""
	}
	return fmt.Sprintf("%.1f ms", float64(d.Microseconds())/1000)
}

func ratio(reference, ours float64) string {
	if reference == 0 || ours == 0 {
		return ""
	}
	return fmt.Sprintf("%.1f times", reference/ours)
}

// print writes the tables as Markdown.
func (t *table) print(w io.Writer) {
	t.printRows(w)
	printBuilds(w, fmt.Sprintf("%d containers on %d networks present", namedContainers, namedNetworks), t.builds)
	printBuilds(w, fmt.Sprintf("The command line, beside %d networks with %d containers, and one with as many", manyNetworks, manyAttachments), t.cli)
	t.printPeers(w)
}

// printRows writes the table beside the reference.
func (t *table) printRows(w io.Writer) {
	if len(t.rows) == 0 {
		return
	}
	rows := append([]row{{"", "reference", "dcni", "floor", "dcni is better"}}, t.rows...)
	for i, r := range rows {
		_, _ = fmt.Fprintf(w, "| %-34s | %10s | %10s | %8s | %14s |\n", r.what, r.reference, r.ours, r.floor, r.ratio)
		if i == 0 {
			_, _ = fmt.Fprintf(w, "|%s|%s:|%s:|%s:|%s:|\n", dashes(36), dashes(11), dashes(11), dashes(9), dashes(15))
		}
	}
	_, _ = fmt.Fprintf(w, "\n%s\n\n", t.note)
}

// printBuilds writes a table of builds.
func printBuilds(w io.Writer, what string, rows []buildRow) {
	if len(rows) == 0 {
		return
	}
	_, _ = fmt.Fprintf(w, "%s:\n\n", what)
	for i, r := range append([]buildRow{{"", "dcni", "before", "dcni to before"}}, rows...) {
		_, _ = fmt.Fprintf(w, "| %-34s | %10s | %10s | %14s |\n", r.what, r.now, r.before, r.ratio)
		if i == 0 {
			_, _ = fmt.Fprintf(w, "|%s|%s:|%s:|%s:|\n", dashes(36), dashes(11), dashes(11), dashes(15))
		}
	}
	_, _ = fmt.Fprintln(w)
}

// A peerRow compares a network with what does the same without one.
type peerRow struct{ what, peer, ours, ratio, limit string }

// Which of two figures is better.
const (
	higher = ">="
	lower  = "<="
)

// overlay adds the medians of a peer's figures and of ours, the median of the ratios of
// ours to the peer's of each turn, and what it is to be; limit 0: nothing.
func (t *table) overlay(what, format string, figures [2][]float64, better string, limit float64) {
	ratios := make([]float64, len(figures[0]))
	for i := range ratios {
		ratios[i] = figures[1][i] / figures[0][i]
	}
	r := peerRow{what: what, ratio: fmt.Sprintf("%.3f", median(ratios))}
	r.peer, r.ours = fmt.Sprintf(format, median(figures[0])), fmt.Sprintf(format, median(figures[1]))
	if limit != 0 {
		r.limit = fmt.Sprintf("%s %.2f", better, limit)
	}
	t.peers = append(t.peers, r)
}

// overlayOwn adds what has no peer.
func (t *table) overlayOwn(what, figure, limit string) {
	t.peers = append(t.peers, peerRow{what: what, ours: figure, limit: limit})
}

// printPeers writes the rows beside peers.
func (t *table) printPeers(w io.Writer) {
	if len(t.peers) == 0 {
		return
	}
	_, _ = fmt.Fprintf(w, "\n%s:\n\n", t.peersOf)
	for i, r := range append([]peerRow{{"", "peer", "dcni", "dcni to peer", "to be"}}, t.peers...) {
		_, _ = fmt.Fprintf(w, "| %-52s | %10s | %10s | %12s | %8s |\n", r.what, r.peer, r.ours, r.ratio, r.limit)
		if i == 0 {
			_, _ = fmt.Fprintf(w, "|%s|%s:|%s:|%s:|%s:|\n", dashes(54), dashes(11), dashes(11), dashes(13), dashes(9))
		}
	}
}

func dashes(n int) string { return strings.Repeat("-", n) }

// write writes the document. Sections that the one before has are by hand, and stay.
func (t *table) write(path string) error {
	before, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}

	var kernel unix.Utsname
	if err := unix.Uname(&kernel); err != nil {
		return err
	}
	var text strings.Builder
	_, _ = fmt.Fprintf(&text, `# Benchmarks

Written by `+"`make bench BENCH='-o docs/benchmarks.md'`"+` on Linux %s with %d processors. The reference is Debian's
bridge (ipMasq) with host-local, portmap and firewall. Both lists do the same work in the same run, taking turns, each
plugin executed as a runtime does it. The floor makes the same kernel objects and decides nothing: a veth pair, an
address, a route, two nftables elements, over netlink, in a process of its own. For names the reference is dnsmasq.

The second table has what names cost, in this build and in the one before, which have a host each and take turns
(`+"`-before DIRECTORY`"+`). Its ratios are medians of the ratios of the rounds. The bare program also makes the sandbox's two
sockets and its nftables table there; the processor time is that of the plugins and of dnetd.

`, unix.ByteSliceToString(kernel.Release[:]), runtime.NumCPU())
	t.print(&text)
	if _, sections, has := strings.Cut(string(before), "\n## "); has {
		text.WriteString("\n## " + sections)
	}
	return os.WriteFile(path, []byte(text.String()), 0o644)
}
