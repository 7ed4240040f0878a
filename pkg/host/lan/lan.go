// Package lan asks machines on an Ethernet for addresses before a container gets them
// (RFC 5227 for IPv4, RFC 4862 for IPv6), and tells them of those that it has got. It
// sends and reads frames on packet sockets: no address is needed on the link, and the
// kernel's own ARP and neighbour discovery take no part.
//
// What comes in is anybody's. It can make an ADD take another address, or fail; it can't
// hold it for longer than the detection takes.
package lan

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"dcni/pkg/wire"
)

// How often a machine is asked, and how long it has for its answer each time. RFC 5227
// wants 3 times (PROBE_NUM), a wait of up to 1 s before the first, 1 to 2 s between them,
// and 2 s after the last, and allows less where answers are faster; RFC 4862 has 1 time
// and 1 s. A machine on an Ethernet answers within a millisecond or few.
const (
	asks   = 3
	answer = 100 * time.Millisecond
)

// Longest is how long a detection takes where no machine answers. One that comes right
// after a conflict waits for a random time first, at most as long as for an answer.
const Longest = asks * answer

// A Detection is under way.
type Detection struct {
	question
	sockets []socket
	left    int       // how often is still to be asked
	next    time.Time // when is to be asked again, or no answer is expected any more
}

// socket is for one family.
type socket struct {
	fd    int
	asks  [][]byte // frames
	group int      // a socket that is a member of groups; -1: none
}

// Begin asks for addresses through a link of the calling thread's namespace, for the
// first time. The answers queue up until [Detection.Wait].
func Begin(index int, own []byte, addresses []netip.Addr, again bool) (*Detection, error) {
	if len(own) != len(mac{}) {
		return nil, fmt.Errorf("the link has no Ethernet address: %x", own)
	}
	d := &Detection{question: question{own: mac(own), addresses: addresses}, left: asks, next: time.Now()}
	for i := range d.nonce {
		d.nonce[i] = byte(rand.Uint32())
	}
	for _, v6 := range []bool{false, true} {
		if err := d.open(index, v6); err != nil {
			d.Close()
			return nil, err
		}
	}
	if again {
		d.next = d.next.Add(rand.N(answer))
		return d, nil
	}
	if err := d.ask(); err != nil {
		d.Close()
		return nil, err
	}
	return d, nil
}

// open opens the socket of a family that there are addresses of.
func (d *Detection) open(index int, v6 bool) error {
	var list []netip.Addr
	for _, a := range d.addresses {
		if a.Is6() == v6 {
			list = append(list, a)
		}
	}
	if len(list) == 0 {
		return nil
	}
	s, protocol, filter := socket{group: -1}, uint16(etherARP), arpFilter(list)
	if v6 {
		protocol, filter = etherIP6, ndFilter(list)
	}
	for _, a := range list {
		if v6 {
			s.asks = append(s.asks, ndProbe(d.own, a, d.nonce))
		} else {
			s.asks = append(s.asks, arpProbe(d.own, a))
		}
	}
	var err error
	if s.fd, err = listen(index, protocol, filter); err != nil {
		return err
	}
	if v6 {
		s.group, err = join(s.fd, index, list)
	}
	d.sockets = append(d.sockets, s)
	return err
}

// Close closes the sockets.
func (d *Detection) Close() {
	for _, s := range d.sockets {
		closeBeside(s.fd)
		if s.group >= 0 {
			unix.Close(s.group)
		}
	}
	d.sockets = nil
}

// ask asks for all addresses of both families.
func (d *Detection) ask() error {
	for _, s := range d.sockets {
		for _, frame := range s.asks {
			if err := send(s.fd, frame); err != nil {
				return err
			}
		}
	}
	d.left--
	d.next = time.Now().Add(answer)
	return nil
}

// Wait returns the conflicts as soon as it knows of one, and none when the time is over.
// However much comes in, it looks at the clock after each frame.
func (d *Detection) Wait() ([]wire.Conflict, error) {
	for {
		for rest := time.Until(d.next); rest > 0; rest = time.Until(d.next) {
			if list, err := d.listen(rest); err != nil || len(list) > 0 {
				return list, err
			}
		}
		if d.left == 0 {
			return nil, nil
		}
		if err := d.ask(); err != nil {
			return nil, err
		}
	}
}

// listen waits for frames, and reads one of each family.
func (d *Detection) listen(rest time.Duration) (list []wire.Conflict, err error) {
	polled := make([]unix.PollFd, len(d.sockets))
	for i, s := range d.sockets {
		polled[i] = unix.PollFd{Fd: int32(s.fd), Events: unix.POLLIN}
	}
	timeout := unix.NsecToTimespec(rest.Nanoseconds())
	if _, err := unix.Ppoll(polled, &timeout, nil); err != nil && !errors.Is(err, unix.EINTR) {
		return nil, os.NewSyscallError("ppoll", err)
	}
	for i, p := range polled {
		if p.Revents == 0 {
			continue
		}
		frame, err := receive(d.sockets[i].fd)
		if err != nil {
			return nil, err
		}
		if c, taken := d.answer(frame); taken {
			list = append(list, c)
		}
	}
	return list, nil
}

// Announce tells the neighbours on a link of the calling thread's namespace that
// addresses are its.
func Announce(index int, own []byte, addresses []netip.Addr) error {
	if len(own) != len(mac{}) {
		return fmt.Errorf("the link has no Ethernet address: %x", own)
	}
	list := make([]Owner, len(addresses))
	for i, a := range addresses {
		list[i] = Owner{a, own}
	}
	return AnnounceAll(index, list)
}

// An Owner has an address.
type Owner struct {
	Address netip.Addr
	MAC     []byte // Ethernet, 6 bytes
}

// AnnounceAll tells the neighbours on a link of the calling thread's namespace who has
// which address, in the name of these.
func AnnounceAll(index int, list []Owner) error {
	fd, err := listen(index, 0, program{{Code: unix.BPF_RET | unix.BPF_K, K: drop}})
	if err != nil {
		return err
	}
	defer closeBeside(fd)
	for _, o := range list {
		frame := arpAnnouncement
		if o.Address.Is6() {
			frame = ndAnnouncement
		}
		if err := send(fd, frame(mac(o.MAC), o.Address)); err != nil {
			return err
		}
	}
	return nil
}
