package relay

import (
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"regexp"
	"runtime/debug"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"dcni/pkg/firewall"
)

// handOver gives a relay's sockets to another, as through a unix socket.
func handOver(t *testing.T, from, to fixture) {
	t.Helper()
	err := from.HandOver(2, func(list []Socket, fds []int) error {
		copies := make([]int, len(fds))
		for i, fd := range fds {
			var err error
			if copies[i], err = unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0); err != nil {
				return err
			}
		}
		to.Adopt(list, copies)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// Sockets go to another relay while clients come: none is refused, and connections
// go on.
func TestHandOver(t *testing.T) {
	old, young := start(t), start(t)
	word := serve(t, says("c1"))
	container := serve(t, echo)
	udp := serveUDP(t, func(q string) string { return q })
	relays := []firewall.Relay{
		relayed(t, "tcp", "::", word), relayed(t, "tcp", "::1", container), relayed(t, "udp", "::", udp),
	}
	unwanted := relayed(t, "tcp", "::1", word)
	old.set(t, "c1", append(relays, unwanted)...)
	live := connectTo(t, relays[1].Listen)
	_, _ = io.WriteString(live, "a")

	stop, failed := make(chan bool), make(chan error, 1)
	var clients sync.WaitGroup
	clients.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
			}
			if err := askBoth(relays[0].Listen.Port(), relays[2].Listen.Port()); err != nil {
				failed <- err
				return
			}
		}
	})
	time.Sleep(50 * time.Millisecond)
	handOver(t, old, young)
	young.set(t, "c1", relays...)
	young.CloseAdopted()
	drained := make(chan error)
	go func() { drained <- old.Drain(5 * time.Second) }()
	time.Sleep(100 * time.Millisecond)
	_, _ = io.WriteString(live, "b")
	got := make([]byte, 2)
	if _, err := io.ReadFull(live, got); err != nil || string(got) != "ab" {
		t.Errorf("the live connection: %q, %v", got, err)
	}
	_ = live.Close()
	if err := <-drained; err != nil {
		t.Error(err)
	}
	close(stop)
	clients.Wait()
	select {
	case err := <-failed:
		t.Error(err)
	default:
	}
	if s := young.Stats(); s.Ports != 3 || s.Accepted == 0 {
		t.Errorf("%+v", s)
	}
	if _, err := net.Dial("tcp6", unwanted.Listen.String()); err == nil {
		t.Error("a socket without a claim is open")
	}
}

// askBoth asks over TCP, and over UDP once more where a datagram is lost.
func askBoth(tcp, udp uint16) error {
	c, err := net.Dial("tcp6", fmt.Sprint("[::1]:", tcp))
	if err != nil {
		return err
	}
	defer c.Close()
	if all, err := io.ReadAll(c); err != nil || string(all) != "c1" {
		return fmt.Errorf("heard %q: %w", all, err)
	}
	d, err := net.Dial("udp6", fmt.Sprint("[::1]:", udp))
	if err != nil {
		return err
	}
	defer d.Close()
	_, err = asked(d, "?")
	return err
}

// A relay that drains waits no longer than its timeout.
func TestDrainEnds(t *testing.T) {
	r := start(t)
	relay := relayed(t, "tcp", "::1", serve(t, echo))
	r.set(t, "c1", relay)
	c := connectTo(t, relay.Listen)
	_, _ = io.WriteString(c, "a")
	_, _ = io.ReadFull(c, make([]byte, 1))
	begin := time.Now()
	if err := r.Drain(200 * time.Millisecond); err != nil || time.Since(begin) > time.Second {
		t.Error(err, time.Since(begin))
	}
	if _, err := c.Read(make([]byte, 1)); !isReset(err) {
		t.Error(err)
	}
}

// manyPorts is how many ports are to cost less than 20 MB.
const manyPorts = 10000

// TestMemory counts what a process with 10,000 ports holds: this one's copy,
// which has nothing else to do.
func TestMemory(t *testing.T) {
	if os.Getenv("RELAY_PORTS") != "" {
		keepPorts(t)
		return
	}
	if info, _ := debug.ReadBuildInfo(); slices.Contains(info.Settings, debug.BuildSetting{Key: "-race", Value: "true"}) {
		t.Skip("the race detector takes more than ports do")
	}
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil || limit.Max < manyPorts+100 {
		t.Skipf("%d descriptors are not enough", limit.Max)
	}
	size := map[int]int{}
	for _, ports := range []int{1, manyPorts} {
		cmd := exec.Command(os.Args[0], "-test.run=^TestMemory$", "-test.v")
		cmd.Env = append(os.Environ(), fmt.Sprint("RELAY_PORTS=", ports))
		out, err := cmd.CombinedOutput()
		found := regexp.MustCompile(`VmRSS:\s+(\d+) kB`).FindSubmatch(out)
		if err != nil || found == nil {
			t.Fatalf("%v\n%s", err, out)
		}
		size[ports], _ = strconv.Atoi(string(found[1]))
	}
	t.Logf("resident: %d KiB with one port, %d KiB with %d", size[1], size[manyPorts], manyPorts)
	if size[manyPorts] > 20000 {
		t.Errorf("%d KiB with %d ports, want less than 20 MB", size[manyPorts], manyPorts)
	}
}

// keepPorts listens on ports of 127.0.0.3 and ::1, half of them UDP, and says what that
// takes.
func keepPorts(t *testing.T) {
	r := start(t)
	n, _ := strconv.Atoi(os.Getenv("RELAY_PORTS"))
	var relays []firewall.Relay
	for i := range n {
		for _, listen := range []string{"127.0.0.3", "::1"} {
			protocol := []string{"tcp", "udp"}[i%2]
			relays = append(relays, firewall.Relay{Protocol: protocol, Listen: at(listen, uint16(10000+i)), Target: at("127.0.0.2", 80)})
		}
	}
	begin := time.Now()
	if _, err := r.Set("c1", relays); err != nil {
		t.Log(err) // some other program has that one
	}
	t.Log(n, "ports in", time.Since(begin))
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%s", status)
}
