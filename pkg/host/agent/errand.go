package agent

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"dcni/pkg/host/early"
)

// An Errand is a plugin's call that dnetd is asked to carry out in its place, see
// package early.
type Errand struct {
	Mark string            // of the plugin's version, see [early.Mark]
	Env  map[string]string // the protocol's variables
	Conf []byte            // standard input
}

// isErrand reports whether a message is one, and not JSON.
func isErrand(data []byte) bool { return bytes.HasPrefix(data, []byte(early.Greeting+"\x00")) }

// parseErrand reads a message.
func parseErrand(data []byte) (*Errand, error) {
	if len(data) >= early.MaxMessage {
		return nil, fmt.Errorf("an errand of %d bytes: must be less than %d", len(data), early.MaxMessage)
	}
	e := &Errand{Env: map[string]string{}}
	var words []string
	for rest := data; ; {
		word, behind, found := bytes.Cut(rest, []byte{0})
		if !found {
			return nil, errors.New("an errand without end: must be strings, and an empty one")
		}
		if rest = behind; len(word) == 0 {
			e.Conf = bytes.Clone(rest) // the message's room is used again
			break
		}
		words = append(words, string(word))
	}
	if len(words) < 2 {
		return nil, errors.New("an errand without a version")
	}
	e.Mark = words[1]
	for _, word := range words[2:] {
		name, value, _ := strings.Cut(word, "=")
		if _, twice := e.Env[name]; !twice { // as in the environment, the first counts
			e.Env[name] = value
		}
	}
	return e, nil
}

// A Caller is the process at the other end of a connection, as far as it
// concerns who is to act for it.
type Caller struct {
	Program   string // absolute path
	Neighbour bool   // its namespaces (user, network, mount) and its root directory are ours: an absolute path means the same
}

// Caller returns who is at the other end.
func (c *Conn) Caller() (Caller, error) {
	peer, err := c.Peer()
	if err != nil {
		return Caller{}, err
	}
	proc := fmt.Sprintf("/proc/%d/", peer.Pid)
	program, err := os.Readlink(proc + "exe")
	if err != nil {
		return Caller{}, err
	}
	theirs, err := surroundingsOf(proc)
	if err != nil {
		return Caller{}, err
	}
	ours, err := ourSurroundings()
	return Caller{Program: program, Neighbour: theirs == ours}, err
}

// surroundings are what makes an absolute path mean something to a process.
type surroundings struct {
	user, net, mount string // namespaces
	root             place
}

// A place is a directory. Another mount of the same one may have other things
// mounted in it.
type place struct {
	mount, inode uint64
	major, minor uint32
}

// ourSurroundings are this process's, which never change.
var ourSurroundings = sync.OnceValues(func() (surroundings, error) { return surroundingsOf("/proc/self/") })

// surroundingsOf reads a process's, of which it gets the folder in /proc.
func surroundingsOf(proc string) (s surroundings, err error) {
	for name, to := range map[string]*string{"ns/user": &s.user, "ns/net": &s.net, "ns/mnt": &s.mount} {
		if *to, err = os.Readlink(proc + name); err != nil {
			return s, err
		}
	}
	var st unix.Statx_t
	if err := unix.Statx(unix.AT_FDCWD, proc+"root", 0, unix.STATX_INO|unix.STATX_MNT_ID, &st); err != nil {
		return s, &os.PathError{Op: "statx", Path: proc + "root", Err: err}
	}
	s.root = place{st.Mnt_id, st.Ino, st.Dev_major, st.Dev_minor}
	return s, nil
}

// Duplicate returns descriptors that are open apart from those given.
func Duplicate(fds []int) ([]int, error) {
	var list []int
	for _, fd := range fds {
		own, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
		if err != nil {
			CloseAll(list)
			return nil, os.NewSyscallError("fcntl", err)
		}
		list = append(list, own)
	}
	return list, nil
}

// Waits reports whether the other end is still open. It is not once its process
// has been killed: sockets are closed before anybody can know that it is dead.
func (c *Conn) Waits() bool {
	var b [1]byte
	_, _, err := unix.Recvfrom(c.fd, b[:], unix.MSG_PEEK|unix.MSG_DONTWAIT)
	return errors.Is(err, unix.EAGAIN)
}

// Answer answers an errand with one of early's words, and what the plugin is to
// print.
func (c *Conn) Answer(status byte, stdout []byte) error {
	return c.send(append([]byte{status}, stdout...), nil)
}
