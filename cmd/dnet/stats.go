package main

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"dcni/pkg/host/condition"
	"dcni/pkg/host/sandbox"
	"dcni/pkg/network/catalog"
	"dcni/pkg/records"
)

// statsEvery is how often stats shows anew what it counts.
const statsEvery = time.Second

// statsOptions are the flags of stats.
type statsOptions struct {
	noStream bool
	format   string
}

func newStatsCommand(a *app) *cobra.Command {
	var o statsOptions
	cmd := &cobra.Command{
		Use:   "stats [OPTIONS] [CONTAINER...]",
		Short: "Show what the interfaces of containers have received and sent",
		Long: "Show what the interfaces of containers of whichever runtime have received and sent since they were attached, as the containers see it. " +
			"On a terminal it is shown anew every second, until interrupted; else once.",
		Example: "  dnet stats\n" +
			"  dnet stats --no-stream shop\n" +
			"  dnet stats --format json",
		RunE:                  func(_ *cobra.Command, args []string) error { return a.stats(args, o) },
		DisableFlagsInUseLine: true,
	}
	cmd.Flags().BoolVar(&o.noStream, "no-stream", false, "Show it once, also on a terminal")
	cmd.Flags().StringVar(&o.format, "format", "", "table, table TEMPLATE, raw, json, or a Go template")
	return cmd
}

// A statRow is an interface as the templates of stats have it. Numbers are those of the
// container: what it received and sent.
type statRow struct {
	Container, ID, Network, Interface       string
	RxBytes, RxPackets, RxErrors, RxDropped uint64
	TxBytes, TxPackets, TxErrors, TxDropped uint64
}

// Name is the container's, as Docker's templates have it.
func (r *statRow) Name() string { return r.Container }

// NetIO is how much came in and went out, as Docker's templates have it.
func (r *statRow) NetIO() string { return r.Received() + " / " + r.Sent() }

// Received is how much came in.
func (r *statRow) Received() string { return size(r.RxBytes) }

// Sent is how much went out.
func (r *statRow) Sent() string { return size(r.TxBytes) }

// Packets are those that came in and went out.
func (r *statRow) Packets() string { return fmt.Sprintf("%d / %d", r.RxPackets, r.TxPackets) }

// Lost are errors and drops, in and out.
func (r *statRow) Lost() string {
	return fmt.Sprintf("%d / %d", r.RxErrors+r.RxDropped, r.TxErrors+r.TxDropped)
}

var statListing = listing{
	table: "{{.Container}}\t{{.Network}}\t{{.Interface}}\t{{.Received}}\t{{.Sent}}\t{{.Packets}}\t{{.Lost}}",
	raw: "container: {{.Container}}\nnetwork: {{.Network}}\ninterface: {{.Interface}}\nrx_bytes: {{.RxBytes}}\ntx_bytes: {{.TxBytes}}\n" +
		"rx_packets: {{.RxPackets}}\ntx_packets: {{.TxPackets}}\n",
	heads: headers{
		"Container": "CONTAINER", "Name": "NAME", "NetIO": "NET I/O", "ID": "CONTAINER ID", "Network": "NETWORK", "Interface": "INTERFACE", "Received": "RECEIVED", "Sent": "SENT",
		"Packets": "PACKETS IN / OUT", "Lost": "LOST IN / OUT", "RxBytes": "RX BYTES", "TxBytes": "TX BYTES", "RxPackets": "RX PACKETS",
		"TxPackets": "TX PACKETS", "RxErrors": "RX ERRORS", "TxErrors": "TX ERRORS", "RxDropped": "RX DROPPED", "TxDropped": "TX DROPPED",
	},
}

// stats shows counters: once, or on a terminal again and again.
func (a *app) stats(words []string, o statsOptions) error {
	again := !o.noStream && sandbox.IsTerminal(a.stdout)
	for {
		l := statListing
		rows, err := a.counters(words)
		if err != nil {
			return err
		}
		l.rows = rows
		if again {
			fmt.Fprint(a.stdout, "\x1b[H\x1b[2J") // from the top of an empty screen
		}
		if err := l.print(a.out(false), o.format); err != nil || !again {
			return err
		}
		time.Sleep(statsEvery)
	}
}

// counters returns a row for each interface of the containers that words name, or of all.
// One that goes while they are read is left out.
func (a *app) counters(words []string) (rows []any, err error) {
	attached, err := a.store.List("")
	if err != nil { // the other records were read all the same
		a.warn("%v", err)
	}
	attached, err = ofContainers(records.Interfaces(attached), words)
	if err != nil {
		return nil, err
	}
	byNetNS := map[string]map[string]condition.Counters{}
	for _, r := range attached {
		if r.State != records.Up || r.NetNS == "" {
			continue
		}
		if _, read := byNetNS[r.NetNS]; !read {
			if byNetNS[r.NetNS], err = condition.ReadCounters(r.NetNS); err != nil {
				byNetNS[r.NetNS] = nil // it is gone
			}
		}
		n, there := byNetNS[r.NetNS][r.IfName]
		if !there {
			continue
		}
		rows = append(rows, &statRow{
			containerName(r), r.Container, r.Network, r.IfName,
			n.RxBytes, n.RxPackets, n.RxErrors, n.RxDropped, n.TxBytes, n.TxPackets, n.TxErrors, n.TxDropped,
		})
	}
	slices.SortStableFunc(rows, func(x, y any) int {
		a, b := x.(*statRow), y.(*statRow)
		return cmp.Or(catalog.Natural(a.Container, b.Container), catalog.Natural(a.Interface, b.Interface))
	})
	return rows, nil
}

// size is a number of bytes as Docker's stats shows it: 1.5kB.
func size(n uint64) string {
	const step = 1000
	value, units := float64(n), []string{"B", "kB", "MB", "GB", "TB", "PB", "EB"}
	i := 0
	for ; value >= step && i < len(units)-1; i++ {
		value /= step
	}
	decimals := 2
	for limit := 10.0; value >= limit && decimals > 0; limit *= 10 {
		decimals--
	}
	text := strconv.FormatFloat(value, 'f', decimals, 64)
	if strings.Contains(text, ".") {
		text = strings.TrimRight(strings.TrimRight(text, "0"), ".")
	}
	return text + units[i]
}
