package relay

import (
	"net/netip"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// A Socket is a listening socket that is handed to another process.
type Socket struct {
	Protocol string         `json:"protocol"`
	Address  netip.AddrPort `json:"address"`
}

// HandOver calls send with all listening sockets, also those that it adopted and no
// claim uses, atOnce of them in a call, for another process to [Relay.Adopt]. The
// descriptors stay the relay's, which goes on to serve until [Relay.Drain]: the process
// that is first takes a connection. [Relay.Set] waits until HandOver returns.
func (r *Relay) HandOver(atOnce int, send func(list []Socket, fds []int) error) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	var list []Socket
	var fds []int
	for _, p := range r.ports {
		for _, s := range p.sockets {
			list, fds = append(list, Socket{s.protocol, s.at}), append(fds, s.fd)
		}
	}
	for s, fd := range r.adopted {
		list, fds = append(list, s), append(fds, fd)
	}
	for len(list) > 0 {
		n := min(atOnce, len(list))
		if err := send(list[:n], fds[:n]); err != nil {
			return err
		}
		list, fds = list[n:], fds[n:]
	}
	return nil
}

// Adopt takes over listening sockets of another process, for claims to come. The
// descriptors are the relay's from now on.
func (r *Relay) Adopt(list []Socket, fds []int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.adopted == nil {
		r.adopted = map[Socket]int{}
	}
	for i, fd := range fds {
		if _, twice := r.adopted[list[i]]; twice {
			_ = unix.Close(fd)
			continue
		}
		r.adopted[list[i]] = fd
	}
}

// CloseAdopted closes the adopted sockets that no claim uses.
func (r *Relay) CloseAdopted() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, fd := range r.adopted {
		_ = unix.Close(fd)
	}
	r.adopted = nil
}

// drainSilence is how long a UDP client must be silent for a relay that drains to
// forget it.
const drainSilence = time.Second

// Drain has the relay take no new clients. It closes the relay once all connections
// have ended and all UDP clients have been silent for a second, or after the timeout.
func (r *Relay) Drain(timeout time.Duration) error {
	r.CloseAdopted()
	r.mu.Lock()
	for _, p := range r.ports {
		// UDP sockets stay: answers of containers go through them.
		p.sockets = slices.DeleteFunc(p.sockets, func(s *socket) bool {
			if s.udp == nil {
				s.close(r)
				return true
			}
			s.watch(r, 0)
			return false
		})
	}
	clear(r.waiting)
	r.paused = nil
	r.mu.Unlock()
	const often = 20 * time.Millisecond
	for end := time.Now().Add(timeout); r.inUse() && time.Now().Before(end); {
		time.Sleep(often)
	}
	return r.Close()
}

// inUse reports whether a relay that drains still has clients.
func (r *Relay) inUse() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	for s := range r.busy {
		if last := s.udp.recent.Back().Value.(*session); time.Since(last.last) < drainSilence {
			return true
		}
	}
	return r.stats.Connections > 0
}
