package integration

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	types100 "github.com/containernetworking/cni/pkg/types/100"
)

// A soaked is a container that is attached and detached over and over, always by one call at a time.
type soaked struct {
	name   string
	conf   string
	busy   bool
	killed bool   // its last call was: what there is of it is not known
	result []byte // of ADD, nil where it is not attached
}

func (s *soaked) call(verb string) *exec.Cmd {
	conf := s.conf
	if verb == "CHECK" {
		conf = strings.TrimSuffix(conf, "}") + `, "prevResult": ` + string(s.result) + "}"
	}
	return pluginCall(verb, "dbridge", conf, "containerid="+s.name, "netns="+s.name)
}

// soakedContainers are on three networks, and each two of them on one network want the same
// port of the host. more is of the configuration.
func (r *fixture) soakedContainers(n int, more string) (all []*soaked) {
	for i := range n {
		s := &soaked{name: fmt.Sprintf("c%d", i)}
		r.netns(s.name)
		network := i % 3
		s.conf = fmt.Sprintf(`{"cniVersion": "1.1.0", "name": "net%d", "type": "dbridge"%s,
			"ipam": {"type": "dipam", "subnets": [{"subnet": "10.8%d.0.0/22"}, {"subnet": "fd00:8%d::/64"}]},
			"runtimeConfig": {"portMappings": [{"hostPort": %d, "containerPort": 80}]}}`, network, more, network, network, 8000+i%(n/2))
		all = append(all, s)
	}
	return all
}

// next says what to do with a container: it is not always what fits.
func (s *soaked) next() string {
	switch {
	case rand.IntN(10) == 0:
		return []string{"ADD", "DEL"}[rand.IntN(2)]
	case s.killed && rand.IntN(2) == 0, s.result == nil && !s.killed:
		return "ADD"
	case s.result != nil && rand.IntN(4) == 0:
		return "CHECK"
	}
	return "DEL"
}

// done notes what a call has done, and returns an error that should not be.
func (s *soaked) done(verb string, o outcome, killed bool) error {
	known := !s.killed
	s.busy = false
	if killed && o.err != nil && o.failed == nil {
		s.killed, s.result = true, nil
		return nil
	}
	switch {
	case verb == "DEL" && o.err == nil:
		s.killed, s.result = false, nil
	case verb == "ADD" && o.err == nil:
		s.killed, s.result = false, o.out
	case verb == "ADD" && o.failed != nil && (o.failed.Code == 102 || o.failed.Code == 4 && (!known || s.result != nil)):
	case o.err != nil:
		return fmt.Errorf("%s of %s: %w: %s%s", verb, s.name, o.err, o.out, o.stderr)
	}
	return nil
}

// soak calls plugins for a while, at most so many at once, and kills some.
func (r *fixture) soak(all []*soaked, atOnce int, d time.Duration) (calls, kills int) {
	ended := make(chan func() error, atOnce)
	running := 0
	take := func() {
		running--
		if err := (<-ended)(); err != nil {
			r.t.Error(err)
		}
	}
	for end := time.Now().Add(d); time.Now().Before(end) && !r.t.Failed(); {
		s := all[rand.IntN(len(all))]
		if s.busy || running == atOnce {
			take()
			continue
		}
		verb, kill := s.next(), rand.IntN(5) == 0
		if verb == "CHECK" {
			kill = false
		}
		cmd := s.call(verb)
		var out, stderr strings.Builder
		cmd.Stdout, cmd.Stderr = &out, &stderr
		if err := cmd.Start(); err != nil { // on this thread, which is the host
			r.t.Fatal(err)
		}
		s.busy, running, calls = true, running+1, calls+1
		if kill {
			kills++
			time.AfterFunc(time.Duration(rand.IntN(40))*time.Millisecond, func() { _ = cmd.Process.Kill() })
		}
		go func() {
			o := outcomeOfEnded(cmd.Wait(), out.String, stderr.String)
			ended <- func() error { return s.done(verb, o, kill) }
		}()
	}
	for running > 0 {
		take()
	}
	return calls, kills
}

// outcomeOfEnded is [outcomeOf] of a command that was started elsewhere.
func outcomeOfEnded(err error, out, stderr func() string) outcome {
	o := outcome{err: err, out: []byte(out()), stderr: stderr()}
	_ = json.Unmarshal(o.out, &o.failed)
	if o.failed != nil && o.failed.Code == 0 {
		o.failed = nil
	}
	return o
}

// agree wants links, rules, leases and records to be those of the containers that are attached.
func (r *fixture) agree(all []*soaked, rules ...string) {
	r.t.Helper()
	var up []string
	whose := map[string]string{}
	for _, s := range all {
		if s.killed {
			r.ok(outcomeOf(s.call("DEL")))
			s.killed, s.result = false, nil
		}
		if s.result == nil {
			continue
		}
		up = append(up, s.name)
		if o := outcomeOf(s.call("CHECK")); o.err != nil {
			r.t.Errorf("CHECK of %s: %s", s.name, o.out)
		}
		var result types100.Result
		if err := json.Unmarshal(s.result, &result); err != nil {
			r.t.Fatal(err)
		}
		for _, ip := range result.IPs {
			if other := whose[ip.Address.String()]; other != "" {
				r.t.Errorf("%s is %s's and %s's", &ip.Address, s.name, other)
			}
			whose[ip.Address.String()] = s.name
		}
	}
	slices.Sort(up)
	names := func(paths []string) (list []string) {
		for _, p := range paths {
			list = append(list, regexp.MustCompile(`c\d+`).FindString(p))
		}
		slices.Sort(list)
		return slices.Compact(list)
	}
	glob := func(pattern string) []string {
		found, _ := filepath.Glob(pattern) // it is a constant
		return found
	}
	owners := regexp.MustCompile(`net\d c\d+/eth0`)
	for what, have := range map[string][]string{
		"records":     names(glob("/run/dcni/attachments/*/*/*")),
		"owners":      names(glob("/var/lib/dcni/leases/*/by-owner/*/*")),
		"host's ends": names(owners.FindAllString(r.run("ip", "link", "show", "type", "veth"), -1)),
		"ports":       names(owners.FindAllString(r.run(rules[0], rules[1:]...), -1)),
	} {
		if !slices.Equal(have, up) {
			r.t.Errorf("%s of %v; attached are %v", what, have, up)
		}
	}
	leases := len(glob("/var/lib/dcni/leases/*/10.*")) + len(glob("/var/lib/dcni/leases/*/fd00:*"))
	if leases != len(whose) {
		r.t.Errorf("%d leases of %d addresses", leases, len(whose))
	}
}

// TestSoak attaches and detaches many containers at once for a while, some of them with the same
// ports, and kills plugins at any moment. DCNI_SOAK is how long, as 60s; more containers then.
func TestSoak(t *testing.T) {
	soakTest(t, "", "nft", "list", "map", "inet", "dcni", "ports4")
}

func TestSoakIPTables(t *testing.T) {
	soakTest(t, `, "firewall": "iptables"`, "iptables-save", "-t", "nat")
}

// soakTest is of a configuration; rules is the command that lists published ports by owner.
func soakTest(t *testing.T, more string, rules ...string) {
	containers, atOnce, d := 60, 20, 6*time.Second
	if s := os.Getenv("DCNI_SOAK"); s != "" {
		var err error
		if d, err = time.ParseDuration(s); err != nil {
			t.Fatal(err)
		}
		containers, atOnce = 600, 500
	}
	r := newFixture(t)
	all := r.soakedContainers(containers, more)
	for _, s := range all[:3] {
		r.ok(outcomeOf(s.call("ADD")))
	}
	for _, s := range all[:3] {
		r.ok(outcomeOf(s.call("DEL")))
	}
	before := takePicture()
	calls, kills := r.soak(all, atOnce, d)
	t.Logf("%d calls, %d killed", calls, kills)
	r.agree(all, rules...)
	for _, s := range all {
		r.ok(outcomeOf(s.call("DEL")))
	}
	r.same("all are detached", before)
}
