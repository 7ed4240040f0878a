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
	"os"
	"os/exec"
	"time"
)

// swarm compares an ADD to the overlay with what connects a container to an overlay
// network of a Docker Swarm of one node: Docker's command, and what it asks the daemon.
// Both stores are local, and both networks have another container already.
func (o *overlayRun) swarm() error {
	o.host.Enter()
	d, err := startDocker("swarm")
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
	if err = errors.Join(err, d.stop()); err != nil {
		return err
	}
	o.table.overlay("ADD, to docker network connect (Swarm): p50", "%.1f ms", command, lower, 1.0/30)
	o.table.overlay("... to what that asks its daemon: p50", "%.1f ms", daemon, lower, 0)
	return nil
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
