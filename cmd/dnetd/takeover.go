package main

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"syscall"
	"time"

	"dcni/pkg/host"
	"dcni/pkg/host/agent"
	"dcni/pkg/names"
	"dcni/pkg/relay"
)

// takeOverTime is how long everything may take on its way to a successor.
const takeOverTime = 30 * time.Second

// A parcel is a part of what a dnetd gives to its successor. The first has the
// listening unix socket as its descriptor, those that follow have those
// of their items, or those of the relay, one after the other.
type parcel struct {
	Error string         `json:"error,omitempty"` // there will be no other
	Items []item         `json:"items,omitempty"`
	Relay []relay.Socket `json:"relay,omitempty"`
	Last  bool           `json:"last,omitempty"`
}

// An item is what one attachment brought, and the first of a sandbox has its
// sockets: a UDP socket and a TCP listener of each family.
type item struct {
	Resolver *names.Resolver `json:"resolver"`
	Families []names.Family  `json:"families,omitempty"`
}

// A verdict is the successor's answer: it serves everything, and who was before
// may go.
type verdict struct {
	Serves int `json:"serves"` // sandboxes
}

// lost reports whether the other end is gone.
func lost(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, syscall.EPIPE) || errors.Is(err, syscall.ECONNRESET)
}

// errRefused says that the dnetd that runs gives nothing away just now.
var errRefused = errors.New("the dnetd that runs")

// takeOver gets everything from the dnetd that runs. Until it hears that we
// serve, it serves, too.
func (d *dnetd) takeOver(prior *agent.Conn) (err error) {
	if err := rootOnly(prior); err != nil {
		return err
	}
	prior.SetDeadline(time.Now().Add(takeOverTime))
	if err := prior.Send(agent.Request{Op: agent.TakeOver}); err != nil {
		return err
	}
	got, err := receiveAll(prior)
	if err != nil {
		got.close()
		return fmt.Errorf("take over: %w", err)
	}
	if err := d.memory.add(got.arrivals...); err != nil {
		return errors.Join(err, got.listener.Close())
	}
	if d.listener, err = newListener(d.options.socket, got.listener); err != nil {
		return err
	}
	d.ports.relay.Adopt(got.relay, got.relayFiles)
	d.ports.restore()
	return prior.Send(verdict{d.memory.count()})
}

// An estate is what a successor has got.
type estate struct {
	listener *net.UnixListener
	arrivals []arrival

	relay      []relay.Socket
	relayFiles []int
}

func (e *estate) close() {
	if e.listener != nil {
		_ = e.listener.Close() // it is served elsewhere
	}
	for _, a := range e.arrivals {
		a.closeSockets()
	}
	agent.CloseAll(e.relayFiles)
}

// receiveAll reads parcels until the last. With an error the estate has what
// came before.
func receiveAll(c *agent.Conn) (*estate, error) {
	e := &estate{}
	for {
		var p parcel
		files, err := c.Receive(&p)
		if err == nil && p.Error != "" {
			err = fmt.Errorf("%w: %s", errRefused, p.Error)
		}
		if err == nil && e.listener == nil {
			files, err = e.takeListener(files)
		}
		for _, i := range p.Items {
			if err == nil {
				files, err = e.take(i, files)
			}
		}
		if n := len(p.Relay); err == nil && n <= len(files) {
			e.relay, e.relayFiles = append(e.relay, p.Relay...), append(e.relayFiles, files[:n]...)
			files = files[n:]
		}
		if err == nil && len(files) > 0 {
			err = fmt.Errorf("%d descriptors too many", len(files))
		}
		if err != nil {
			agent.CloseAll(files)
			return e, err
		}
		if p.Last {
			return e, nil
		}
	}
}

// takeListener takes the listening socket from descriptors, and returns the
// others.
func (e *estate) takeListener(files []int) ([]int, error) {
	if len(files) == 0 {
		return nil, errors.New("no listening socket came along")
	}
	file := os.NewFile(uintptr(files[0]), "listener")
	defer file.Close()
	l, err := net.FileListener(file)
	if err != nil {
		return files[1:], err
	}
	unix, ok := l.(*net.UnixListener)
	if !ok {
		return files[1:], errors.Join(errors.New("the listening socket is none of unix"), l.Close())
	}
	e.listener = unix
	return files[1:], nil
}

// take takes an item's sockets from descriptors, and returns the others.
func (e *estate) take(i item, files []int) ([]int, error) {
	if i.Resolver == nil {
		return files, errors.New("an item without a resolver came")
	}
	a := arrival{resolver: i.Resolver}
	for _, f := range i.Families {
		if f < 0 || f >= families || len(files) < 2 || a.sockets[f].Port != 0 {
			a.closeSockets()
			return files, fmt.Errorf("%s came without its sockets", i.Resolver.Owner)
		}
		socket, err := host.CheckNameServer(files[0], files[1], i.Resolver.Cookie, f == names.IPv6)
		if err != nil {
			a.closeSockets()
			return files, err
		}
		a.sockets[f], files = socket, files[2:]
	}
	e.arrivals = append(e.arrivals, a)
	return files, nil
}
