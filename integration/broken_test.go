package integration

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
)

// TestBrokenPlaces calls where nothing can be written: each ADD is one error of
// code 5, and leaves nothing; on a full disk a DEL still works.
func TestBrokenPlaces(t *testing.T) {
	r := newFixture(t)
	r.netns("c0", "c1")
	conf := versioned("1.1.0", "")
	r.ok(r.plugin("ADD", "dbridge", conf, "containerid=c0", "netns=c0"))
	fresh := strings.Replace(strings.Replace(conf, `"web"`, `"new"`, 1), "10.88", "10.87", 1)
	before := takePicture()
	for _, place := range []string{"/run/dcni", "/var/lib/dcni"} {
		r.run("mount", "--bind", place, place)
		r.run("mount", "-o", "remount,ro,bind", place)
		r.refused(place+" read-only", r.plugin("ADD", "dbridge", conf), 5, "read-only")
		r.refused(place+" read-only", r.plugin("ADD", "dbridge", fresh), 5, "read-only")
		r.run("umount", place)
		r.same(place+" read-only", before)
		for _, free := range []int{0, 1, 2, 3} {
			what := fmt.Sprintf("%s full but for %d pages", place, free)
			r.full(place, free)
			for _, c := range []string{conf, fresh} {
				if a := r.plugin("ADD", "dbridge", c); a.err != nil {
					r.refused(what, a, 5, "no space left")
				}
				r.ok(r.plugin("DEL", "dbridge", c))
			}
			r.ok(r.plugin("DEL", "dbridge", conf, "containerid=c0", "netns=c0"))
			if out := r.run("sh", "-c", "find /run/dcni/attachments /var/lib/dcni/leases/*/10* 2>/dev/null || true"); strings.Contains(out, "10.8") || strings.Contains(out, "json") {
				t.Errorf("%s: left: %s", what, out)
			}
			r.run("umount", place)
			r.ok(r.plugin("DEL", "dbridge", conf, "containerid=c0", "netns=c0"))
			r.ok(r.plugin("ADD", "dbridge", conf, "containerid=c0", "netns=c0"))
			r.ok(r.plugin("DEL", "dbridge", fresh))
		}
		before = takePicture()
	}
}

// full puts a copy of a directory on a small disk and fills that but for some
// pages.
func (r *fixture) full(place string, free int) {
	r.t.Helper()
	r.run("sh", "-c", fmt.Sprintf(`mkdir -p /run/copy && cp -a %[1]s/. /run/copy && mount -t tmpfs -o size=256k tmpfs %[1]s && cp -a /run/copy/. %[1]s && rm -r /run/copy
		dd if=/dev/zero of=%[1]s/ballast bs=4096 2>/dev/null; truncate -s -%[2]d %[1]s/ballast`, place, free*4096))
}

// TestNoNFTables refuses ADD and STATUS each of their sockets in turn: every
// time there is one error and nothing is left, and where it was netfilter's,
// the error says what the kernel lacks.
func TestNoNFTables(t *testing.T) {
	if _, err := exec.LookPath("strace"); err != nil {
		t.Skip("strace is not installed")
	}
	const sockets = 12 // more than either opens on one thread
	r := newFixture(t)
	r.netns("c0", "c1")
	conf := versioned("1.1.0", `, "runtimeConfig": {"portMappings": [{"hostPort": 8080, "containerPort": 80}]}`)
	r.ok(r.plugin("ADD", "dbridge", versioned("1.1.0", ""), "containerid=c0", "netns=c0"))
	before := takePicture()
	for verb, code := range map[string]uint{"ADD": 50, "STATUS": 50} {
		said := false
		for i := range 2 * sockets {
			n, all := i/2+1, []string{"", "+"}[i%2] // the one, or all from it on
			call := pluginCall(verb, "dbridge", conf)
			call.Args = []string{"strace", "-f", "--seccomp-bpf", "-qq", "-o", "/dev/null", "-e", "trace=socket",
				"-e", fmt.Sprintf("inject=socket:error=EPROTONOSUPPORT:when=%d%s", n, all), call.Path}
			call.Path = "/usr/bin/strace"
			a := outcomeOf(call)
			switch {
			case a.err == nil:
				r.ok(r.plugin("DEL", "dbridge", conf))
			case a.failed == nil:
				t.Errorf("%s, socket %d: not one error: %s%s", verb, n, a.out, a.stderr)
			case strings.Contains(a.failed.Msg, "kernel has no nf_tables") && a.failed.Code == code:
				said = true
			}
			if all != "" {
				r.ok(r.plugin("DEL", "dbridge", conf)) // what could not be undone without
			}
			r.same(fmt.Sprintf("%s, socket %d%s", verb, n, all), before)
		}
		if !said {
			t.Errorf("%s never said that the kernel has no nf_tables", verb)
		}
		r.ok(r.plugin("DEL", "dbridge", conf))
	}
}

// TestSandboxVanishes takes the sandbox away while ADD is asking for addresses.
func TestSandboxVanishes(t *testing.T) {
	r := newFixture(t)
	r.netns("c1")
	conf := `{"cniVersion": "1.1.0", "name": "web", "type": "dbridge", "ipam": {"type": "vanish"}}`
	script := "#!/bin/sh\n[ $CNI_COMMAND = ADD ] || { echo $CNI_COMMAND >> /run/calls; exit 0; }\n" +
		"umount -l $CNI_NETNS; rm $CNI_NETNS\necho '{\"cniVersion\": \"1.1.0\", \"ips\": [{\"address\": \"10.66.0.2/24\"}]}'\n"
	if err := os.WriteFile("/run/vanish", []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	before := takePicture()
	r.refused("vanished", r.plugin("ADD", "dbridge", conf, "path=/run"), 8, "CNI_NETNS vanished")
	r.same("vanished", before, `/run/netns/c1|table inet dcni|list ruleset: }|/run/dcni( |/lock|/epoch|/tmp|/attachments d)|/var/lib/dcni(/tmp|/networks|/leases)? d`)
	if out := r.run("cat", "/run/calls"); out != "DEL\n" {
		t.Errorf("ipam was called with %q after ADD", out)
	}
	r.ok(r.plugin("DEL", "dbridge", conf, "path=/run"))
}
