package main

import (
	"os"
	"strings"
	"testing"
)

// TestTemplates tries Docker's functions, as rows and as headings.
func TestTemplates(t *testing.T) {
	type item struct {
		Name string
		List []string
		Map  map[string]int
		None any
	}
	l := listing{
		heads: headers{"Name": "NAME", "List": "LIST"},
		table: "{{.Name}}\t{{.List}}", raw: "name: {{.Name}}\n",
		rows: []any{item{"web front", []string{"a", "b"}, map[string]int{"x": 2, "y": 1}, nil}},
	}
	for format, want := range map[string]string{
		"":                                 "NAME        LIST\nweb front   [a b]\n",
		"table":                            "NAME        LIST\nweb front   [a b]\n",
		`table {{.List}}\t{{upper .Name}}`: "LIST      NAME\n[a b]     WEB FRONT\n",
		`table {{truncate .Name 3}}`:       "NAME\nweb\n",
		`table {{json .Name}`:              "template parsing error: ",
		"raw":                              "name: web front\n\n",
		"json":                             `{"Name":"web front","List":["a","b"],"Map":{"x":2,"y":1},"None":null}` + "\n",
		"{{.Name}}":                        "web front\n",
		`{{join .List ","}} {{join .Map ","}}{{join .None ","}}`: "a,b 1,2\n",
		`{{join .Name ","}}`:                       "template parsing error: ",
		`{{index (split .Name " ") 1}}`:            "front\n",
		`{{title .Name}} {{lower "ABC"}}`:          "Web Front abc\n",
		`{{pad .Name 2 1}}|{{pad "" 2 1}}|`:        "  web front ||\n",
		`{{truncate .Name 99}}\t{{json "<"}}\n`:    "web front\t\"<\"\n\n",
		`{{.Nosuch}}`:                              "template parsing error: there is no field .Nosuch, must be of .List, .Name",
		`{{.Name.First}}`:                          "template parsing error: ",
		`{{range .List}}{{.}}{{end}}{{len .List}}`: "ab2\n",
	} {
		var out strings.Builder
		if err := l.print(&out, format); err != nil {
			out.Reset()
			out.WriteString(err.Error())
		}
		if got := out.String(); got != want && (want == "" || !strings.HasSuffix(want, ": ") || !strings.HasPrefix(got, want)) {
			t.Errorf("%s prints %q, want %q", format, got, want)
		}
	}
}

// TestBold: words are bold on a terminal only, and not where its user wants no colours.
func TestBold(t *testing.T) {
	terminal, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		t.Skipf("no terminal: %v", err)
	}
	defer terminal.Close()
	file, err := os.CreateTemp(t.TempDir(), "")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	for _, c := range []struct {
		stdout *os.File
		env    []string
		want   string
	}{
		{terminal, nil, "\x1b[1mword\x1b[0m"}, {file, nil, "word"},
		{terminal, []string{"NO_COLOR=1"}, "word"}, {terminal, []string{"TERM=dumb"}, "word"}, {terminal, []string{"NO_COLOR="}, "\x1b[1mword\x1b[0m"},
	} {
		if got := (&app{stdout: c.stdout, env: c.env}).bold()("word"); got != c.want {
			t.Errorf("%s, %v: %q", c.stdout.Name(), c.env, got)
		}
	}
}
