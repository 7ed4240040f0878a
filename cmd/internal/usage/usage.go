// Package usage prints the flags of the daemons.
package usage

import (
	"flag"
	"fmt"
	"io"
)

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
