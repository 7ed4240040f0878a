package systemd

import (
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A manager plays systemd: it listens where a service notifies it.
type manager struct {
	t    *testing.T
	conn *net.UnixConn
}

func newManager(t *testing.T) (*manager, map[string]string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "notify")
	c, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return &manager{t, c}, map[string]string{"NOTIFY_SOCKET": path}
}

// next returns the next message and the descriptors that came with it.
func (m *manager) next() (string, []int) {
	m.t.Helper()
	data, rights := make([]byte, 4096), make([]byte, 4096)
	if err := m.conn.SetReadDeadline(time.Now().Add(5 * time.Second)); err != nil {
		m.t.Fatal(err)
	}
	n, oob, _, _, err := m.conn.ReadMsgUnix(data, rights)
	if err != nil {
		m.t.Fatal(err)
	}
	var fds []int
	messages, _ := unix.ParseSocketControlMessage(rights[:oob])
	for i := range messages {
		list, _ := unix.ParseUnixRights(&messages[i])
		fds = append(fds, list...)
	}
	return string(data[:n]), fds
}

// silent fails if there is another message.
func (m *manager) silent() {
	m.t.Helper()
	_ = m.conn.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
	data := make([]byte, 4096)
	if n, err := m.conn.Read(data); !errors.Is(err, os.ErrDeadlineExceeded) {
		m.t.Errorf("got %q, %v: want no message", data[:n], err)
	}
}

func lookup(env map[string]string) func(string) string {
	return func(name string) string { return env[name] }
}

func join(t *testing.T, env map[string]string) *Service {
	t.Helper()
	s, _, err := Join(lookup(env), os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestNotify(t *testing.T) {
	m, env := newManager(t)
	s := join(t, env)
	for want, say := range map[string]func() error{
		"READY=1":          s.Ready,
		"STOPPING=1":       s.Stopping,
		"WATCHDOG=1":       s.Alive,
		"STATUS=3 of them": func() error { return s.Status("3 of them") },
	} {
		if err := say(); err != nil {
			t.Errorf("%s: %v", want, err)
		}
		if got, _ := m.next(); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

// TestKeep: what is kept arrives as the same socket, and is dropped once.
func TestKeep(t *testing.T) {
	m, env := newManager(t)
	s := join(t, env)
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if err := s.Keep("4097", int(w.Fd()), int(w.Fd())); err != nil {
		t.Fatal(err)
	}
	state, fds := m.next()
	if state != "FDSTORE=1\nFDPOLL=0\nFDNAME=4097" || len(fds) != 2 {
		t.Fatalf("got %q with %d descriptors", state, len(fds))
	}
	_ = w.Close()
	if _, err := unix.Write(fds[0], []byte("x")); err != nil {
		t.Error(err)
	}
	if n, err := r.Read(make([]byte, 2)); n != 1 {
		t.Errorf("read %d bytes, %v: want what was written to the kept descriptor", n, err)
	}
	for _, fd := range fds {
		_ = unix.Close(fd)
	}
	if err := errors.Join(s.Drop("4097"), s.Drop("4097"), s.Drop("1")); err != nil {
		t.Error(err)
	}
	if state, _ := m.next(); state != "FDSTOREREMOVE=1\nFDNAME=4097" {
		t.Errorf("got %q", state)
	}
	m.silent()
}

// TestFull: with more names than fit into a variable of the environment the
// service could never be started again.
func TestFull(t *testing.T) {
	m, env := newManager(t)
	go func() { _, _ = io.Copy(io.Discard, m.conn) }()
	s := join(t, env)
	var names []string
	var err error
	for i := 0; err == nil; i++ {
		name := strconv.Itoa(1_000_000 + i)
		if err = insist(func() error { return s.Keep(name) }); err == nil {
			err = insist(func() error { return s.Keep(name, 0, 0) })
			names = append(names, name, name)
		}
	}
	if !errors.Is(err, ErrFull) || len(names) < 8000 {
		t.Fatalf("after %d: %v, want ErrFull after thousands", len(names), err)
	}
	names = names[:len(names)-2]
	cmd := exec.Command("true")
	cmd.Env = []string{"LISTEN_FDNAMES=dnetd.socket:" + strings.Join(names, ":")}
	if err := cmd.Run(); err != nil {
		t.Error(err)
	}
	err = insist(func() error { return s.Drop(names[0]) })
	if err = errors.Join(err, insist(func() error { return s.Keep("1000000", 0, 0) })); err != nil {
		t.Errorf("after a Drop: %v", err)
	}
}

// insist calls f until systemd is not too busy for it.
func insist(f func() error) error {
	for {
		if err := f(); !errors.Is(err, os.ErrDeadlineExceeded) {
			return err
		}
	}
}

func TestNobodyWaits(t *testing.T) {
	s := join(t, nil)
	if s != nil {
		t.Fatal("a service of no manager")
	}
	if err := errors.Join(s.Ready(), s.Alive(), s.Stopping(), s.Status("x"), s.Keep("1", 0), s.Drop("1")); err != nil {
		t.Error(err)
	}
}

func TestNobodyListens(t *testing.T) {
	s := join(t, map[string]string{"NOTIFY_SOCKET": filepath.Join(t.TempDir(), "gone")})
	if err := s.Ready(); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v", err)
	}
}

func TestEnvironment(t *testing.T) {
	self := strconv.Itoa(os.Getpid())
	for _, c := range []struct {
		name string
		env  string
		want time.Duration
		err  string
	}{
		{name: "watchdog", env: "WATCHDOG_USEC=30000000", want: 30 * time.Second},
		{name: "our watchdog", env: "WATCHDOG_USEC=1 WATCHDOG_PID=" + self, want: time.Microsecond},
		{name: "another's watchdog", env: "WATCHDOG_USEC=1 WATCHDOG_PID=1"},
		{name: "watchdog of words", env: "WATCHDOG_USEC=soon", err: `WATCHDOG_USEC="soon" is no number of microseconds`},
		{name: "another's descriptors", env: "LISTEN_PID=1 LISTEN_FDS=5"},
		{name: "no descriptors", env: "LISTEN_FDS=0 LISTEN_PID=" + self},
		{name: "less than none", env: "LISTEN_FDS=-1 LISTEN_PID=" + self, err: `LISTEN_FDS="-1" is no number of descriptors`},
		{name: "a word", env: "LISTEN_FDS=all LISTEN_PID=" + self, err: `LISTEN_FDS="all" is no number of descriptors`},
	} {
		t.Run(c.name, func(t *testing.T) {
			env := map[string]string{"NOTIFY_SOCKET": "@somewhere"}
			for _, word := range strings.Fields(c.env) {
				name, value, _ := strings.Cut(word, "=")
				if env[name] = value; !slices.Contains(Variables, name) {
					t.Errorf("%s is read, and would be inherited", name)
				}
			}
			s, handed, err := Join(lookup(env), os.Getpid())
			switch {
			case c.err != "":
				if err == nil || err.Error() != c.err {
					t.Errorf("error %v, want %s", err, c.err)
				}
			case err != nil || s.Watchdog != c.want || len(handed) != 0:
				t.Errorf("got %v, %v, %v", s, handed, err)
			}
		})
	}
}

// TestMain is the service of TestHandedOver where its environment says so.
func TestMain(m *testing.M) {
	if os.Getenv("SERVICE") == "" {
		os.Exit(m.Run())
	}
	env := map[string]string{"LISTEN_PID": strconv.Itoa(os.Getpid())}
	_, handed, err := Join(func(name string) string { return env[name] + os.Getenv(name) }, os.Getpid())
	if err != nil {
		os.Stdout.WriteString(err.Error())
		os.Exit(0)
	}
	for _, d := range handed {
		flags, _ := unix.FcntlInt(uintptr(d.FD), unix.F_GETFD, 0)
		if flags&unix.FD_CLOEXEC == 0 {
			os.Stdout.WriteString("inherited further: ")
		}
		_, _ = unix.Write(d.FD, []byte(strconv.Itoa(d.FD)+" is "+d.Name+"\n"))
	}
	os.Exit(0)
}

func TestHandedOver(t *testing.T) {
	for _, c := range []struct{ name, fds, names, want string }{
		{"named", "2", "dnetd.socket:4097", "3 is dnetd.socket\n4 is 4097\n"},
		{"more than names", "2", "dnetd.socket", "3 is dnetd.socket\n4 is \n"},
		{"nothing there", "999", "a:b:c", "LISTEN_FDS=999, descriptor"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var out strings.Builder
			r, w, err := os.Pipe()
			if err != nil {
				t.Fatal(err)
			}
			cmd := exec.Command(os.Args[0])
			cmd.Env = []string{"SERVICE=1", "LISTEN_FDS=" + c.fds, "LISTEN_FDNAMES=" + c.names}
			cmd.Stdout, cmd.ExtraFiles = &out, []*os.File{w, w}
			err = cmd.Run()
			_ = w.Close()
			written, _ := io.ReadAll(r)
			got := string(written) + out.String()
			if err != nil || !strings.HasPrefix(got, c.want) {
				t.Errorf("got %q, %v: want %q", got, err, c.want)
			}
		})
	}
}
