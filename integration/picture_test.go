package integration

import (
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// views are the commands whose output is what a plugin may change in the
// kernel.
var views = [][]string{
	{"ip", "-o", "link"},
	{"ip", "-o", "addr"},
	{"ip", "-4", "route", "show", "table", "all"},
	{"ip", "-6", "route", "show", "table", "all"},
	{"ip", "rule"},
	{"ip", "-6", "rule"},
	{"nft", "-s", "list", "ruleset"},
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

// picture describes the host it is called in, a line for each thing there.
func picture() []string {
	var lines []string
	for _, args := range views {
		out, err := exec.Command(args[0], args[1:]...).CombinedOutput()
		if err != nil {
			out = fmt.Appendf(nil, "%v: %s", err, out)
		}
		lines = append(lines, viewLines(strings.Join(args, " "), string(out))...)
	}
	for _, pattern := range sysctls {
		paths, _ := filepath.Glob("/proc/sys/net/" + pattern)
		for _, path := range paths {
			value, _ := os.ReadFile(path) // a link that is going: the next picture lacks it
			lines = append(lines, path+" = "+strings.TrimSpace(string(value)))
		}
	}
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
			return nil //nolint:nilerr // removed meanwhile, or not there at all
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
