package reach

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"time"
)

// A port is published for tcp and udp.
type port struct{ host, container int }

// The ports that the first container of each network publishes.
var published, otherPublished = port{8080, 80}, port{8090, 80}

// AttachDCNI has dcni make the network, and attach three containers to it and one to another.
// keys are further ones of both networks' configurations, as the inside of a JSON object. What it
// returns ends dnetd.
func (w *World) AttachDCNI(n *Network, keys string) (stop func(), err error) {
	stop, err = startAgent()
	if err != nil {
		return stop, err
	}
	err = w.ip("host", strings.Join(n.Host, "\n"))
	bridge := `"bridge": "` + n.Bridge() + `"`
	if n.Keys != "" && !strings.Contains(n.Keys, bridge) {
		bridge += ", " + n.Keys
	} else if n.Keys != "" {
		bridge = n.Keys
	}
	conf := configuration("n", bridge, keys, n.of(subnets))
	other := configuration("d", `"bridge": "`+otherBridge+`"`, keys, otherSubnets)
	ports := []port{published}
	if n.NoPorts {
		ports = nil
	}
	for _, ns := range []string{"c1", "c2", "c3", "d1"} {
		err = errors.Join(err, w.NewNetNS(ns), w.settings(ns))
	}
	return stop, errors.Join(err,
		add("c1", conf, n.of(first), ports), add("c2", conf, n.of(second), nil), add("c3", conf, n.of(third), nil), add("d1", other, otherFirst, []port{otherPublished}))
}

// startAgent starts dnetd in the host.
func startAgent() (stop func(), err error) {
	cmd := exec.Command("/opt/cni/bin/dnetd", "serve", "--metrics=")
	if err := cmd.Start(); err != nil {
		return func() {}, err
	}
	stop = func() {
		_ = cmd.Process.Kill() // it has ended by itself
		_ = cmd.Wait()         // by a signal
	}
	for range 1000 {
		if _, err = os.Stat("/run/dcni/dnetd.sock"); err == nil {
			return stop, nil
		}
		time.Sleep(10 * time.Millisecond)
	}
	return stop, fmt.Errorf("dnetd does not start: %w", err)
}

// configuration is that of a network, without what a runtime adds.
func configuration(name, keys, more string, subnets [2]string) string {
	if more != "" {
		keys += ", " + more
	}
	var list []string
	for _, subnet := range subnets {
		if subnet != "" {
			list = append(list, fmt.Sprintf(`{"subnet": %q}`, subnet))
		}
	}
	return fmt.Sprintf(`{"cniVersion": "1.1.0", "name": %q, "type": "dbridge", %s, "ipam": {"type": "dipam", "subnets": [%s]}, "runtimeConfig": %%s}`,
		name, keys, strings.Join(list, ", "))
}

// add attaches a container.
func add(name, conf string, addrs [2]string, ports []port) error {
	var ips, mappings []string
	for i, bits := range []string{"/24", "/64"} {
		if addrs[i] != "" {
			ips = append(ips, fmt.Sprintf("%q", addrs[i]+bits))
		}
	}
	for _, p := range ports {
		for _, proto := range []string{"tcp", "udp"} {
			mappings = append(mappings, fmt.Sprintf(`{"hostPort": %d, "containerPort": %d, "protocol": %q}`, p.host, p.container, proto))
		}
	}
	runtime := fmt.Sprintf(`{"ips": [%s], "portMappings": [%s]}`, strings.Join(ips, ", "), strings.Join(mappings, ", "))
	cmd := exec.Command("/opt/cni/bin/dbridge")
	cmd.Env = append(os.Environ(), "CNI_COMMAND=ADD", "CNI_CONTAINERID="+name, "CNI_NETNS=/run/netns/"+name, "CNI_IFNAME=eth0", "CNI_PATH=/opt/cni/bin")
	cmd.Stdin = strings.NewReader(fmt.Sprintf(conf, runtime))
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("ADD %s: %w: %s", name, err, bytes.TrimSpace(out))
	}
	return nil
}
