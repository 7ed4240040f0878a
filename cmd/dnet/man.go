//go:build man

package main

import (
	"os"

	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"
)

func init() { more = append(more, newManCommand) }

// newManCommand writes manual pages, for scripts/install and for packages. It is in no dnet
// but one that is built with the tag man: what it is made with adds a millisecond to each
// start.
func newManCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "man DIRECTORY",
		Short:   "Write manual pages, one for each command",
		Example: "  dnet man /usr/local/share/man/man1",
		Args:    exactly(1),
		Hidden:  true,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := os.MkdirAll(args[0], 0o755); err != nil {
				return err
			}
			root := cmd.Root()
			root.DisableAutoGenTag = true                                             // the day of the build is in the heading
			header := &doc.GenManHeader{Section: "1", Source: "dcni", Manual: "dcni"} // its day is SOURCE_DATE_EPOCH's, or today
			return doc.GenManTree(root, header, args[0])
		},
	}
}
