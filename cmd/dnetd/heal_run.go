package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"dcni/pkg/records"
	"dcni/pkg/wire"
)

// A job is one run of one plugin.
type job struct {
	program string
	args    []string // networks and attachments; none: everything
}

// plan returns the runs that heal targets, nil: everything. Each plugin heals its
// own records; where its program is, they say.
func plan(store records.Store, keys []records.RecordKey, targets []target) []job {
	args := map[string][]string{} // by plugin
	for _, t := range targets {
		for _, m := range keys {
			if t.Network != m.Network || t.Container != "" && t.Attachment != m.Attachment {
				continue
			}
			if !slices.Contains(args[m.Plugin], t.arg()) {
				args[m.Plugin] = append(args[m.Plugin], t.arg())
			}
		}
	}
	var jobs []job
	for _, plugin := range pluginsOf(keys) {
		list := args[plugin]
		if targets != nil && list == nil {
			continue
		}
		program := programOf(store, keys, plugin)
		if program == "" {
			continue // of records that went meanwhile, or that a version before wrote
		}
		slices.Sort(list)
		jobs = append(jobs, job{program, coarse(list)})
	}
	return jobs
}

// coarse names networks instead of more attachments than a command line should
// have.
func coarse(args []string) []string {
	if len(args) <= healBatch {
		return args
	}
	for i := range args {
		args[i], _, _ = strings.Cut(args[i], "/")
	}
	slices.Sort(args)
	return slices.Compact(args)
}

// pluginsOf lists plugins in the order that they are run: those that make
// interfaces come first, by the chance of their names.
func pluginsOf(keys []records.RecordKey) []string {
	var list []string
	for _, m := range keys {
		list = append(list, m.Plugin)
	}
	slices.Sort(list)
	return slices.Compact(list)
}

// programOf returns where a plugin is, by the first record of it that names one
// that may be run; else by the first that names any.
func programOf(store records.Store, keys []records.RecordKey, plugin string) (first string) {
	for _, m := range keys {
		if m.Plugin != plugin {
			continue
		}
		r, err := store.Get(m.Attachment, plugin)
		if err != nil || r.Program == "" {
			continue
		}
		if trusted(r.Program) == nil {
			return r.Program
		}
		first = cmp.Or(first, r.Program)
	}
	return first
}

// healTime is how long one run may take.
const healTime = time.Minute

// runHeal runs a plugin's command heal.
func runHeal(ctx context.Context, program string, args []string) ([]wire.HealEvent, error) {
	if err := trusted(program); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, healTime)
	defer cancel()
	cmd := exec.CommandContext(ctx, program, append([]string{"heal"}, args...)...)
	cmd.Dir = "/"
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	failed := cmd.Run()
	list, err := readRepairs(&stdout)
	if err != nil {
		return list, fmt.Errorf("%s heal: what it prints: %w", program, err)
	}
	if failed != nil && !slices.ContainsFunc(list, func(r wire.HealEvent) bool { return r.Error != "" }) {
		return list, fmt.Errorf("%s heal: %w: %s", program, failed, strings.TrimSpace(stderr.String()))
	}
	return list, nil // what failed is in the list
}

func readRepairs(r io.Reader) ([]wire.HealEvent, error) {
	var list []wire.HealEvent
	for d := json.NewDecoder(r); ; {
		var one wire.HealEvent
		err := d.Decode(&one)
		switch {
		case errors.Is(err, io.EOF):
			return list, nil
		case err != nil:
			return list, err
		}
		list = append(list, one)
	}
}

// trusted wants a program that root alone can have put there, or whoever can
// exchange dnetd itself. The path comes from a record, which root's runtime had
// written; but what was there then may be gone, and another's file in its place.
func trusted(program string) error {
	if !filepath.IsAbs(program) {
		return fmt.Errorf("program %q: must be an absolute path", program)
	}
	info, err := os.Lstat(program)
	if err != nil {
		return fmt.Errorf("program: %w", err)
	}
	if !info.Mode().IsRegular() {
		return fmt.Errorf("program %s: must be a file", program)
	}
	if ofRoot(info) {
		return nil
	}
	self, err := os.Stat("/proc/self/exe")
	if err == nil && owner(self) == owner(info) && self.Mode() == info.Mode() {
		return nil
	}
	return fmt.Errorf("program %s: must be root's, and nobody else's to write to", program)
}

func ofRoot(info fs.FileInfo) bool {
	const others = 0o022
	return owner(info)[0] == 0 && info.Mode().Perm()&others == 0
}

// owner returns the user and the group that a file belongs to.
func owner(info fs.FileInfo) [2]uint32 {
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		const nobody = 65534
		return [2]uint32{nobody, nobody}
	}
	return [2]uint32{st.Uid, st.Gid}
}

// healOnce puts everything back as the records say and prints what was done. It
// returns the exit status. A dnetd that runs is not asked, and need not run.
func healOnce(ctx context.Context, store records.Store, stdout, stderr io.Writer) int {
	keys, err := store.Keys()
	errs := []error{err}
	for _, j := range plan(store, keys, nil) {
		list, err := runHeal(ctx, j.program, j.args)
		errs = append(errs, err)
		for _, r := range list {
			if r.Error != "" {
				errs = append(errs, errors.New(sentence(r)))
			} else {
				fmt.Fprintln(stdout, sentence(r))
			}
		}
	}
	if err := errors.Join(errs...); err != nil {
		for line := range strings.Lines(err.Error()) {
			fmt.Fprintf(stderr, "dnetd: %s\n", strings.TrimSpace(line))
		}
		return statusError
	}
	return 0
}

// sentence says what was done, for people.
func sentence(r wire.HealEvent) string {
	whose := r.Network
	if r.Container != "" {
		whose = r.Attachment.String()
	}
	s := whose + ": " + r.Did
	if r.Error != "" {
		s = whose + ": not " + r.Did
	}
	if r.Object != "" {
		s += ": " + r.Object
	}
	if r.Was != "" {
		s += " (" + strings.ReplaceAll(r.Was, "\n", "; ") + ")"
	}
	if r.Error != "" {
		s += ": " + strings.ReplaceAll(r.Error, "\n", "; ")
	}
	return s
}
