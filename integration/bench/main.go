// Command bench measures the plugins beside the reference plugins, in one run
// and in one throwaway host, and prints a table with ratios.
//
// Plugins are executed as a runtime executes them: by libcni, one process for
// each plugin of the list and each verb. "floor" is what is left when nothing
// is decided, checked or remembered: a program that makes a veth pair, an
// address, a route and two nftables elements over netlink.
//
// Times of the two lists are taken in turns, so that what else the machine
// does befalls both. The reference isn't measured beside 800 containers: each
// of its ADDs scans what is there, and the run would take a quarter of an hour.
//
// What names cost is measured beside 1,000 containers on 20 networks, in a host
// for this build and, with -before, one for another build, in turns.
//
// A mode that the kernel lacks is measured in the virtual machine of scripts/vm. Its rows
// have ratios only: the machine is emulated.
//
// An overlay network is measured between two nodes, beside a VXLAN made by hand between
// the same containers, beside a bridge network on one of them, and beside the overlay
// network of a Docker Swarm of two nodes, where a dockerd is installed.
//
// An encrypted one is measured with -esp alone, in the virtual machine of the tests, beside
// a VXLAN by hand that ESP by hand encrypts; figures of an emulated machine are of use as
// ratios only.
//
// Services are measured with -services alone: beside the same connections without one, and
// in the virtual machine, whose kernel has IPVS, beside a Docker Swarm's.
//
// For names the references are dnsmasq, in the asking container beside dnetd's
// own server, and where a dockerd is installed, Docker's.
package main

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"

	"dcni/integration/testhost"
)

func main() {
	if len(os.Args) == 4 && helpers[os.Args[1]] != nil {
		exit(helpers[os.Args[1]](os.Args[2], os.Args[3]))
	}
	var o options
	flag.StringVar(&o.bin, "bin", "bin", "directory of the plugins")
	flag.StringVar(&o.out, "o", "", "also write the table to this Markdown file")
	flag.IntVar(&o.rounds, "n", 50, "rounds of ADD and DEL")
	flag.IntVar(&o.crowd, "crowd", 800, "containers present while ADD is measured again")
	flag.BoolVar(&o.names, "names", false, "measure the name server only")
	flag.BoolVar(&o.onlyBuilds, "builds", false, "compare ADD with names, without, and the build before only")
	flag.BoolVar(&o.onlyCLI, "dnet", false, "measure the command line only, beside Docker's and the build before")
	flag.BoolVar(&o.onlyLAN, "lan", false, "measure macvlan and ipvlan only")
	flag.StringVar(&o.kind, "kind", "", "of macvlan and ipvlan only this one")
	flag.BoolVar(&o.onlyOverlay, "overlay", false, "measure overlay networks only")
	flag.BoolVar(&o.onlyIPTables, "iptables", false, "measure ADD and DEL with rules of iptables only")
	flag.BoolVar(&o.onlyESP, "esp", false, "measure an encrypted network only, in the virtual machine")
	flag.BoolVar(&o.onlyRules, "rules", false, "measure what rules cost only, beside links with none and with Docker's")
	flag.BoolVar(&o.onlyLimits, "limits", false, "measure only what ADD takes beside as much as a host is meant to take")
	flag.BoolVar(&o.onlyServices, "services", false, "measure services only, and beside a Swarm's in the virtual machine")
	flag.StringVar(&o.before, "before", "", "directory of another build's programs, to be measured beside this one's")
	flag.Parse()
	if o.onlyESP {
		exit(benchESP(o))
	}
	if o.onlyServices {
		exit(benchServices(o))
	}
	exit(bench(o))
}

// helpers are what bench executes itself for.
var helpers = map[string]func(string, string) error{"floor": floor, "memory": memory, "build": serveBuild, "cli": serveCLI, "dnetd": dnetdSize}

func exit(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
	os.Exit(0)
}

type options struct {
	bin, before, out  string
	rounds, crowd     int
	names, onlyBuilds bool
	onlyCLI, onlyLAN  bool
	kind              string // of links on the LAN; "": all
	onlyOverlay       bool
	onlyIPTables      bool
	onlyESP           bool
	onlyRules         bool
	onlyLimits        bool
	onlyServices      bool
}

// bench measures, prints and writes.
func bench(o options) error {
	if err := testhost.Isolate(); err != nil {
		return err
	}
	plugins, err := filepath.Abs(o.bin)
	if err != nil {
		return err
	}
	var out string
	if out, err = filepath.Abs(o.out); err != nil {
		return err
	}
	host, err := testhost.NewHost(plugins)
	if err != nil {
		return err
	}
	b := &run{host: host, options: o, reference: referenceList()}
	if _, err := os.Stat(filepath.Join(plugins, "dbridge")); err == nil {
		b.ours, b.table.ours = ourList(), true
	}
	failed := b.measure()
	b.table.print(os.Stdout)
	if failed != nil {
		return failed
	}
	if o.out == "" {
		return nil
	}
	return b.table.write(out)
}
