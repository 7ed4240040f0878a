// Command line prints a line: what a Go program takes at least, to compare others with.
package main

import "os"

func main() {
	if _, err := os.Stdout.WriteString("hello\n"); err != nil {
		os.Exit(1)
	}
}
