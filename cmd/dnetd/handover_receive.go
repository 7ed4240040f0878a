package main

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"syscall"
	"time"

	"dcni/pkg/host/agent"
	"dcni/pkg/host/dnssock"
	"dcni/pkg/host/gateways"
	"dcni/pkg/names"
	"dcni/pkg/netns"
	"dcni/pkg/relay"
)

// handoverTimeout is how long a handover may take.
const handoverTimeout = 30 * time.Second

// A message is a part of a handover, which a dnetd sends to its successor. The
// descriptor of the first one is the listening unix socket. Those of the others are
// the sockets of their entries, of their gateway, or those of the relay, one after the other.
type message struct {
	Error   string          `json:"error,omitempty"` // why there is no handover: no other message follows
	Entries []entry         `json:"items,omitempty"`
	Gateway *gateways.Place `json:"gateway,omitempty"`
	Relay   []relay.Socket  `json:"relay,omitempty"`
	Last    bool            `json:"last,omitempty"`
}

// An entry is one attachment's resolver. The first entry of a sandbox says which
// sockets come with it: a UDP socket and a TCP listener of each family.
type entry struct {
	Resolver *names.Resolver `json:"resolver"`
	Families []names.Family  `json:"families,omitempty"`
}

// An ack is the successor's answer: it serves everything, and its predecessor may
// end.
type ack struct {
	Serves int `json:"serves"` // sandboxes
}

// lost reports whether the other end of a connection is gone.
func lost(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, syscall.EPIPE) || errors.Is(err, syscall.ECONNRESET)
}

// errRefused says that the dnetd that runs hands nothing over just now.
var errRefused = errors.New("the dnetd that runs")

// takeOverFrom receives everything from the dnetd that runs, which serves until it
// has the ack. An ack that can't be sent is an error: the predecessor may be gone,
// or may go on serving.
func (d *dnetd) takeOverFrom(predecessor *agent.Conn) error {
	if err := rootOnly(predecessor); err != nil {
		return err
	}
	predecessor.SetDeadline(time.Now().Add(handoverTimeout))
	if err := predecessor.Send(agent.Request{Op: agent.TakeOver}); err != nil {
		return err
	}
	r, err := receiveAll(predecessor)
	if err != nil {
		r.close()
		return fmt.Errorf("take over: %w", err)
	}
	if err := d.use(r); err != nil {
		r.close()
		return err
	}
	if err := predecessor.Send(ack{d.registry.count()}); err != nil {
		return errors.Join(err, d.listener.socket.Close()) // the next try must not connect to ourselves
	}
	return nil
}

// use serves what was received. With an error, received has what is not in use.
func (d *dnetd) use(r *received) error {
	registrations, socket := r.registrations, r.socket
	d.registry.gateways.Adopt(r.gateways)
	defer d.registry.gateways.CloseGiven()
	r.registrations, r.gateways = nil, nil
	if err := d.registry.add(registrations...); err != nil {
		return err
	}
	r.socket = nil
	var err error
	if d.listener, err = newListener(d.options.socket, socket); err != nil {
		return err
	}
	d.ports.relay.Adopt(r.relay, r.relayFiles)
	d.ports.restore()
	return nil
}

// received is what a successor has got.
type received struct {
	socket        *net.UnixListener
	registrations []registration
	gateways      map[gateways.Place]dnssock.NameServer

	relay      []relay.Socket
	relayFiles []int
}

func (r *received) close() {
	if r.socket != nil {
		_ = r.socket.Close() // the predecessor goes on listening
	}
	for _, one := range r.registrations {
		one.closeSockets()
	}
	gateways.CloseAll(r.gateways)
	agent.CloseAll(r.relayFiles)
}

// receiveAll reads messages until the last. With an error it returns what came
// before.
func receiveAll(c *agent.Conn) (*received, error) {
	r := &received{gateways: map[gateways.Place]dnssock.NameServer{}}
	for {
		var m message
		files, err := c.Receive(&m)
		if err == nil {
			files, err = r.add(m, files)
		}
		if err != nil {
			agent.CloseAll(files)
			return r, err
		}
		if m.Last {
			return r, nil
		}
	}
}

// add adds what one message brings. With an error it returns the descriptors that
// it did not add.
func (r *received) add(m message, files []int) ([]int, error) {
	if m.Error != "" {
		return files, fmt.Errorf("%w: %s", errRefused, m.Error)
	}
	var err error
	if r.socket == nil {
		if files, err = r.addListener(files); err != nil {
			return files, err
		}
	}
	for _, e := range m.Entries {
		if files, err = r.addEntry(e, files); err != nil {
			return files, err
		}
	}
	if m.Gateway != nil {
		if files, err = r.addGateway(*m.Gateway, files); err != nil {
			return files, err
		}
	}
	if len(files) != len(m.Relay) {
		return files, fmt.Errorf("%d descriptors are left for %d sockets of the relay", len(files), len(m.Relay))
	}
	r.relay, r.relayFiles = append(r.relay, m.Relay...), append(r.relayFiles, files...)
	return nil, nil
}

// addListener adds the listening socket, and returns the other descriptors.
func (r *received) addListener(files []int) ([]int, error) {
	if len(files) == 0 {
		return nil, errors.New("no listening socket came along")
	}
	file := os.NewFile(uintptr(files[0]), "listener")
	defer file.Close()
	l, err := net.FileListener(file)
	if err != nil {
		return files[1:], err
	}
	socket, ok := l.(*net.UnixListener)
	if !ok {
		return files[1:], errors.Join(errors.New("the listening socket is none of unix"), l.Close())
	}
	r.socket = socket
	return files[1:], nil
}

// addEntry adds an entry with its sockets, and returns the other descriptors.
func (r *received) addEntry(e entry, files []int) ([]int, error) {
	if e.Resolver == nil {
		return files, errors.New("an entry without a resolver came")
	}
	one := registration{resolver: e.Resolver}
	for _, f := range e.Families {
		if f < 0 || f >= families || len(files) < 2 || one.sockets[f].Port != 0 {
			one.closeSockets()
			return files, fmt.Errorf("%s came without its sockets", e.Resolver.Owner)
		}
		socket, err := dnssock.Check(files[0], files[1], e.Resolver.Cookie, f == names.IPv6)
		if err != nil {
			one.closeSockets()
			return files, err
		}
		one.sockets[f], files = socket, files[2:]
	}
	r.registrations = append(r.registrations, one)
	return files, nil
}

// addGateway adds the sockets at a gateway, and returns the other descriptors.
func (r *received) addGateway(p gateways.Place, files []int) ([]int, error) {
	cookie, err := netns.CookieAt(netns.Own)
	if err != nil {
		return files, err
	}
	if len(files) < 2 {
		return files, fmt.Errorf("gateway %s came without its sockets", p.Address)
	}
	s, err := dnssock.CheckAt(files[0], files[1], cookie, p.Address)
	if err != nil {
		return files, err
	}
	r.gateways[p] = s
	return files[2:], nil
}
