package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"time"
)

// swarm compares an ADD to the overlay with what connects a container to an overlay
// network of a Docker Swarm of one node: Docker's command, and what it asks the daemon.
// Both stores are local, and both networks have another container already.
func (o *overlayRun) swarm() error {
	o.host.Enter()
	d, err := startDocker(nil, "manager")
	if errors.Is(err, errNoDocker) {
		fmt.Fprintln(os.Stderr, "bench: not measured beside a Swarm:", err)
		return nil
	}
	if err != nil {
		return err
	}
	const rounds = 15
	n := o.nodes[0]
	n.Enter()
	err = n.NewNetNS(besideSwarm)
	var command, daemon [2][]float64
	for i := 0; err == nil && i <= rounds; i++ {
		var byCommand, byDaemon, ours float64
		if byCommand, byDaemon, ours, err = o.swarmRound(d); i > 0 {
			command[0], command[1] = append(command[0], byCommand), append(command[1], ours)
			daemon[0], daemon[1] = append(daemon[0], byDaemon), append(daemon[1], ours)
		}
	}
	if err == nil {
		err = o.swarmTraffic(d)
	}
	if err = errors.Join(err, d.stop()); err != nil {
		return err
	}
	o.table.overlay("ADD, to docker network connect (Swarm): p50", "%.1f ms", command, lower, 1.0/30)
	o.table.overlay("... to what that asks its daemon: p50", "%.1f ms", daemon, lower, 0)
	return nil
}

// swarmTraffic compares what goes from node to node with what goes over the Swarm's overlay
// network: another Docker, which has the other end of the first one's link, joins it.
func (o *overlayRun) swarmTraffic(manager *docker) error {
	token, err := exec.Command(manager.client, "-H", "unix://"+manager.socket(), "swarm", "join-token", "-q", "worker").Output()
	if err != nil {
		return fmt.Errorf("docker swarm join-token: %w", err)
	}
	o.host.Enter()
	worker, err := startDocker(func(pid int) error {
		out, err := exec.Command("nsenter", "-t", fmt.Sprint(manager.cmd.Process.Pid), "-n", "ip", "link", "set", "out1", "netns", fmt.Sprint(pid)).CombinedOutput()
		if err != nil {
			return fmt.Errorf("the link between two Dockers: %w: %s", err, out)
		}
		return nil
	}, "worker", strings.TrimSpace(string(token)))
	if err != nil {
		return err
	}
	var theirs [2]end
	for i, netns := range []string{manager.netns[1], worker.netns[0]} {
		theirs[i] = end{host: o.host, netns: netns}
		if theirs[i].address, err = overlayAddress(theirs[i]); err != nil {
			return errors.Join(err, worker.stop())
		}
	}
	sent, err := inTurns(transfers, func(way int) (float64, error) {
		if way == 0 {
			return transferFor(transferSpan, theirs[0], theirs[1])
		}
		return transferFor(transferSpan, o.containers[0], o.containers[1])
	})
	if err = errors.Join(err, worker.stop()); err == nil {
		o.table.overlay("node to node, TCP, to a Swarm's", "%.2f GB/s", sent, higher, 0)
	}
	return err
}

// overlayAddress returns the address that a container of Docker's has on the overlay network:
// the one of Swarm's default pool.
func overlayAddress(e end) (string, error) {
	var all []string
	err := e.in(func() error {
		list, err := net.InterfaceAddrs()
		for _, a := range list {
			all = append(all, a.String())
		}
		return err
	})
	for _, a := range all {
		if prefix, err := netip.ParsePrefix(a); err == nil && netip.MustParsePrefix("10.0.0.0/8").Contains(prefix.Addr()) {
			return prefix.Addr().String(), nil
		}
	}
	return "", errors.Join(err, fmt.Errorf("no address of 10.0.0.0/8 is in %s: %v", e.netns, all))
}

// besideSwarm is the sandbox that is attached in turn with Docker's container.
const besideSwarm = "beside-swarm"

// swarmRound attaches each way, and undoes it. It returns milliseconds.
func (o *overlayRun) swarmRound(d *docker) (byCommand, byDaemon, ours float64, err error) {
	byCommand, err = d.connected(func() error {
		out, err := exec.Command(d.client, "-H", "unix://"+d.socket(), "network", "connect", "bench", "asker").CombinedOutput()
		if err != nil {
			return fmt.Errorf("docker network connect: %w: %s", err, out)
		}
		return nil
	})
	if err != nil {
		return 0, 0, 0, err
	}
	byDaemon, err = d.connected(func() error { return d.post("connect", map[string]any{"Container": "asker"}) })
	if err != nil {
		return 0, 0, 0, err
	}
	add, _, err := o.overlay.both(container(besideSwarm))
	return byCommand, byDaemon, add.Seconds() * 1e3, err
}

// connected measures what connects the container, and disconnects it.
func (d *docker) connected(connect func() error) (ms float64, err error) {
	began := time.Now()
	err = connect()
	took := time.Since(began)
	if err == nil {
		err = d.post("disconnect", map[string]any{"Container": "asker", "Force": true})
	}
	return took.Seconds() * 1e3, err
}

// post asks the daemon to change the network.
func (d *docker) post(verb string, body any) error {
	data, err := json.Marshal(body)
	if err != nil {
		return err
	}
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", d.socket())
	}}}
	r, err := client.Post("http://docker/networks/bench/"+verb, "application/json", bytes.NewReader(data))
	if err != nil {
		return err
	}
	defer r.Body.Close()
	if r.StatusCode != http.StatusOK {
		said, _ := io.ReadAll(r.Body)
		return fmt.Errorf("docker: %s: %s: %s", verb, r.Status, said)
	}
	return nil
}
