package integration

import (
	"encoding/json"
	"os/exec"
	"regexp"
	"strings"
	"testing"
)

// versioned is a configuration of a version of the specification.
func versioned(version, body string) string {
	return `{"cniVersion": "` + version + `", "name": "web", "type": "dbridge",
		"ipam": {"type": "dipam", "subnet": "10.88.0.0/24", "routes": [{"dst": "10.5.0.0/16", "mtu": 1400}]}` + body + `}`
}

// TestVersions runs every verb at every version: the result has the version's
// shape, and what a version does not have is refused.
func TestVersions(t *testing.T) {
	r := newFixture(t)
	r.netns("c1")
	for _, c := range []struct {
		version     string
		family, mtu bool // ips[].version, interfaces[].mtu
		check, gc   bool
	}{
		{"0.3.0", true, false, false, false},
		{"0.3.1", true, false, false, false},
		{"0.4.0", true, false, true, false},
		{"1.0.0", false, true, true, false},
		{"1.1.0", false, true, true, true},
	} {
		for _, plugin := range []string{"dbridge", "dipam"} {
			what := plugin + " " + c.version
			out := string(r.ok(r.plugin("ADD", plugin, versioned(c.version, ""))).out)
			var result struct {
				Version    string `json:"cniVersion"`
				Interfaces []map[string]any
				IPs        []map[string]any
				Routes     []map[string]any
			}
			if err := json.Unmarshal([]byte(out), &result); err != nil || len(result.IPs) != 1 {
				t.Fatalf("%s: %v: %s", what, err, out)
			}
			_, family := result.IPs[0]["version"]
			mtu := plugin == "dbridge" && result.Interfaces[2]["mtu"] != nil
			if result.Version != c.version || family != c.family || mtu != (c.mtu && plugin == "dbridge") ||
				(plugin == "dipam") != (len(result.Interfaces) == 0) || len(result.Routes) == 0 {
				t.Errorf("%s: %s", what, out)
			}
			for verb, has := range map[string]bool{"CHECK": c.check, "GC": c.gc, "STATUS": c.gc} {
				conf := versioned(c.version, `, "prevResult": `+out+`, "cni.dev/valid-attachments": [{"containerID": "c1", "ifname": "eth0"}]`)
				if a := r.plugin(verb, plugin, conf); has {
					r.ok(a)
				} else {
					r.refused(what+" "+verb, a, 1, verb)
				}
			}
			r.ok(r.plugin("DEL", plugin, versioned(c.version, `, "prevResult": `+out)))
		}
	}
	for _, version := range []string{"0.1.0", "0.2.0", "9.9.9"} {
		for _, verb := range []string{"ADD", "DEL"} {
			r.refused(verb+" "+version, r.plugin(verb, "dbridge", versioned(version, "")), 1, version)
		}
	}
	r.refused("no version", r.plugin("ADD", "dbridge", `{"name": "web", "type": "dbridge"}`), 1, "")
	r.refused("no version at all", r.plugin("ADD", "dbridge", versioned("new", "")), 1, "")
}

// TestGuestVersions runs the plugins that make no interface at every version.
func TestGuestVersions(t *testing.T) {
	r := newFixture(t)
	r.netns("c1", "web1")
	r.run("install", "-D", "-m", "644", "/dev/null", "/etc/dcni/allow-host-network")
	r.ok(r.plugin("ADD", "dnone", `{"cniVersion": "1.1.0", "name": "donor", "type": "dnone"}`, "containerid=web1", "netns=web1"))
	for plugin, option := range map[string]string{"dnone": "", "dhost": "", "dcontainer": `, "container": "web1"`} {
		for version, verbs := range map[string][]string{
			"0.3.0": {}, "0.3.1": {}, "0.4.0": {"CHECK"}, "1.0.0": {"CHECK"}, "1.1.0": {"CHECK", "STATUS", "GC"},
		} {
			conf := `{"cniVersion": "` + version + `", "name": "guests", "type": "` + plugin + `"` + option
			out := string(r.ok(r.plugin("ADD", plugin, conf+"}")).out)
			var result struct {
				Version    string `json:"cniVersion"`
				Interfaces []map[string]any
				IPs        []struct {
					Version   string
					Address   string
					Interface *int
				}
			}
			err := json.Unmarshal([]byte(out), &result)
			if err != nil || result.Version != version || len(result.Interfaces) > 0 || len(result.IPs) != 2 ||
				result.IPs[0].Interface != nil || (result.IPs[0].Version == "4") != strings.HasPrefix(version, "0.") {
				t.Errorf("%s %s: %v: %s", plugin, version, err, out)
			}
			for _, verb := range verbs {
				r.ok(r.plugin(verb, plugin, conf+`, "prevResult": `+out+`, "cni.dev/valid-attachments": [{"containerID": "c1", "ifname": "eth0"}]}`))
			}
			r.ok(r.plugin("DEL", plugin, conf+`, "prevResult": `+out+"}"))
		}
	}
}

// TestEnvironment calls with every wrong environment.
func TestEnvironment(t *testing.T) {
	r := newFixture(t)
	r.netns("c1")
	before := takePicture()
	conf, long := versioned("1.1.0", ""), strings.Repeat("x", 256)
	for _, plugin := range []string{"dbridge", "dipam"} {
		about := exec.Command(pluginDir + "/" + plugin)
		a := outcomeOf(about)
		if pattern := "^CNI " + plugin + ` plugin v\d+\.\d+\.\d+`; a.err != nil || len(a.out) > 0 || !regexp.MustCompile(pattern).MatchString(a.stderr) {
			t.Errorf("%s with no command: %v %q %q", plugin, a.err, a.out, a.stderr)
		}
		a = r.ok(r.plugin("VERSION", plugin, ""))
		if !strings.Contains(string(a.out), `"0.3.0","0.3.1","0.4.0","1.0.0","1.1.0"`) {
			t.Errorf("%s VERSION: %s", plugin, a.out)
		}
		for _, c := range []struct {
			verb, word string
			code       uint
			words      string
		}{
			{"NONSENSE", "", 4, "unknown CNI_COMMAND NONSENSE"},
			{"add", "", 4, "unknown CNI_COMMAND add"},
			{"ADD", "containerid=", 4, "CNI_CONTAINERID missing"},
			{"ADD", "netns=", 4, "CNI_NETNS missing"},
			{"ADD", "ifname=", 4, "CNI_IFNAME missing"},
			{"ADD", "path=", 4, "CNI_PATH missing"},
			{"CHECK", "netns=", 4, "CNI_NETNS missing"},
			{"DEL", "containerid=", 4, "CNI_CONTAINERID missing"},
			{"DEL", "ifname=", 4, "CNI_IFNAME missing"},
			{"STATUS", "path=", 4, "CNI_PATH missing"},
			{"ADD", "containerid=" + long, 4, "CNI_CONTAINERID 255"},
			{"DEL", "containerid=" + long, 4, "CNI_CONTAINERID 255"},
			{"ADD", "containerid=../../etc", 4, "../../etc"},
			{"ADD", "containerid=-c1", 4, "-c1"},
			{"ADD", "containerid=c 1", 4, "c 1"},
			{"ADD", "ifname=sixteen-letters-", 4, "sixteen-letters- 15"},
			{"ADD", "ifname=a/b", 4, ""},
			{"ADD", "ifname=..", 4, ""},
			{"ADD", "ifname=a:b", 4, ""},
			{"DEL", "ifname=a/b", 4, ""},
		} {
			r.refused(plugin+" "+c.verb+" "+c.word[:min(len(c.word), 40)], r.plugin(c.verb, plugin, conf, c.word), c.code, c.words)
		}
		for _, c := range []struct {
			conf  string
			code  uint
			words string
		}{
			{`{`, 6, ""}, {``, 6, ""}, {`[]`, 6, ""}, {`"web"`, 6, ""}, {`{"name": "web"} x`, 6, ""},
			{`{"cniVersion": "1.1.0", "type": "dbridge"}`, 7, "name"},
			{`{"cniVersion": "1.1.0", "name": "", "type": "dbridge"}`, 7, "name"},
			{`{"cniVersion": "1.1.0", "name": "../x", "type": "dbridge"}`, 7, "../x"},
			{`{"cniVersion": "1.1.0", "name": "` + long + `", "type": "dbridge"}`, 4, "name 255 bytes"},
			{`{"cniVersion": "1.1.0", "name": 5, "type": "dbridge"}`, 6, "name"},
		} {
			for _, verb := range []string{"ADD", "CHECK", "DEL", "GC", "STATUS"} {
				r.refused(plugin+" "+verb+" "+c.conf[:min(len(c.conf), 60)], r.plugin(verb, plugin, c.conf), c.code, c.words)
			}
		}
	}
	r.refused("ifname all", r.plugin("ADD", "dbridge", conf, "ifname=all"), 4, "CNI_IFNAME all")
	r.ok(r.plugin("DEL", "dbridge", conf, "ifname=all"))
	r.same("environment", before, `/run/dcni( |/lock|/epoch|/tmp|/attachments d)|/var/lib/dcni(/tmp|/networks|/leases)? d`)
}

// TestSandboxes calls with everything that is no sandbox of a container.
func TestSandboxes(t *testing.T) {
	r := newFixture(t)
	r.netns("c1", "used")
	r.run("sh", "-c", "echo > /run/file; mkfifo /run/fifo; mkdir /run/dir; ln -s /nowhere /run/dangling; ip -n used link add eth0 type dummy || ip -n used link add eth0 type bridge")
	before := takePicture()
	conf := versioned("1.1.0", "")
	for path, words := range map[string]string{
		"/run/netns/none": "no such network namespace", "/run/dangling": "no such",
		"/run/file": "must be a network namespace", "/run/fifo": "must be a network namespace",
		"/run/dir": "must be a network namespace", "/proc/self/ns/mnt": "must be a network namespace",
		"/proc/self/ns/net": "own network namespace", "/proc/1": "",
		"/run/file/x": "network namespace",
	} {
		r.refused(path, r.plugin("ADD", "dbridge", conf, "netns="+path), 8, "CNI_NETNS "+path+" "+words)
		r.ok(r.plugin("DEL", "dbridge", conf, "netns="+path))
	}
	r.refused("eth0 is there", r.plugin("ADD", "dbridge", conf, "netns=used"), 4, "CNI_IFNAME eth0")
	r.ok(r.plugin("DEL", "dbridge", conf, "netns=used"))
	r.run("ip", "-n", "used", "link", "show", "eth0")
	r.same("no sandbox", before, `/run/dcni( |/lock|/epoch|/tmp|/attachments d)|/var/lib/dcni(/tmp|/networks|/leases)? d`)
	out := string(r.ok(r.plugin("ADD", "dbridge", conf)).out)
	attached := takePicture()
	r.refused("a second ADD", r.plugin("ADD", "dbridge", conf), 4, "c1 is attached DEL comes first")
	r.refused("a second ADD", r.plugin("ADD", "dbridge", versioned("1.1.0", `, "mtu": 1400`)), 4, "c1 is attached DEL comes first")
	r.same("a second ADD", attached)
	r.ok(r.plugin("CHECK", "dbridge", versioned("1.1.0", `, "prevResult": `+out)))
}
