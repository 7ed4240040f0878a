package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"dcni/integration/testhost"
)

// A run is one benchmark.
type run struct {
	options
	host      *testhost.Host
	reference *list
	ours      *list  // nil if not built
	shape     string // see namesKey
	table     table
}

// lists are those to be measured, the reference first.
func (b *run) lists() []*list {
	if b.ours == nil {
		return []*list{b.reference}
	}
	return []*list{b.reference, b.ours}
}

// measure fills the table.
func (b *run) measure() error {
	switch {
	case b.options.names:
		return b.names()
	case b.onlyBuilds:
		return b.builds()
	case b.onlyCLI:
		return errors.Join(b.commandLine(), b.connects(), b.severalNetworks())
	case b.onlyIPTables:
		return errors.Join(b.sandboxes(0, b.rounds+1), b.byIPTables())
	case b.onlyESP:
		return b.encrypted()
	case b.onlyRules:
		return b.rules()
	case b.onlyLimits:
		return b.limits()
	case b.onlyServices:
		return b.services()
	case b.onlyOverlay:
		return errors.Join(b.dnetdSizes(), b.overlays())
	}
	if b.onlyLAN {
		return errors.Join(b.sandboxes(0, max(b.rounds+1, burst)+1), b.lans())
	}
	if err := b.sandboxes(0, max(b.rounds+1, burst)+1); err != nil {
		return err
	}
	if err := prepareFloor(); err != nil {
		return err
	}
	for _, step := range []func() error{b.times, b.byIPTables, b.manyPorts, b.processes, b.memory, b.burst, b.lans, b.crowded, b.allocation, b.commandLine, b.connects, b.severalNetworks, b.names, b.relayed, b.builds, b.dnetdSizes, b.overlays} {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

// sandboxes makes network namespaces, only those that a measurement needs: each one
// makes starting all later processes dearer.
func (b *run) sandboxes(from, to int) error {
	for i := from; i < to; i++ {
		if err := b.host.NewNetNS(sandbox(i)); err != nil {
			return err
		}
	}
	return nil
}

// times measures ADD and DEL of one container with one port, in turns.
func (b *run) times() error {
	adds, dels := make([]samples, 3), make([]samples, 3)
	for i := range b.rounds + 1 {
		for which, both := range append(b.timers(1), func(i int) (_, _ time.Duration, _ error) { return timeFloor(i, "plain") }) {
			add, del, err := both(i)
			if err != nil {
				return err
			}
			if which == len(b.lists()) {
				which = 2 // the floor's place, also when ours is missing
			}
			if i > 0 { // the first makes what the network shares
				adds[which] = append(adds[which], add)
				dels[which] = append(dels[which], del)
			}
		}
	}
	b.table.times("ADD, one port: p50", adds, 50)
	b.table.times("ADD, one port: p90", adds, 90)
	b.table.times("DEL, one port: p50", dels, 50)
	b.table.times("DEL, one port: p90", dels, 90)
	return nil
}

// byIPTables measures ADD and DEL where dcni's rules are iptables', in turns with the reference.
func (b *run) byIPTables() error {
	if b.ours == nil {
		return nil
	}
	lists := []*list{b.reference, mustList(`{"cniVersion": "1.0.0", "name": "byiptables", "plugins": [
		{"type": "dbridge", "firewall": "iptables", "capabilities": {"portMappings": true}, "ipam": {"type": "dipam", "subnet": "10.97.0.0/16"}}]}`)}
	adds, dels := make([]samples, 3), make([]samples, 3)
	for i := range b.rounds + 1 {
		for which, l := range lists {
			add, del, err := l.both(attachment(i, 1))
			if err != nil {
				return err
			}
			if i > 0 { // the first makes what the network shares
				adds[which], dels[which] = append(adds[which], add), append(dels[which], del)
			}
		}
	}
	b.table.times("ADD, one port, by iptables: p50", adds, 50)
	b.table.times("DEL, one port, by iptables: p50", dels, 50)
	return nil
}

// timers time each list with a number of ports.
func (b *run) timers(ports int) []func(i int) (add, del time.Duration, err error) {
	var timers []func(int) (time.Duration, time.Duration, error)
	for _, l := range b.lists() {
		timers = append(timers, func(i int) (time.Duration, time.Duration, error) { return l.both(attachment(i, ports)) })
	}
	return timers
}

// manyPorts measures ADD and DEL with 1,000 published ports, of the reference only
// once, since that takes most of a minute.
func (b *run) manyPorts() error {
	adds, dels := make([]samples, 3), make([]samples, 3)
	for which, both := range b.timers(1000) {
		for range 1 + 4*which {
			add, del, err := both(0)
			if err != nil {
				return err
			}
			adds[which] = append(adds[which], add)
			dels[which] = append(dels[which], del)
		}
	}
	b.table.times("ADD, 1,000 ports: p50", adds, 50)
	b.table.times("DEL, 1,000 ports: p50", dels, 50)
	return nil
}

// processes counts what one ADD executes.
func (b *run) processes() error {
	var counts [2]int
	for which, l := range b.lists() {
		n, err := l.processes(attachment(0, 1))
		if err != nil {
			return err
		}
		counts[which] = n
	}
	b.table.numbers("processes of one ADD", counts, "")
	return nil
}

// memory finds the greatest plugin.
func (b *run) memory() error {
	var sizes [2]int
	for which, l := range b.lists() {
		kib, err := l.memory(attachment(0, 1))
		if err != nil {
			return err
		}
		sizes[which] = kib
	}
	b.table.numbers("peak memory of a plugin", sizes, " KiB")
	return nil
}

// How many sandboxes come up together, and how many of them at a time.
const burst, width = 100, 20

// burst attaches many containers at once and looks whether two got the same
// address.
func (b *run) burst() error {
	var rates, failures, duplicates [2]int
	for which, l := range b.lists() {
		start := time.Now()
		addresses, failed := b.together(l)
		rates[which] = int(float64(burst) / time.Since(start).Seconds())
		failures[which] = failed
		slices.Sort(addresses)
		duplicates[which] = len(addresses) - len(slices.Compact(slices.Clone(addresses)))
		for i := range burst {
			if err := l.del(attachment(i, 1)); err != nil {
				return err
			}
		}
	}
	b.table.rates(fmt.Sprintf("%d containers, %d at a time", burst, width), rates, " /s")
	b.table.numbers("... errors", failures, "")
	b.table.numbers("... addresses given twice", duplicates, "")
	return nil
}

// together adds all sandboxes and returns their addresses.
func (b *run) together(l *list) (addresses []string, failed int) {
	var mu sync.Mutex
	b.atOnce(func(i int) {
		address, err := l.add(attachment(i, 1))
		mu.Lock()
		defer mu.Unlock()
		if err != nil {
			failed++
			fmt.Fprintln(os.Stderr, "bench:", l.conf.Name, sandbox(i), err)
			return
		}
		addresses = append(addresses, address)
	})
	return addresses, failed
}

// atOnce calls f for each sandbox, several at a time, in the host.
func (b *run) atOnce(f func(i int)) {
	var next atomic.Int64
	var workers sync.WaitGroup
	for range width {
		workers.Go(func() {
			if err := b.host.Thread(); err != nil {
				panic(err) // nothing may be attached outside the host
			}
			for i := int(next.Add(1)) - 1; i < burst; i = int(next.Add(1)) - 1 {
				f(i)
			}
		})
	}
	workers.Wait()
}

// crowded measures ADD and DEL of ours again, with many containers present.
func (b *run) crowded() error {
	if b.ours == nil {
		return nil
	}
	first := max(b.rounds+1, burst) + 1
	if err := b.sandboxes(first, b.crowd+b.rounds); err != nil {
		return err
	}
	for i := range b.crowd {
		if _, err := b.ours.add(attachment(i, 1)); err != nil {
			return err
		}
	}
	adds, dels := make([]samples, 3), make([]samples, 3)
	for i := range b.rounds {
		add, del, err := b.ours.both(attachment(b.crowd+i, 1))
		if err != nil {
			return err
		}
		adds[1], dels[1] = append(adds[1], add), append(dels[1], del)
	}
	b.table.times(fmt.Sprintf("ADD, %d containers present: p50", b.crowd), adds, 50)
	b.table.times(fmt.Sprintf("DEL, %d containers present: p50", b.crowd), dels, 50)
	return b.disperse(first)
}

// disperse takes the crowd away, and the sandboxes that were made for it: what is
// measured next has a number of containers of its own.
func (b *run) disperse(first int) error {
	for i := range b.crowd {
		if err := b.ours.del(attachment(i, 1)); err != nil {
			return err
		}
	}
	for i := first; i < b.crowd+b.rounds; i++ {
		if err := b.host.DelNetNS(sandbox(i)); err != nil {
			return err
		}
	}
	return nil
}

// allocation runs package records' benchmark of one address: next-fit and
// lowest, at 10, 1,000 and 60,000 leases of a /16, whole and with half of them
// holes. Its last line compares the slowest case with the fastest.
func (b *run) allocation() error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	test := filepath.Join(filepath.Dir(self), "records.test")
	out, err := exec.Command(test, "-test.run", "^$", "-test.bench", "Allocate", "-test.benchtime", "300x").Output()
	if err != nil {
		return fmt.Errorf("%s: %w", test, err)
	}
	for line := range strings.Lines(string(out)) {
		if strings.HasPrefix(line, "slowest claim") {
			b.table.note = "One address of 10, 1,000 or 60,000 leases (next-fit and lowest; whole, half of them holes): " + strings.TrimSpace(line) + "."
		}
	}
	return nil
}
