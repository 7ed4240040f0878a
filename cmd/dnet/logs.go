package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"dcni/pkg/records"
	"dcni/pkg/records/output"
)

// logsOptions are the flags of `dnet logs`.
type logsOptions struct {
	follow, timestamps bool
	tail, since, until string
}

func newLogsCommand(a *app) *cobra.Command {
	o := &logsOptions{}
	cmd := &cobra.Command{
		Use:                   "logs [OPTIONS] CONTAINER",
		Short:                 "Fetch what a container of dnet run -d has printed",
		DisableFlagsInUseLine: true,
		Args:                  exactly(1),
		RunE:                  func(_ *cobra.Command, args []string) error { return a.logs(o, args[0]) },
	}
	f := cmd.Flags()
	f.BoolVarP(&o.follow, "follow", "f", false, "Follow log output until the container ends")
	f.StringVarP(&o.tail, "tail", "n", "all", "Number of lines to show from the end of the logs")
	f.BoolVarP(&o.timestamps, "timestamps", "t", false, "Show timestamps")
	f.StringVar(&o.since, "since", "", `Show logs since timestamp (e.g. "2013-01-02T13:23:37Z") or relative (e.g. "42m" for 42 minutes)`)
	f.StringVar(&o.until, "until", "", `Show logs before a timestamp or relative, as --since`)
	return cmd
}

// logs prints what is kept of a container's output: each stream to its own.
func (a *app) logs(o *logsOptions, word string) error {
	c, err := a.container(word)
	if err != nil {
		return err
	}
	if !c.Output {
		return fmt.Errorf("container %s has no logs: it was not run in the background, with -d", word)
	}
	p := logPrinter{app: a, timestamps: o.timestamps, tail: -1}
	if o.tail != "all" {
		if p.tail, err = strconv.Atoi(o.tail); err != nil {
			return fmt.Errorf("invalid value for \"tail\": %s: must be a number of lines, or all", o.tail)
		}
	}
	now := time.Now()
	for _, bound := range []struct {
		name, text string
		to         *time.Time
	}{{"since", o.since, &p.since}, {"until", o.until, &p.until}} {
		if bound.text == "" {
			continue
		}
		if *bound.to, err = parseTime(bound.text, now); err != nil {
			return fmt.Errorf("invalid value for %q: %w", bound.name, err)
		}
	}
	return p.print(c, o.follow)
}

// A logPrinter prints entries.
type logPrinter struct {
	*app
	timestamps   bool
	tail         int // lines; negative: all
	since, until time.Time
}

// followEvery is how often --follow looks for more.
const followEvery = 100 * time.Millisecond

// print prints a container's entries, and with follow those that come until it ends.
func (p *logPrinter) print(c *records.Container, follow bool) error {
	r, err := output.Open(p.store.ContainerDir(c.ID))
	if errors.Is(err, fs.ErrNotExist) {
		return nil // it has not started
	}
	if err != nil {
		return err
	}
	defer func() { _ = r.Close() }()
	have, err := p.read(r)
	if err != nil {
		return err
	}
	for _, e := range lastLines(have, p.tail) {
		if err := p.write(e); err != nil {
			return err
		}
	}
	for follow {
		ended := !p.store.ContainerLocked(c.ID) // first: what it printed last is there then
		more, err := p.read(r)
		if err != nil {
			return err
		}
		for _, e := range more {
			if err := p.write(e); err != nil {
				return err
			}
		}
		if ended {
			return nil
		}
		time.Sleep(followEvery)
	}
	return nil
}

// read reads the entries that are there, as far as they are of the asked time.
func (p *logPrinter) read(r *output.Reader) (list []output.Entry, err error) {
	for {
		e, err := r.Next()
		if errors.Is(err, io.EOF) {
			return list, nil
		}
		if err != nil {
			return nil, err
		}
		if !e.Time.Before(p.since) && (p.until.IsZero() || e.Time.Before(p.until)) {
			list = append(list, e)
		}
	}
}

// lastLines returns the last lines of entries; a negative number is all. A long line has
// several entries.
func lastLines(list []output.Entry, lines int) []output.Entry {
	if lines < 0 {
		return list
	}
	first := len(list)
	for ; first > 0; first-- {
		if strings.HasSuffix(string(list[first-1].Text), "\n") || first == len(list) {
			if lines == 0 {
				break
			}
			lines--
		}
	}
	return list[first:]
}

func (p *logPrinter) write(e output.Entry) error {
	to := p.stdout
	if e.Stream == "stderr" {
		to = p.stderr
	}
	if p.timestamps {
		fmt.Fprint(to, e.Time.Format("2006-01-02T15:04:05.000000000Z07:00"), " ")
	}
	_, err := to.Write(e.Text)
	return err
}

// outputPipes take what a container in the background prints: a goroutine for each empties it
// into the container's output. nil are none.
type outputPipes struct {
	in, out [2]*os.File // the command's ends, and dnet's
	writer  *output.Writer
	copies  sync.WaitGroup
}

// streams are their names.
var streams = [2]string{"stdout", "stderr"}

func newOutputPipes() (*outputPipes, error) {
	p := &outputPipes{}
	for i := range streams {
		var err error
		if p.out[i], p.in[i], err = os.Pipe(); err != nil {
			return nil, err
		}
	}
	return p, nil
}

// started gives up the command's ends, which the command has.
func (p *outputPipes) started() {
	if p == nil {
		return
	}
	for _, f := range p.in {
		_ = f.Close()
	}
}

// keep begins to write what is printed into a container's folder.
func (p *outputPipes) keep(dir string) (err error) {
	if p == nil {
		return nil
	}
	if p.writer, err = output.Create(dir, time.Now); err != nil {
		return err
	}
	for i, stream := range streams {
		p.copies.Go(func() { p.writer.Copy(stream, p.out[i]) })
	}
	return nil
}

// lastOutput is how long the end of a container waits for a process that has left the
// container, and has its output open.
const lastOutput = time.Second

// close writes what is left in the pipes. The container's processes have ended.
func (p *outputPipes) close() {
	if p == nil || p.writer == nil {
		return
	}
	for _, f := range p.out {
		_ = f.SetReadDeadline(time.Now().Add(lastOutput)) // pipes have deadlines
	}
	p.copies.Wait()
	_ = p.writer.Close() // what could not be written is not there
}
