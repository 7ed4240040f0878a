package parity

import (
	"regexp"
	"strings"
)

// A replacement is a pattern and what stands for it in a scenario.
type replacement struct {
	pattern *regexp.Regexp
	with    string
}

// speakers are the names of the programs that say something: "Error response from daemon: X"
// is "dnet: X". The client of an older Docker ends some sentences with a dot, and tells of its own end.
var speakers = []replacement{
	{regexp.MustCompile(`(?m)^(?:docker|dnet): (?:Error response from daemon: )?(.*?)\.?$`), "$1"},
	{regexp.MustCompile(`(?m)^(Error response from daemon: |Error: )`), ""},
	{regexp.MustCompile(`(?m)^time="\S+" level=error msg="error waiting for container: .*\n`), ""},
	{regexp.MustCompile(`(?m)^See 'docker .*--help'\.\n`), ""},
	{regexp.MustCompile(`\bdocker( network)? ([a-z]+)`), "dnet $2"},
}

// varying is what differs from run to run, unless the command names it: IDs, MACs, times, ports
// that were chosen.
var varying = []replacement{
	{regexp.MustCompile(`\b[0-9a-f]{64}\b`), "ID"},
	{regexp.MustCompile(`\b[0-9a-f]{12}\b`), "ID"},
	{regexp.MustCompile(`\b[0-9a-f]{2}(:[0-9a-f]{2}){5}\b`), "MAC"},
	{regexp.MustCompile(`\b\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d[0-9.]*( ?[Z+-][0-9:]*( [A-Z]+)?)?`), "TIME"},
	{regexp.MustCompile(`\b(About an? \w+|Less than a second|\d+ seconds?|\d+ minutes?)( ago)?\b`), "TIME"},
	{regexp.MustCompile(`\b(3276[89]|327[7-9]\d|32[89]\d\d|3[3-9]\d{3}|[4-6]\d{4})\b`), "PORT"},
}

// spaces are between columns, which are as wide as what is in them.
var spaces = []replacement{
	{regexp.MustCompile(`[ \t]+`), " "},
	{regexp.MustCompile(`(?m) +$`), ""},
}

// Normalize returns what a command said, as a scenario has it: without the name of the program
// that says it, and without what differs from run to run. status is the exit status, which
// is the last line unless it is 0.
func Normalize(command, output, status string) string {
	for _, r := range speakers {
		output = r.pattern.ReplaceAllString(output, r.with)
	}
	for _, r := range varying {
		output = r.pattern.ReplaceAllStringFunc(output, func(found string) string {
			if strings.Contains(command, found) {
				return found
			}
			return r.with
		})
	}
	for _, r := range spaces {
		output = r.pattern.ReplaceAllString(output, r.with)
	}
	if output != "" && !strings.HasSuffix(output, "\n") {
		output += "\n"
	}
	if status != "0" {
		output += "exit " + status + "\n"
	}
	return output
}
