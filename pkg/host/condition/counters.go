package condition

import (
	"fmt"
	"os"
	"strconv"
	"strings"

	"dcni/pkg/netns"
)

// Counters are what an interface has received and sent since it was made.
type Counters struct {
	RxBytes, RxPackets, RxErrors, RxDropped uint64
	TxBytes, TxPackets, TxErrors, TxDropped uint64
}

// ReadCounters returns the counters of the interfaces of the network namespace at a path,
// as seen from there, by name. The error is os.ErrNotExist if nothing is at the path.
func ReadCounters(path string) (map[string]Counters, error) {
	ns, err := netns.Open(path)
	if err != nil {
		return nil, err
	}
	defer ns.Close()
	var text []byte
	err = ns.Do(func() (err error) {
		text, err = os.ReadFile("/proc/thread-self/net/dev")
		return err
	})
	if err != nil {
		return nil, err
	}
	return parseCounters(string(text))
}

// parseCounters reads /proc/net/dev (proc_pid_net(5)): two lines of headings, then a name
// and sixteen numbers.
func parseCounters(text string) (map[string]Counters, error) {
	const numbers = 16
	out := map[string]Counters{}
	for line := range strings.Lines(text) {
		name, rest, found := strings.Cut(line, ":")
		if !found {
			continue
		}
		var n []uint64
		for word := range strings.FieldsSeq(rest) {
			value, err := strconv.ParseUint(word, 10, 64)
			if err != nil {
				return nil, fmt.Errorf("/proc/net/dev: %q: %w", strings.TrimSpace(line), err)
			}
			n = append(n, value)
		}
		if len(n) < numbers {
			return nil, fmt.Errorf("/proc/net/dev: %q has %d numbers, want %d", strings.TrimSpace(line), len(n), numbers)
		}
		rx, tx := n[:numbers/2], n[numbers/2:]
		out[strings.TrimSpace(name)] = Counters{rx[0], rx[1], rx[2], rx[3], tx[0], tx[1], tx[2], tx[3]}
	}
	return out, nil
}
