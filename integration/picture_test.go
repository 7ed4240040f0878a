package integration

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"
)

// A picture describes a host: what each view shows of it, line by line.
type picture [][]string

// views show what a plugin may change.
var views = []func() []string{
	func() []string { return command("link\naddr\nroute show table all\nrule\n", "ip", "-o", "-batch", "-") },
	func() []string { return command("route show table all\nrule\n", "ip", "-6", "-o", "-batch", "-") },
	rules,
	settings,
	files,
}

// sysctls are the switches that a plugin may throw, below /proc/sys/net.
var sysctls = []string{
	"ipv4/ip_forward", "ipv4/conf/*/forwarding", "ipv4/conf/*/route_localnet", "ipv4/conf/*/rp_filter",
	"ipv4/conf/*/arp_notify", "ipv4/conf/*/proxy_arp",
	"ipv6/conf/*/forwarding", "ipv6/conf/*/accept_ra", "ipv6/conf/*/disable_ipv6", "ipv6/conf/*/accept_dad",
	"bridge/bridge-nf-call-*",
}

// trees are the folders where state is kept.
var trees = []string{"/run/dcni", "/run/netns", "/var/lib/dcni", "/var/lib/cni", "/etc/cni"}

// cursors are files whose contents move on with each lease, and stay there:
// an address just freed is the last to be given again.
var cursors = []string{".state", "last_reserved_ip.0"}

// ofAgent are dnetd's own files, in /run/dcni: it comes with the first container
// that has names, and goes a while after the last one.
var ofAgent = []string{"dnetd.sock", "dnetd.pid", "dnetd.log"}

// takePicture takes one of the host that it is called in.
func takePicture() picture {
	var p picture
	for _, view := range views {
		p = append(p, view())
	}
	return p
}

// settle waits until the host looks as before, but for lines that match, and
// returns how it differs in the end. A view that was as before is not looked at
// again: the kernel removes links and addresses in its own time.
func (p picture) settle(wait time.Duration, ignored *regexp.Regexp) []string {
	waits := slices.Repeat([]bool{true}, len(views))
	for deadline := time.Now().Add(wait); ; time.Sleep(20 * time.Millisecond) {
		var all []string
		for i, view := range views {
			if waits[i] {
				diff := differences(p[i], view(), ignored)
				waits[i], all = len(diff) > 0, append(all, diff...)
			}
		}
		if len(all) == 0 || time.Now().After(deadline) {
			return all
		}
	}
}

// differences lists lines that are only before or only after, but for the
// ignored.
func differences(before, after []string, ignored *regexp.Regexp) []string {
	var diff []string
	for sign, pair := range map[string][2][]string{"-": {before, after}, "+": {after, before}} {
		for _, line := range pair[0] {
			if !slices.Contains(pair[1], line) && !ignored.MatchString(strings.TrimSpace(line)) {
				diff = append(diff, sign+" "+line)
			}
		}
	}
	slices.Sort(diff)
	return diff
}

// command shows what a command prints; warnings only where it fails.
func command(stdin, name string, args ...string) []string {
	cmd := exec.Command(name, args...)
	cmd.Stdin = strings.NewReader(stdin)
	out, err := cmd.Output()
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		out = fmt.Appendf(out, "%v: %s", err, exit.Stderr)
	} else if err != nil {
		out = fmt.Appendf(out, "%v", err)
	}
	return viewLines(strings.Join(cmd.Args, " "), string(out))
}

// rules shows the rule set, but for what rules themselves put into sets, of connections
// that are under way: it goes by itself.
func rules() []string {
	return slices.DeleteFunc(command("", "nft", "-s", "list", "ruleset"), func(line string) bool {
		return strings.Contains(line, "set connections") && ofConnections.MatchString(line)
	})
}

var ofConnections = regexp.MustCompile(`elements = \{|[\da-f] \. (tcp|sctp) \. \d+`)

// settings shows the sysctls.
func settings() (lines []string) {
	for _, pattern := range sysctls {
		paths, _ := filepath.Glob("/proc/sys/net/" + pattern)
		for _, path := range paths {
			value, _ := os.ReadFile(path) // a link that is going: the next picture lacks it
			lines = append(lines, path+" = "+strings.TrimSpace(string(value)))
		}
	}
	return lines
}

// files shows the trees.
func files() (lines []string) {
	for _, root := range trees {
		lines = append(lines, treeLines(root)...)
	}
	return lines
}

// transient is what the kernel changes by itself after a while.
var transient = regexp.MustCompile(` (tentative|dadfailed|state \S+)|NO-CARRIER,|,LOWER_UP|expires \S+| linkdown`)

// derived is what the kernel adds to a link that is up: its link-local address
// and the routes of that, when the carrier is noticed and duplicate detection
// is done, up to 2 s later. A forgotten link is in the picture itself.
var derived = regexp.MustCompile(`inet6 fe80:.* scope link|^((local|anycast) )?fe80:|^multicast ff00::/8`)

// viewLines prefixes each line of nested output with the ones it is nested in,
// so that equal lines of two chains stay apart.
func viewLines(view, out string) []string {
	var lines, outer []string
	for line := range strings.Lines(out) {
		line = strings.TrimRight(line, "\n ")
		if line == "" || derived.MatchString(line) {
			continue
		}
		depth := len(line) - len(strings.TrimLeft(line, "\t"))
		outer = append(outer[:min(depth, len(outer))], strings.TrimSpace(line))
		text := transient.ReplaceAllString(strings.Join(outer, " / "), "")
		lines = append(lines, view+": "+text)
	}
	return lines
}

// treeLines describes the files below root by name and contents.
func treeLines(root string) []string {
	var lines []string
	_ = filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return nil //nolint:nilerr // removed since it was listed, or not there at all
		}
		if slices.Contains(ofAgent, d.Name()) {
			return nil
		}
		line := path + " " + d.Type().String()
		switch {
		case slices.Contains(cursors, d.Name()):
			line += " (where to go on)"
		case d.Type().IsRegular():
			data, _ := os.ReadFile(path) // fails for /run/netns: a namespace has no contents
			line += fmt.Sprintf(" %q", data)
		case d.Type()&fs.ModeSymlink != 0:
			target, _ := os.Readlink(path)
			line += " -> " + target
		}
		lines = append(lines, line)
		return nil
	})
	return lines
}
