package main

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"dcni/pkg/records"
	"dcni/pkg/wire"
)

// commandLine measures dnet, where it is built.
func (b *run) commandLine() error {
	dnet, err := filepath.Abs(filepath.Join(b.bin, "dnet"))
	if err != nil {
		return err
	}
	if _, err := os.Stat(dnet); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err := b.firstOutput(dnet); err != nil {
		return err
	}
	return b.listing(dnet)
}

// firstOutput measures how long a command in a sandbox takes to say something:
// in one that ip(8) makes, which has no network, and in one of dnet, which has.
func (b *run) firstOutput(dnet string) error {
	if out, err := exec.Command(dnet, "create", "--subnet", "10.98.0.0/16", "bench-run").CombinedOutput(); err != nil {
		return fmt.Errorf("dnet create: %w: %s", err, out)
	}
	times := make([]samples, 3)
	for i := range b.rounds + 1 {
		name := fmt.Sprintf("first%d", i)
		for which, cmd := range []*exec.Cmd{
			exec.Command("sh", "-c", fmt.Sprintf("ip netns add %[1]s && exec ip netns exec %[1]s echo hello", name)),
			exec.Command(dnet, "run", "--rm", "--network", "bench-run", "echo", "hello"),
		} {
			cmd.Env = append(os.Environ(), "CNI_PATH="+filepath.Dir(dnet))
			took, err := untilOutput(cmd)
			if err != nil {
				return fmt.Errorf("%v: %w", cmd.Args, err)
			}
			if i > 0 { // the first makes what the network shares
				times[which] = append(times[which], took)
			}
		}
		if err := exec.Command("ip", "netns", "del", name).Run(); err != nil {
			return err
		}
	}
	ip, ours := times[0].percentile(50), times[1].percentile(50)
	b.table.rows = append(b.table.rows, row{
		"first output: ip netns, dnet run", ms(ip), ms(ours), "", fmt.Sprintf("%+.1f ms", float64((ours-ip).Microseconds())/1000),
	})
	return nil
}

// untilOutput returns how long a command took to its first line.
func untilOutput(cmd *exec.Cmd) (time.Duration, error) {
	cmd.Stderr = os.Stderr
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return 0, err
	}
	start := time.Now()
	if err := cmd.Start(); err != nil {
		return 0, err
	}
	_, read := bufio.NewReader(stdout).ReadString('\n')
	took := time.Since(start)
	if err := cmd.Wait(); err != nil {
		return 0, err
	}
	return took, read
}

// Networks and attachments beside which dnet lists networks.
const (
	manyNetworks    = 200
	manyAttachments = 2000
)

// listing measures `dnet ls` among many networks and attachments. They are
// files, which is all that it looks at.
func (b *run) listing(dnet string) error {
	store, conf := records.Default(), records.ConfDir(records.DefaultConfDir)
	name := func(i int) string { return fmt.Sprintf("net%d", i%manyNetworks) }
	for i := range manyNetworks {
		list := fmt.Sprintf(`{"cniVersion": "1.0.0", "name": %q, "plugins": [{"type": "dbridge", "ipam": {"type": "dipam"}}]}`, name(i))
		if err := conf.Write(name(i), []byte(list)); err != nil {
			return err
		}
	}
	for i := range manyAttachments {
		a := wire.Attachment{Network: name(i), Container: fmt.Sprintf("listed%d", i), IfName: "eth0"}
		if err := store.Put(&records.Record{Attachment: a, Plugin: "dbridge", State: records.Up}); err != nil {
			return err
		}
	}
	times := make([]samples, 3)
	for range b.rounds {
		start := time.Now()
		if out, err := exec.Command(dnet, "ls").CombinedOutput(); err != nil {
			return fmt.Errorf("dnet ls: %w: %s", err, out)
		}
		times[1] = append(times[1], time.Since(start))
	}
	b.table.times(fmt.Sprintf("dnet ls: %d networks: p50", manyNetworks), times, 50)
	return nil
}
