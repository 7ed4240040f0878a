// Package usage is the command line of the daemons: flags, and what answers to some of them.
package usage

import (
	"errors"
	"flag"
	"fmt"
	"io"

	"dcni/pkg/cni"
)

// Exit statuses.
const (
	StatusError = 1
	StatusUsage = 2
)

// Flags returns a program's set of flags, to which the program adds its own. version is set
// where the command line asks for that.
func Flags(program string) (f *flag.FlagSet, version *bool) {
	f = flag.NewFlagSet(program, flag.ContinueOnError)
	f.SetOutput(io.Discard) // errors are returned
	f.Usage = func() {}
	return f, f.Bool("version", false, "print the version, and end")
}

// Parse reads the command line. Where that asks for help, the flags are printed, and the
// error is [flag.ErrHelp].
func Parse(f *flag.FlagSet, args []string, stdout io.Writer) error {
	err := f.Parse(args)
	if errors.Is(err, flag.ErrHelp) {
		Print(f.Name(), f, stdout)
	}
	if err == nil && f.NArg() > 0 {
		err = fmt.Errorf("unknown argument %q: %s takes flags only", f.Arg(0), f.Name())
	}
	return err
}

// Answer answers a command line that asks for no work, or that is wrong: err is what was
// found wrong of it. It returns the exit status then, and whether that is all.
func Answer(program string, err error, version bool, stdout, stderr io.Writer) (status int, all bool) {
	switch {
	case errors.Is(err, flag.ErrHelp):
		return 0, true
	case err != nil:
		fmt.Fprintf(stderr, "%s: %v\n", program, err)
		return StatusUsage, true
	case version:
		fmt.Fprintf(stdout, "%s %s\n", program, cni.Version)
		return 0, true
	}
	return 0, false
}

// Print prints a program's flags as they are documented, with two dashes, but for
// on-demand: only programs of ours give that one.
func Print(program string, f *flag.FlagSet, w io.Writer) {
	fmt.Fprintf(w, "Usage: %s [FLAGS]\n\n", program)
	f.VisitAll(func(f *flag.Flag) {
		if f.Name == "on-demand" {
			return
		}
		word, text := flag.UnquoteUsage(f)
		if word != "" {
			word = " " + word
		}
		if f.DefValue != "" && f.DefValue != "false" {
			text += fmt.Sprintf(" (default %s)", f.DefValue)
		}
		fmt.Fprintf(w, "  --%-20s %s\n", f.Name+word, text)
	})
}
