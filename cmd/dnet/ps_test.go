package main

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"dcni/pkg/firewall"
	"dcni/pkg/records"
)

// Containers of tests.
var (
	idWeb = strings.Repeat("a1", 32)
	idOld = strings.Repeat("a2", 32)
	idNew = strings.Repeat("b3", 32)
)

// someContainers are one that runs, one that has ended, and one that is being
// made. Their dnets hold the locks of the first and the last one.
func someContainers(f *fixture) {
	f.t.Helper()
	now := time.Now()
	f.container(records.Container{
		ID: idWeb, Name: "web", Hostname: "front", Command: []string{"httpd", "-f", "-h", "/srv/a/long/way"}, Stage: records.Running,
		Created: now.Add(-3 * time.Hour), Started: now.Add(-2 * time.Minute), Networks: []records.Attachment{{Network: "lab"}, {Network: "net10"}},
	})
	f.container(records.Container{
		ID: idOld, Name: "old", Command: []string{"false"}, Stage: records.Exited, ExitCode: 3,
		Created: now.Add(-50 * time.Hour), Finished: now.Add(-40 * time.Minute),
	})
	f.container(records.Container{ID: idNew, Name: "new", Command: []string{"sleep", "1"}, Stage: records.Created, Created: now})
	for _, id := range []string{idWeb, idNew} {
		lock, err := f.store.LockContainer(id)
		f.must(err)
		f.t.Cleanup(lock.Unlock)
	}
	f.attached(records.Record{Attachment: owner("lab", idWeb, "eth0"), Endpoint: &firewall.Endpoint{
		Addresses: []netip.Addr{netip.MustParseAddr("10.88.0.2")},
		Ports:     []firewall.Port{{HostPort: 8080, ContainerPort: 80, Protocol: "tcp"}},
	}})
}

func TestPs(t *testing.T) {
	f := newFixture(t)
	f.check([]call{{"ps", 0, "CONTAINER ID   COMMAND   CREATED   STATUS    PORTS     NETWORKS   NAMES\n", ""}})
	someContainers(f)
	f.check([]call{
		{"ps", 0, `CONTAINER ID   COMMAND                  CREATED       STATUS         PORTS                  NETWORKS    NAMES
a1a1a1a1a1a1   "httpd -f -h /srv/a/…"   3 hours ago   Up 2 minutes   0.0.0.0:8080->80/tcp   lab,net10   web
`, ""},
		{"ps -a --format 'table {{.ID}}\\t{{.Status}}\\t{{.State}}\\t{{.Networks}}\\t{{.Names}}'", 0,
			`CONTAINER ID   STATUS                      STATE     NETWORKS    NAMES
b3b3b3b3b3b3   Created                     created   host        new
a1a1a1a1a1a1   Up 2 minutes                running   lab,net10   web
a2a2a2a2a2a2   Exited (3) 40 minutes ago   exited    host        old
`, ""},
		{"ps -q", 0, "a1a1a1a1a1a1\n", ""},
		{"ps -aq --no-trunc --format table", 0, idNew + "\n" + idWeb + "\n" + idOld + "\n", ""},
		{"ps --no-trunc --format {{.Command}}", 0, "\"httpd -f -h /srv/a/long/way\"\n", ""},
		{"ps -q --format raw", 0, "container_id: a1a1a1a1a1a1\n", ""},
		{"ps -f name=old -a --format raw", 0, "container_id: a2a2a2a2a2a2\ncommand: \"false\"\ncreated_at: ...", ""},
		{"ps --format '{{json .Ports}} {{.RunningFor}}'", 0, "\"0.0.0.0:8080->80/tcp\" 3 hours ago\n", ""},
		{"ps --format {{.Nosuch}}", 1, "", "dnet: template parsing error: ..."},
	})
}

func TestPsFilters(t *testing.T) {
	f := newFixture(t)
	someContainers(f)
	for filter, want := range map[string]string{
		"-f status=exited":                   "old",
		"-f status=created -f status=exited": "new old",
		"-f exited=3":                        "old",
		"-f exited=0":                        "",
		"-f exited=-1":                       "",
		"-f name=e":                          "web",
		"-a -f name=e":                       "new web",
		"-a -f name=/web":                    "web",
		"-a -f name=^(web|ne)$":              "web",
		"-a -f name=^/new$":                  "new",
		"-a -f id=a":                         "web old",
		"-f network=net10":                   "web",
		"-f network=net1":                    "",
		"-f network=774883e7":                "web", // the beginning of net10's ID
		"-a -f network=host -f NAME=' n '":   "new",
		"-a -f network=host -f network=lab":  "new web old",
		"-a -f name=web -f status=exited":    "",
	} {
		status, stdout, stderr := f.dnet("ps --format {{.Names}} " + filter)
		if got := oneLine(stdout); got != want || status != 0 || stderr != "" {
			t.Errorf("ps %s: %q, %d, %s, want %q", filter, got, status, stderr, want)
		}
	}
	f.check([]call{
		{"ps -f name=[", 1, "", "dnet: invalid filter 'name=[': must be a regular expression: error parsing regexp: missing closing ]: `[`\n"},
		{"ps -f foo", 1, "", "dnet: invalid argument \"foo\" for \"-f, --filter\" flag: bad format of filter (expected name=value)\n"},
		{"ps -f foo=bar", 1, "", "dnet: invalid filter 'foo'\n"},
		{"ps -f exited=abc", 1, "", "dnet: invalid filter 'exited=abc': must be an exit status, a number\n"},
		{"ps -f status=dead", 1, "", "dnet: invalid filter 'status=dead': must be created, running or exited\n"},
	})
}
