package main

import (
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// TestManualFlags compares the flags of each command with its section of the
// manual: it names each flag there is, long or short, and no other.
func TestManualFlags(t *testing.T) {
	manual, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	sections := map[string]string{}
	for _, section := range strings.Split(string(manual), "\n## ") {
		title, text, _ := strings.Cut(section, "\n")
		sections[title] = text
	}
	root := (&app{}).command()
	known := map[string]bool{}
	for _, c := range root.Commands() {
		text, ok := sections[c.Name()]
		if !ok {
			text = paragraph(sections["run"], c.Name()) + sections["run"] // "flags as above"
		}
		for _, one := range below(c) {
			one.Flags().VisitAll(func(f *pflag.Flag) {
				known["--"+f.Name] = true
				if !f.Hidden && !mentioned(text, f) {
					t.Errorf("%s has --%s, and its manual does not", one.CommandPath(), f.Name)
				}
			})
		}
	}
	root.PersistentFlags().VisitAll(func(f *pflag.Flag) { known["--"+f.Name] = true })
	for _, flag := range regexp.MustCompile(`--[a-z][a-z0-9-]+`).FindAllString(string(manual), -1) {
		if !known[flag] {
			t.Errorf("the manual has %s, and no command does", flag)
		}
	}
	if len(root.Commands()) < 8 {
		t.Errorf("%d commands", len(root.Commands()))
	}
}

// below returns a command with the commands that it has.
func below(c *cobra.Command) []*cobra.Command {
	list := []*cobra.Command{c}
	for _, one := range c.Commands() {
		list = append(list, below(one)...)
	}
	return list
}

// paragraph returns what a section says of a command that has none of its own.
func paragraph(section, command string) string {
	_, text, _ := strings.Cut(section, "**"+command+"**")
	text, _, _ = strings.Cut(text, "**")
	return text
}

// mentioned reports whether a text names a flag.
func mentioned(text string, f *pflag.Flag) bool {
	for _, form := range []string{`--` + f.Name + `\b`, `(^|[^-\w])-` + f.Shorthand + `\b`} {
		if !strings.HasSuffix(form, `-\b`) && regexp.MustCompile(form).MatchString(text) {
			return true
		}
	}
	return f.Name == "help"
}
