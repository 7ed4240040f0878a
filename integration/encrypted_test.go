package integration

import (
	"context"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/x509"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"golang.org/x/sys/unix"

	"dcni/pkg/firewall"
	"dcni/pkg/host"
	"dcni/pkg/host/xfrm"
	"dcni/pkg/overlay"
	"dcni/pkg/overlay/keys"
	"dcni/pkg/overlay/keys/exchange"
	"dcni/pkg/overlay/memory"
	"dcni/pkg/overlay/probe"
	"dcni/pkg/overlay/remote"
	"dcni/pkg/records"
	"dcni/pkg/trust"
	"dcni/pkg/wire"
)

// An encryptedLab is an encrypted network of a script's nodes: container c1 of each has
// 10.9.0.N, where N is the last byte of the node's address. Its objects are the real ones,
// on the real kernel; the cluster's store is this process's memory.
type encryptedLab struct {
	store *memory.Store
	keys  overlay.Keys
	ca    *trust.CA
	nodes map[string]*encryptedNode
	ipv6  bool // the underlay is
}

// An encryptedNode is one node's agent.
type encryptedNode struct {
	*session
	host   *host.Host
	client *memory.Store
	key    *ecdsa.PrivateKey
	cert   *x509.Certificate
	log    *lockedText
	end    func()
	ex     *exchange.Exchange
	last   byte       // of its addresses
	local  netip.Addr // on the underlay
}

type lockedText struct {
	mu sync.Mutex
	strings.Builder
}

func (l *lockedText) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.Builder.Write(b)
}

func (l *lockedText) text() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.String()
}

// Of the network.
const (
	labVNI     = 4096
	labMTU     = 1396 // of an underlay of 1500, of either family
	labPortESP = 4787
	labPort    = 4789
)

var encryptedLabs sync.Map // by script

// cmdEncrypted is the encrypted network of a script.
func cmdEncrypted(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) == 0 {
		ts.Fatalf("usage: encrypted ipv6|rotate|VERB NODE...")
	}
	lab := labOf(ts)
	verbs := map[string]func(ts *testscript.TestScript, n *encryptedNode) error{
		"up": lab.up, "start": lab.start, "stop": lab.stop, "forge": lab.forge, "states": lab.states, "log": lab.print,
		"sync": lab.sync, "lock": lab.lock,
	}
	switch args[0] {
	case "rotate":
		finish(ts, neg, lab.put(lab.keys.Rotate(), "now"))
		return
	case "ipv6":
		lab.ipv6 = true
		return
	}
	do := verbs[args[0]]
	if do == nil {
		ts.Fatalf("encrypted: no verb %q", args[0])
	}
	for _, name := range args[1:] {
		n, err := lab.node(ts, name)
		if err == nil {
			err = do(ts, n)
		}
		finish(ts, neg, err)
	}
}

func labOf(ts *testscript.TestScript) *encryptedLab {
	all := of(ts).script
	if lab, ok := encryptedLabs.Load(all); ok {
		return lab.(*encryptedLab)
	}
	ca, err := trust.NewCA("lab", time.Now())
	ts.Check(err)
	lab := &encryptedLab{store: memory.New(), keys: overlay.Keys{Prefix: "/dcni/1/lab/"}, ca: ca, nodes: map[string]*encryptedNode{}}
	ts.Check(lab.put(lab.keys.Meta(), overlay.Meta{Cluster: "lab", PortESP: labPortESP}))
	encryptedLabs.Store(all, lab)
	ts.Defer(func() { encryptedLabs.Delete(all) })
	return lab
}

func (lab *encryptedLab) put(key string, value any) error {
	data, err := json.Marshal(value)
	if err == nil {
		err = lab.commit(overlay.Change{Key: key, Value: data})
	}
	return err
}

func (lab *encryptedLab) commit(c overlay.Change) error {
	_, _, err := lab.store.Commit(context.Background(), overlay.Txn{Then: []overlay.Change{c}})
	return err
}

func (lab *encryptedLab) node(ts *testscript.TestScript, name string) (*encryptedNode, error) {
	if n := lab.nodes[name]; n != nil {
		return n, nil
	}
	n := &encryptedNode{session: node(ts, name), client: lab.store.Another(), log: &lockedText{}}
	n.last, n.local = n.IPv4.As4()[3], lab.address(n.session)
	var err error
	if n.key, err = trust.NewKey(); err != nil {
		return nil, err
	}
	if n.cert, err = lab.ca.Sign(&n.key.PublicKey, name, nil, time.Now()); err != nil {
		return nil, err
	}
	// The sockets that are opened here are the node's for all callers.
	err = n.script.visit(n.session, func() error {
		if n.host, err = host.New(records.Default()); err != nil {
			return err
		}
		ts.Defer(n.host.Close)
		_, _, err := n.host.ESP()
		return err
	})
	lab.nodes[name] = n
	return n, err
}

// address is a node's on the underlay.
func (lab *encryptedLab) address(n *session) netip.Addr {
	if lab.ipv6 {
		return n.IPv6
	}
	return n.IPv4
}

func containerMAC(last byte) string { return fmt.Sprintf("02:42:0a:09:00:%02x", last) }

func containerAddr(last byte) netip.Addr { return netip.AddrFrom4([4]byte{10, 9, 0, last}) }

// up makes the network on a node, with its container, and the entries for the others that
// the script has made so far.
func (lab *encryptedLab) up(ts *testscript.TestScript, n *encryptedNode) error {
	if err := n.script.visit(n.session, func() error { return n.NewNetNS("c1") }); err != nil {
		return err
	}
	path := "/run/netns/c1"
	objects := []wire.Object{
		lab.locks(n),
		&wire.Bridge{Name: "br-e", MAC: overlay.RouterMAC(n.name, "enc"), MTU: labMTU, Alias: "enc"},
		&wire.Vxlan{Name: "vx-e", Bridge: "br-e", VNI: labVNI, Local: n.local, Port: labPortESP, MTU: labMTU, Alias: "enc"},
		&wire.Up{Dev: "br-e"}, &wire.Up{Dev: "vx-e"},
		&wire.Veth{Name: "v-c1", Bridge: "br-e", NetNS: path, Peer: "eth0", MAC: containerMAC(n.last), MTU: labMTU, Alias: "enc c1/eth0"},
		&wire.Up{Dev: "v-c1"}, &wire.Up{NetNS: path, Dev: "eth0"},
		&wire.Addr{NetNS: path, Dev: "eth0", Prefix: netip.PrefixFrom(containerAddr(n.last), 24)},
	}
	for _, other := range n.script.nodes {
		last := other.IPv4.As4()[3]
		if last == n.last {
			continue
		}
		objects = append(objects, &wire.FDB{Dev: "vx-e", MAC: containerMAC(last), Dst: lab.address(other)}, &wire.FDB{Dev: "vx-e", MAC: containerMAC(last)},
			&wire.Neigh{Dev: "vx-e", IP: containerAddr(last), MAC: containerMAC(last)})
	}
	return n.script.visit(n.session, func() error {
		_, err := wire.Ensure(n.host, objects)
		return err
	})
}

// start makes the node one of the cluster, with its part in the key exchange.
func (lab *encryptedLab) start(ts *testscript.TestScript, n *encryptedNode) error {
	err := errors.Join(lab.put(lab.keys.Node(n.name), overlay.Node{ID: n.name, Address: n.local, MTU: 1500}), lab.put(lab.keys.Alive(n.name), overlay.Alive{}))
	open := func(context.Context) (*exchange.Store, error) {
		return &exchange.Store{Store: n.client, Keys: lab.keys, Cluster: "lab", Node: n.name, Close: func() error { return nil }}, nil
	}
	identity := func() (exchange.Identity, error) {
		return exchange.Identity{CA: lab.ca.Cert, Certificate: n.cert.Raw, Signer: n.key}, nil
	}
	n.ex = exchange.New(slog.New(slog.NewTextHandler(n.log, nil)), n.host, open, identity)
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { n.ex.Run(ctx) })
	n.end = sync.OnceFunc(func() { cancel(); running.Wait() })
	ts.Defer(n.end)
	return err
}

func (lab *encryptedLab) stop(_ *testscript.TestScript, n *encryptedNode) error {
	n.end()
	return nil
}

// sync waits until the node has keys for all others.
func (lab *encryptedLab) sync(_ *testscript.TestScript, n *encryptedNode) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	return n.ex.Sync(ctx)
}

// locks are what keeps the node from sending and taking VXLAN in clear.
func (lab *encryptedLab) locks(n *encryptedNode) *firewall.Encrypted {
	return &firewall.Encrypted{Port: labPortESP, IPv6: lab.ipv6}
}

// lock makes the locks as they are to be again.
func (lab *encryptedLab) lock(_ *testscript.TestScript, n *encryptedNode) error {
	return n.script.visit(n.session, func() error {
		_, err := n.host.Ensure(lab.locks(n))
		return err
	})
}

// forge puts a record of the node into the store that another CA's certificate signs. The
// store is the cluster's, where the node is in one.
func (lab *encryptedLab) forge(_ *testscript.TestScript, n *encryptedNode) error {
	store, prefix, cluster := overlay.Store(lab.store), lab.keys, "lab"
	err := n.script.visit(n.session, func() error {
		if !records.Default().Cluster().Joined() {
			return nil
		}
		client, err := remote.Dial(records.Default().Cluster().Socket(), patience)
		if err != nil {
			return err
		}
		self, err := client.Self(context.Background())
		store, prefix, cluster = client, overlay.Keys{Prefix: self.Prefix}, self.Cluster
		return err
	})
	if err != nil {
		return err
	}
	ca, err := trust.NewCA(cluster, time.Now())
	if err != nil {
		return err
	}
	cert, err := ca.Sign(&n.key.PublicKey, n.name, nil, time.Now())
	if err != nil {
		return err
	}
	mine, err := ecdh.X25519().GenerateKey(rand.Reader)
	if err != nil {
		return err
	}
	k := keys.Keys{
		Cluster: cluster, Node: n.name, Sender: mine.PublicKey().Bytes(), Receiver: mine.PublicKey().Bytes(), Inbound: map[string]keys.Inbound{},
	}
	var pages []overlay.Entry
	for page := range overlay.KeyPages {
		if e, err := store.Get(context.Background(), prefix.KeyPage(page, n.name)); err == nil {
			pages = append(pages, e)
		}
	}
	_, err = store.List(context.Background(), prefix.Node(""), func(e overlay.Entry) error {
		name := strings.TrimPrefix(e.Key, prefix.Node(""))
		for _, page := range pages {
			if page.Key != prefix.KeyPage(overlay.KeyPageOf(name), n.name) {
				continue
			}
			_, inbound, err := keys.Verifier{Cluster: cluster}.Page(n.name, name, page.Value, time.Now().Unix())
			if err != nil {
				return err
			}
			maps.Copy(k.Inbound, inbound)
		}
		return nil
	})
	if err != nil {
		return err
	}
	if len(k.Inbound) == 0 {
		return fmt.Errorf("node %s has no states that others send to", n.name)
	}
	values, err := k.Values()
	if err != nil {
		return err
	}
	values.Pages[-1] = values.Record
	var t overlay.Txn
	for page, value := range values.Pages {
		key := prefix.Key(n.name)
		if page >= 0 {
			key = prefix.KeyPage(page, n.name)
		}
		signed, err := keys.Sign(value, cert.Raw, n.key, rand.Reader)
		if err != nil {
			return err
		}
		t.Then = append(t.Then, overlay.Change{Key: key, Value: signed})
	}
	_, _, err = store.Commit(context.Background(), t)
	return err
}

// states prints the node's states as the kernel has them, without their keys.
func (lab *encryptedLab) states(ts *testscript.TestScript, n *encryptedNode) error {
	return n.script.visit(n.session, func() error {
		conn, err := xfrm.Dial()
		if err != nil {
			return err
		}
		defer conn.Close()
		list, err := conn.States()
		for _, s := range list {
			_, _ = fmt.Fprintf(ts.Stdout(), "%s to %s spi=%08x esn=%t window=%d packets=%d\n", s.Src, s.Dst, s.SPI, s.ESN, s.Window, s.Packets)
		}
		return err
	})
}

func (lab *encryptedLab) print(ts *testscript.TestScript, n *encryptedNode) error {
	_, err := fmt.Fprint(ts.Stdout(), n.log.text())
	return err
}

// cmdInject sends a VXLAN frame for a node's container from outside, in clear, as if
// it came from another node. It fails if the container does not get it.
func cmdInject(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 3 {
		ts.Fatalf("usage: inject FROM-NODE NODE PORT")
	}
	port, err := strconv.Atoi(args[2])
	ts.Check(err)
	from, to := node(ts, args[0]), node(ts, args[1])
	got := func() (n int) {
		ts.Check(of(ts).In(args[1]+"/c1", func() (err error) {
			n, err = udpSeen()
			return err
		}))
		return n
	}
	before := got()
	for range 3 {
		ts.Check(of(ts).In("outside", func() error { return sendRaw(from.IPv4, to.IPv4, forged(from.IPv4, to.IPv4, port)) }))
	}
	wait := time.Now().Add(enough)
	for got() == before && time.Now().Before(wait) {
		time.Sleep(20 * time.Millisecond)
	}
	if got() == before {
		err = fmt.Errorf("nothing of what was sent to port %d as from %s reached the container", port, args[0])
	}
	finish(ts, neg, err)
}

// udpSeen counts the datagrams that came to a network namespace.
func udpSeen() (n int, err error) {
	text, err := os.ReadFile("/proc/thread-self/net/snmp")
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(text)) {
		if f := strings.Fields(line); len(f) > 2 && f[0] == "Udp:" && f[1] != "InDatagrams" {
			for _, word := range f[1:3] { // InDatagrams, NoPorts
				count, err := strconv.Atoi(word)
				if err != nil {
					return 0, err
				}
				n += count
			}
		}
	}
	return n, nil
}

// forged is a UDP datagram with a VXLAN frame in it, for a container from one that is not
// there.
func forged(from, to netip.Addr, port int) []byte {
	last := to.As4()[3]
	mac, _ := net.ParseMAC(containerMAC(last))
	inner := slices.Concat(mac, []byte{2, 0x42, 10, 9, 0, 99}, []byte{8, 0},
		ipHeader(netip.AddrFrom4([4]byte{10, 9, 0, 99}), containerAddr(last), unix.IPPROTO_UDP, 12), datagram(9, 7777, []byte("evil")))
	frame := slices.Concat([]byte{8, 0, 0, 0, labVNI >> 16, labVNI >> 8 & 0xff, labVNI & 0xff, 0}, inner)
	udp := datagram(40000, port, frame)
	return slices.Concat(ipHeader(from, to, unix.IPPROTO_UDP, len(udp)), udp)
}

// datagram is UDP without a checksum.
func datagram(from, to int, data []byte) []byte {
	b := binary.BigEndian.AppendUint16(nil, uint16(from))
	b = binary.BigEndian.AppendUint16(b, uint16(to))
	b = binary.BigEndian.AppendUint16(b, uint16(8+len(data)))
	return append(append(b, 0, 0), data...)
}

func ipHeader(from, to netip.Addr, protocol byte, length int) []byte {
	b := []byte{0x45, 0, 0, 0, 0, 1, 0, 0, 64, protocol, 0, 0}
	binary.BigEndian.PutUint16(b[2:], uint16(20+length))
	b = append(append(b, from.AsSlice()...), to.AsSlice()...)
	var sum uint32
	for i := 0; i < len(b); i += 2 {
		sum += uint32(binary.BigEndian.Uint16(b[i:]))
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	binary.BigEndian.PutUint16(b[10:], ^uint16(sum))
	return b
}

func sendRaw(_, to netip.Addr, packet []byte) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_RAW)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return unix.Sendto(fd, packet, 0, &unix.SockaddrInet4{Addr: to.As4()})
}

// A wiretap counts what passes a node's port of the wire, but for what dclusterd asks and
// answers to find out what passes.
type wiretap struct {
	fd         int
	esp, clear atomic.Int64
	done       chan struct{}
}

var wiretaps sync.Map // by script, of one node

// cmdWiretap begins to listen on a node's wire, or after that tells what passed since
// the last call: packets of ESP, and VXLAN in clear.
func cmdWiretap(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: wiretap NODE")
	}
	all := of(ts).script
	key := args[0] + fmt.Sprintf("%p", all)
	if w, ok := wiretaps.Load(key); ok {
		w := w.(*wiretap)
		time.Sleep(enough / 4) // what is under way
		_, _ = fmt.Fprintf(ts.Stdout(), "esp=%d clear=%d\n", w.esp.Swap(0), w.clear.Swap(0))
		return
	}
	w := &wiretap{done: make(chan struct{})}
	ts.Check(all.visit(all.home, func() error {
		link, err := net.InterfaceByName(args[0])
		if err != nil {
			return err
		}
		const every = unix.ETH_P_ALL<<8 | unix.ETH_P_ALL>>8 // in network order
		if w.fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, every&0xffff); err != nil {
			return err
		}
		tick := unix.Timeval{Usec: 50_000}
		return errors.Join(unix.SetsockoptTimeval(w.fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &tick),
			unix.Bind(w.fd, &unix.SockaddrLinklayer{Protocol: every & 0xffff, Ifindex: link.Index}))
	}))
	wiretaps.Store(key, w)
	go w.listen()
	ts.Defer(func() {
		wiretaps.Delete(key)
		close(w.done)
	})
}

func (w *wiretap) listen() {
	defer unix.Close(w.fd)
	b := make([]byte, 2048)
	for {
		select {
		case <-w.done:
			return
		default:
		}
		n, _, err := unix.Recvfrom(w.fd, b, 0)
		if err == nil {
			w.count(b[:n])
		}
	}
}

// count looks at one frame.
func (w *wiretap) count(frame []byte) {
	const ethernet, ipv6 = 14, 40
	if len(frame) < ethernet+ipv6+4 {
		return
	}
	ip := frame[ethernet:]
	protocol, transport := ip[9], ip[int(ip[0]&15)*4:]
	switch binary.BigEndian.Uint16(frame[12:]) {
	case unix.ETH_P_IP:
	case unix.ETH_P_IPV6:
		protocol, transport = ip[6], ip[ipv6:]
	default:
		return
	}
	switch {
	case len(transport) < 16:
	case protocol == unix.IPPROTO_ESP:
		if binary.BigEndian.Uint32(transport) != probe.SPI {
			w.esp.Add(1)
		}
	case protocol == unix.IPPROTO_UDP:
		port, vni := binary.BigEndian.Uint16(transport[2:]), binary.BigEndian.Uint32(transport[12:])>>8
		if port == labPortESP || port == labPort && vni != probe.VNI {
			w.clear.Add(1)
		}
	}
}
