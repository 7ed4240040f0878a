package main

import (
	"encoding/json"
	"go/ast"
	"go/parser"
	"go/token"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"dcni/pkg/dns"
)

const monitoring = "../../monitoring/"

// expressions are those of the dashboard, as Grafana sends them for all nodes.
func expressions(t *testing.T) []string {
	t.Helper()
	data, err := os.ReadFile(monitoring + "dashboard.json")
	if err != nil {
		t.Fatal(err)
	}
	var board struct {
		Panels []struct {
			Targets []struct{ Expr string }
		}
	}
	if err := json.Unmarshal(data, &board); err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, p := range board.Panels {
		for _, target := range p.Targets {
			all = append(all, strings.NewReplacer("$__rate_interval", "5m", "$instance", ".*").Replace(target.Expr))
		}
	}
	return all
}

// TestMonitoring: all that dashboard and alerts ask for is on the page of metrics, with the values
// of labels that they say, and the dashboard has each metric of dnetd.
func TestMonitoring(t *testing.T) {
	server := httptest.NewServer(httpHandler(func() reading {
		return reading{Heals: new(healCounts).byKind(), DNS: dns.Stats{LatencySum: 1}}
	}, noComplaint))
	defer server.Close()
	status, page := get(t, server.URL+"/metrics")
	if status != http.StatusOK {
		t.Fatal(status)
	}
	alerts, err := os.ReadFile(monitoring + "alerts.yml")
	if err != nil {
		t.Fatal(err)
	}
	board := strings.Join(expressions(t), "\n")
	name := regexp.MustCompile(`\b(?:dcni|go|process)_[a-z_]+`)
	asked := name.FindAllString(board+string(alerts), -1)
	if len(asked) < 30 {
		t.Errorf("only %d metrics are asked for: %v", len(asked), asked)
	}
	for _, metric := range asked {
		if !regexp.MustCompile(`(?m)^` + metric + `[ {]`).MatchString(page) {
			t.Errorf("dnetd has no %s", metric)
		}
	}
	for _, m := range regexp.MustCompile(`\b(answer|kind)=~?"([^"]+)"`).FindAllStringSubmatch(board+string(alerts), -1) {
		for value := range strings.SplitSeq(m[2], "|") {
			if !strings.Contains(page, m[1]+`="`+value+`"`) {
				t.Errorf("no metric of dnetd has %s %q", m[1], value)
			}
		}
	}
	for _, m := range regexp.MustCompile(`(?m)^# TYPE (dcni_\S+)`).FindAllStringSubmatch(page, -1) {
		if !strings.Contains(board, m[1]) {
			t.Errorf("the dashboard has no %s", m[1])
		}
	}
}

// TestRules has Prometheus's promtool check the alerts, run their unit tests, and parse the dashboard's expressions.
func TestRules(t *testing.T) {
	promtool, err := exec.LookPath("promtool")
	if err != nil {
		t.Skip("promtool is not installed (Debian's package prometheus): alerts are not tried, and the dashboard's expressions not parsed")
	}
	type rule struct {
		Record string `json:"record"`
		Expr   string `json:"expr"`
	}
	var rules []rule
	for i, expr := range expressions(t) {
		rules = append(rules, rule{"panel_" + strconv.Itoa(i), expr})
	}
	text, err := json.Marshal(map[string]any{"groups": []any{map[string]any{"name": "dashboard", "rules": rules}}})
	if err != nil {
		t.Fatal(err)
	}
	board := filepath.Join(t.TempDir(), "dashboard.yml")
	if err := os.WriteFile(board, text, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"check", "rules", "alerts.yml", board}, {"test", "rules", "alerts_test.yml"}} {
		cmd := exec.Command(promtool, args...)
		cmd.Dir = monitoring
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%v: %v: %s", args, err, out)
		}
	}
}

// events are what dnetd and the packages with its logger log, as the beginnings of rows of a table: level, event,
// keys. Each has its place in the code.
func events(t *testing.T) map[string]token.Position {
	t.Helper()
	found := map[string]token.Position{}
	var files []string
	for _, dir := range []string{".", "../../pkg/relay", "../../pkg/overlay/follow", "../../pkg/overlay/keys/exchange"} {
		of, err := filepath.Glob(dir + "/*.go")
		if err != nil || len(of) == 0 {
			t.Fatal(dir, err)
		}
		files = append(files, of...)
	}
	fset := token.NewFileSet()
	for _, path := range files {
		if strings.HasSuffix(path, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(fset, path, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(file, func(n ast.Node) bool {
			call, is := n.(*ast.CallExpr)
			if !is {
				return true
			}
			level, event, keys := logged(call)
			if event != "" {
				found["| "+level+" | "+event+" | "+strings.Join(keys, ", ")+" |"] = fset.Position(call.Pos())
			}
			return true
		})
	}
	return found
}

// isLogger reports whether an expression is called a log.
func isLogger(e ast.Expr) bool {
	switch e := e.(type) {
	case *ast.Ident:
		return e.Name == "log"
	case *ast.SelectorExpr:
		return strings.EqualFold(e.Sel.Name, "log")
	}
	return false
}

// logged takes a call of a logger apart.
func logged(call *ast.CallExpr) (level, event string, keys []string) {
	method, is := call.Fun.(*ast.SelectorExpr)
	if !is || !isLogger(method.X) || !strings.Contains(" Debug Info Warn Error ", " "+method.Sel.Name+" ") || len(call.Args) == 0 {
		return "", "", nil
	}
	text := func(e ast.Expr) string {
		if lit, is := e.(*ast.BasicLit); is && lit.Kind == token.STRING {
			s, _ := strconv.Unquote(lit.Value)
			return s
		}
		return ""
	}
	for i := 1; i < len(call.Args); i += 2 {
		keys = append(keys, "`"+text(call.Args[i])+"`")
	}
	return strings.ToLower(method.Sel.Name), text(call.Args[0]), keys
}

// TestLogDocument: docs/logs.md has a row for each event of the code, with its level and keys, and no other.
func TestLogDocument(t *testing.T) {
	document, err := os.ReadFile("../../docs/logs.md")
	if err != nil {
		t.Fatal(err)
	}
	known := map[string]bool{}
	for line := range strings.Lines(string(document)) {
		row := regexp.MustCompile(`^\| (?:debug|info|warn|error) \| [^|]+ \| [^|]*\|`).FindString(line)
		if row == "" {
			continue
		}
		known[strings.ReplaceAll(row, "|  |", "| |")] = true
	}
	all := events(t)
	if len(all) < 50 {
		t.Errorf("only %d events are found in the code", len(all))
	}
	for row, at := range all {
		row = strings.ReplaceAll(row, "|  |", "| |")
		if !known[row] {
			t.Errorf("%v: docs/logs.md lacks %s", at, row)
		}
		delete(known, row)
	}
	for row := range known {
		t.Errorf("docs/logs.md: dnetd does not log %s", row)
	}
}
