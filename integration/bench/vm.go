package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
)

// What is measured in the virtual machine, where a process starts forty times slower.
const (
	vmRounds  = "10"
	vmSeconds = "3000"
)

// inVM has one mode measured in the virtual machine, where there is one and this is not it,
// and adds the rows as ratios.
func (b *run) inVM(kind string) error {
	if _, err := os.Stat("bin/test/vm/boot"); err != nil || b.kind != "" {
		fmt.Fprintf(os.Stderr, "bench: %s is not measured: the kernel lacks it, and there is no virtual machine (scripts/vm/prepare)\n", kind)
		return nil //nolint:nilerr // it says so
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	cmd := exec.Command("scripts/vm/run", self, "-bin", b.bin, "-lan", "-kind", kind, "-n", vmRounds)
	cmd.Env, cmd.Stderr = append(os.Environ(), "TIMEOUT="+vmSeconds), os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return fmt.Errorf("bench in the virtual machine: %w", err)
	}
	rows := relativeRows(string(out))
	if len(rows) == 0 {
		return errors.New("bench in the virtual machine: printed no rows")
	}
	rows[0].what += " (emulated)"
	b.table.rows = append(b.table.rows, rows...)
	return nil
}

// relativeRows reads the rows of a printed table, each figure as a multiple of the floor's.
func relativeRows(text string) (rows []row) {
	for line := range strings.Lines(text) {
		cells := strings.Split(strings.TrimSpace(line), "|")
		if len(cells) != 7 {
			continue
		}
		for i := range cells {
			cells[i] = strings.TrimSpace(cells[i])
		}
		if cells[1] == "" || strings.HasPrefix(cells[1], "--") {
			continue
		}
		r := row{cells[1], cells[2], cells[3], cells[4], cells[5]}
		if floor := figure(r.floor); floor > 0 {
			r.reference, r.ours, r.floor = multiple(figure(r.reference)/floor), multiple(figure(r.ours)/floor), "1"
		} else if strings.HasSuffix(r.ours, " ms") {
			r.ours = "" // of an emulated machine, by itself
		}
		rows = append(rows, r)
	}
	return rows
}

// figure returns the number of a figure like "6.0 ms" or "276 /s", 0 where there is none.
func figure(s string) float64 {
	number, _, _ := strings.Cut(s, " ")
	n, _ := strconv.ParseFloat(number, 64)
	return n
}

func multiple(n float64) string {
	if n == 0 {
		return ""
	}
	return fmt.Sprintf("%.2f", n)
}
