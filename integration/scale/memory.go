package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"dcni/integration/testhost"
	"dcni/pkg/cluster"
	"dcni/pkg/host/agent"
	"dcni/pkg/overlay"
	"dcni/pkg/overlay/etcd"
	"dcni/pkg/overlay/remote"
	"dcni/pkg/wire"
)

// A memory is what the programs of a node have resident, in MB, before it follows a
// network and after.
type memory struct{ Dclusterd, Dnetd [2]float64 }

// measureMemory has a process of its own measure the programs in a directory.
func measureMemory(bin string, endpoints int) (m memory, err error) {
	bin, err = filepath.Abs(bin)
	if err != nil {
		return m, err
	}
	cmd := exec.Command("/proc/self/exe", "memory", bin, strconv.Itoa(endpoints))
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return m, err
	}
	return m, json.Unmarshal(out, &m)
}

// memoryMain runs dclusterd and dnetd in namespaces of their own, where the node follows a
// network of so many endpoints on other nodes, in the kernel as well.
func memoryMain(args []string) error {
	if err := testhost.Isolate(); err != nil {
		return err
	}
	endpoints, err := strconv.Atoi(args[1])
	if err != nil {
		return err
	}
	for _, dir := range []string{"/run", "/var/lib", "/etc/cni"} {
		if err := errors.Join(os.MkdirAll(dir, 0o755), unix.Mount("tmpfs", dir, "tmpfs", 0, "mode=755")); err != nil {
			return fmt.Errorf("mount %s: %w", dir, err)
		}
	}
	if err := os.MkdirAll("/run/dcni", 0o755); err != nil {
		return err
	}
	if err := sh(links); err != nil {
		return err
	}
	r := &rig{bin: args[0], endpoints: endpoints}
	defer r.end()
	m, err := r.measure(context.Background())
	if err != nil {
		return fmt.Errorf("%w\n%s", err, r.log.Bytes())
	}
	return json.NewEncoder(os.Stdout).Encode(m)
}

// links are the node's, and those of the network as the plugin makes them.
const links = `ip link set lo up
ip link add eth0 type veth peer name eth1
ip link set eth1 up
ip link set eth0 up
ip addr add 192.0.2.1/24 dev eth0
ip link add br-scale type bridge
ip link add vx-scale mtu 1450 master br-scale type vxlan id 4096 local 192.0.2.1 dstport 4789 nolearning proxy
ip link set br-scale up
ip link set vx-scale up`

func sh(script string) error {
	if out, err := exec.Command("sh", "-ec", script).CombinedOutput(); err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	return nil
}

// A rig is a node.
type rig struct {
	bin       string
	endpoints int // on other nodes
	member    *memberProcess
	log       bytes.Buffer
	running   []*exec.Cmd
}

func (r *rig) end() {
	for _, cmd := range r.running {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}
	if r.member != nil {
		_ = r.member.remove()
	}
}

// start starts a program, and waits until it listens at a socket.
func (r *rig) start(name, socket string, args ...string) error {
	cmd := exec.Command(filepath.Join(r.bin, name), args...)
	cmd.Stderr = &r.log
	if err := cmd.Start(); err != nil {
		return err
	}
	r.running = append(r.running, cmd)
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		if _, err := os.Stat(socket); err == nil {
			return nil
		}
	}
	return fmt.Errorf("%s does not listen at %s", name, socket)
}

// Where the two programs listen.
const (
	clusterSocket = "/run/dcni/dclusterd.sock"
	agentSocket   = "/run/dcni/dnetd.sock"
)

func (r *rig) measure(ctx context.Context) (m memory, err error) {
	if r.member, err = newMember(); err != nil {
		return m, err
	}
	if err := r.startCluster(ctx); err != nil {
		return m, err
	}
	if err := r.start("dnetd", agentSocket, "serve", "--metrics", ""); err != nil {
		return m, err
	}
	time.Sleep(settleTime)
	if err := r.read(&m, 0); err != nil {
		return m, err
	}
	store, err := etcd.Open(etcd.Config{Endpoints: []string{r.member.client}})
	if err != nil {
		return m, err
	}
	defer func() { _ = store.Close() }() // it was only read
	if err := r.fill(ctx, store); err != nil {
		return m, err
	}
	peers := &wire.Peers{Network: "scale", Bridge: "br-scale", Vxlan: "vx-scale"}
	for end := time.Now().Add(time.Minute); ; time.Sleep(100 * time.Millisecond) {
		if _, err = agent.Call(agentSocket, 10*time.Second, agent.Request{Op: agent.Sync, Peers: peers}); err == nil {
			break
		}
		if time.Now().After(end) {
			return m, err
		}
	}
	time.Sleep(settleTime)
	return m, r.read(&m, 1)
}

// settleTime is how long a program has to give back what it needs no more.
const settleTime = 3 * time.Second

// startCluster starts dclusterd, and has the host make a cluster, whose store is the member.
func (r *rig) startCluster(ctx context.Context) error {
	if err := r.start("dclusterd", clusterSocket); err != nil {
		return err
	}
	client, err := remote.Dial(clusterSocket, 10*time.Second)
	if err != nil {
		return err
	}
	defer client.Close()
	external := &cluster.External{Endpoints: []string{r.member.client}, Prefix: keys.Prefix}
	return client.Admin(ctx, cluster.Init, cluster.InitArgs{Self: cluster.Self{Name: "scale", Advertise: "192.0.2.1"}, External: external}, nil)
}

// fill makes the network scale, with endpoints on 200 other nodes.
func (r *rig) fill(ctx context.Context, store overlay.Store) error {
	const nodes = 200
	subnet := overlay.Subnet{Prefix: netip.MustParsePrefix("10.0.0.0/16")}
	own := overlay.Cluster{Store: store, Keys: keys, Node: "scale"}
	if _, err := own.CreateNetwork(ctx, overlay.Wanted{Name: "scale", Network: overlay.Network{Subnets: []overlay.Subnet{subnet}}}); err != nil {
		return err
	}
	for i := range nodes {
		if _, _, err := store.Commit(ctx, nodeWith(i, r.endpoints/nodes)); err != nil {
			return err
		}
	}
	return nil
}

// nodeWith is the transaction that enters a node with endpoints.
func nodeWith(i, endpoints int) overlay.Txn {
	name := fmt.Sprintf("node%d", i)
	t := overlay.Txn{Then: []overlay.Change{
		put(keys.Node(name), overlay.Node{ID: name, Address: netip.AddrFrom4([4]byte{198, 51, 100, byte(i)}), MTU: 1500}),
		put(keys.Alive(name), overlay.Alive{Boot: "scale"}),
	}}
	for j := range endpoints {
		id := fmt.Sprintf("%s-container-%d", name, j)
		at := wire.Attachment{Network: "scale", Container: id, IfName: "eth0"}
		t.Then = append(t.Then, put(keys.Endpoint("scale", name, overlay.AttachmentKey(at)), overlay.Endpoint{
			Addresses: []netip.Addr{netip.AddrFrom4([4]byte{10, 0, byte(i), byte(j)})}, MAC: fmt.Sprintf("02:42:0a:00:%02x:%02x", i, j),
			Container: id, IfName: "eth0", Name: id, Names: []string{id, id[:12], "web"}, Ready: true,
		}))
	}
	return t
}

func put(key string, value any) overlay.Change {
	data, err := json.Marshal(value)
	if err != nil {
		panic(err) // of types that are all here
	}
	return overlay.Change{Key: key, Value: data}
}

// read reads what the programs have resident.
func (r *rig) read(m *memory, which int) (err error) {
	for i, to := range []*[2]float64{&m.Dclusterd, &m.Dnetd} {
		if to[which], err = resident(r.running[i].Process.Pid, "VmRSS:"); err != nil {
			return err
		}
	}
	return nil
}

func (m memory) print(w io.Writer) {
	fmt.Fprintf(w, "\n| resident MB of a node that follows a network of %d endpoints | before | after |\n| --- | ---: | ---: |\n", listed)
	for _, row := range []struct {
		name string
		mb   [2]float64
	}{{"dclusterd", m.Dclusterd}, {"dnetd", m.Dnetd}} {
		fmt.Fprintf(w, "| %s | %.1f | %.1f |\n", row.name, row.mb[0], row.mb[1])
	}
}
