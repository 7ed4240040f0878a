package dcni

import (
	"bytes"
	"encoding/json"
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"dcni/pkg/yaml"
)

// A pkg is what `go list` says about a package.
type pkg struct {
	ImportPath string
	Dir        string
	GoFiles    []string
	Imports    []string // direct
	Deps       []string // and theirs
}

// packages lists the module's packages, without their tests.
func packages(t *testing.T) []pkg {
	t.Helper()
	out, err := exec.Command("go", "list", "-json=ImportPath,Dir,GoFiles,Imports,Deps", "./...").Output()
	if err != nil {
		t.Fatal(err)
	}
	var list []pkg
	for dec := json.NewDecoder(bytes.NewReader(out)); ; {
		var p pkg
		switch err := dec.Decode(&p); {
		case errors.Is(err, io.EOF):
			return list
		case err != nil:
			t.Fatal(err)
		}
		list = append(list, p)
	}
}

// under reports whether an import path is one of the paths or below it.
func under(path string, roots ...string) bool {
	return slices.ContainsFunc(roots, func(root string) bool {
		return path == root || strings.HasPrefix(path, root+"/")
	})
}

// pure are the packages that decide from values. They see one another and the
// part of the standard library that touches nothing.
var pure = []string{
	"dcni/pkg/wire", "dcni/pkg/mode", "dcni/pkg/network", "dcni/pkg/firewall", "dcni/pkg/ipam", "dcni/pkg/names",
	"dcni/pkg/jsonenc", "dcni/pkg/container", "dcni/pkg/overlay", "dcni/pkg/doctor", "dcni/pkg/graph", "dcni/pkg/migrate", "dcni/pkg/service",
}

// stores are below a pure package and carry its interface out.
var stores = []string{
	"dcni/pkg/overlay/memory", "dcni/pkg/overlay/etcd", "dcni/pkg/overlay/remote", "dcni/pkg/overlay/storetest", "dcni/pkg/overlay/follow",
	"dcni/pkg/overlay/keys/exchange",
}

// effects are what a pure package may not import itself.
var effects = map[string]string{
	"os":      "the environment and files are arguments",
	"os/exec": "programs are started by pkg/host",
	"syscall": "the kernel is pkg/host's",
	"net":     "sockets and interfaces are pkg/host's; addresses are net/netip's",
	"log":     "oddities are returned",
	"time":    "the time is an argument",
}

func TestPurePackages(t *testing.T) {
	for _, p := range packages(t) {
		if !under(p.ImportPath, pure...) || under(p.ImportPath, stores...) {
			continue
		}
		for _, imp := range p.Imports {
			if why := effects[imp]; why != "" {
				t.Errorf("%s imports %s: %s", p.ImportPath, imp, why)
			}
		}
		for _, dep := range p.Deps {
			if under(dep, "dcni") && !under(dep, pure...) || thirdParty(dep) {
				t.Errorf("%s depends on %s: it decides from values, and may know pure packages only", p.ImportPath, dep)
			}
		}
	}
}

// thirdParty reports whether an import path is neither ours nor the standard
// library's, vendored parts of which show up in dependencies.
func thirdParty(path string) bool {
	first, _, _ := strings.Cut(path, "/")
	return strings.Contains(first, ".")
}

// forbidden says what may not be linked into what: below the first, nothing of
// the second.
var forbidden = []struct{ who, what, why string }{
	{"dcni/plugins", "net/http", "4 MB and 2 ms of start-up in each ADD; who serves HTTP is dnetd"},
	{"dcni/plugins", "google.golang.org/grpc", "the control plane is dnetd's, plugins ask dnetd"},
	{"dcni/plugins", "go.etcd.io/etcd", "the control plane is dnetd's, plugins ask dnetd"},
	{"dcni/plugins", "github.com/spf13/cobra", "a plugin has no command line"},
	{"dcni/plugins", "github.com/containernetworking/cni/libcni", "a plugin is no runtime, and its telemetry starts in each ADD"},
	{"dcni/plugins", "github.com/miekg/dns", "names are answered by dnetd; a plugin says which there are, with pkg/names"},
	{"dcni/plugins", "dcni/pkg/dns", "names are answered by dnetd; a plugin says which there are, with pkg/names"},
	{"dcni/plugins", "github.com/prometheus", "metrics are dnetd's; a plugin lives for some milliseconds"},
	{"dcni/plugins", "dcni/pkg/relay", "ports that netfilter can't publish are dnetd's; a plugin tells it of them"},
	{"dcni/plugins", "k8s.io", "only tests play the kubelet"},
	{"dcni/plugins", "testing", "a plugin is not a test"},
	{"dcni/plugins", "dcni/cmd", "plugins stand alone"},
	{"dcni/pkg", "github.com/spf13/cobra", "the command line is cmd/dnet's"},
	{"dcni/pkg", "github.com/containernetworking/cni/libcni", "who plays the runtime is cmd/dnet"},
	{"dcni/pkg", "github.com/prometheus", "who counts keeps plain numbers; dnetd shows them"},
	{"dcni/pkg", "dcni/plugins", "imports point one way: plugins to packages"},
	{"dcni/pkg", "dcni/cmd", "imports point one way: commands to packages"},
	{"dcni/pkg", "dcni/integration", "tests know the packages, not the other way round"},
	{"dcni/cmd", "dcni/plugins", "what both need is a package"},
	{"dcni/cmd", "k8s.io/cri-api", "only tests play the kubelet"},
	{"dcni/cmd/dnet", "go.etcd.io/etcd", "the cluster's store is dclusterd's; dnet asks that through its socket"},
	{"dcni/cmd/dnetd", "go.etcd.io/etcd", "the cluster's store is dclusterd's; dnetd asks that through its socket"},
	{"dcni/pkg/records", "dcni/pkg/host", "host writes records, not the other way round"},
	{"dcni/pkg/netns", "dcni/pkg", "the lowest room of the house"},
	{"dcni/pkg/host", "dcni/pkg/cni", "the kernel knows no protocol"},
	{"dcni/pkg/dns", "dcni/pkg/records", "a name server is given sockets and views; what is on disk is dnetd's to read"},
	{"dcni/pkg/dns", "dcni/pkg/host", "a name server is given sockets and views; namespaces are dnetd's to enter"},
	{"dcni/pkg/relay", "dcni/pkg/records", "a relay is told what to serve; what is on disk is dnetd's to read"},
	{"dcni/pkg/relay", "dcni/pkg/host", "a relay is told what to serve; the rules and their links are dnetd's to ask"},
}

// bring are packages that have a library linked which they don't use.
var bring = map[string]string{"dcni/pkg/overlay/etcd/member": "github.com/prometheus"} // etcd's server counts

func TestForbiddenDependencies(t *testing.T) {
	for _, p := range packages(t) {
		for _, rule := range forbidden {
			if !under(p.ImportPath, rule.who) {
				continue
			}
			for _, dep := range p.Deps {
				if under(dep, rule.what) && bring[p.ImportPath] != rule.what {
					t.Errorf("%s depends on %s: %s", p.ImportPath, dep, rule.why)
				}
			}
		}
	}
}

// TestVersionFirst wants each plugin to answer VERSION before the rest of it is initialized.
func TestVersionFirst(t *testing.T) {
	for _, p := range packages(t) {
		if under(p.ImportPath, "dcni/plugins") != slices.Contains(p.Imports, "dcni/pkg/cni/version/first") {
			t.Errorf("%s: plugins, and no others, import dcni/pkg/cni/version/first", p.ImportPath)
		}
	}
}

// TestDoors wants a depguard rule for each third-party package that is
// imported: a new dependency gets its one door before it gets used. The linter
// keeps other packages from using the door.
func TestDoors(t *testing.T) {
	var doors []string
	for _, m := range regexp.MustCompile(`(?m)^\s*- pkg: (\S+)$`).FindAllStringSubmatch(read(t, ".golangci.yml"), -1) {
		doors = append(doors, m[1])
	}
	for _, p := range packages(t) {
		for _, imp := range p.Imports {
			if thirdParty(imp) && !under(imp, doors...) {
				t.Errorf("%s imports %s, which has no door: add it to depguard in .golangci.yml", p.ImportPath, imp)
			}
		}
	}
}

// systemCalls are the packages that may import package syscall, and what for. It
// is what golang.org/x/sys/unix is, but for the standard library's own types.
var systemCalls = map[string]string{
	"dcni/pkg/host":    "is Linux",
	"dcni/pkg/relay":   "has thousands of sockets",
	"dcni/pkg/poll":    "waits for sockets",
	"dcni/pkg/dns":     "reads and writes many datagrams in one system call",
	"dcni/cmd":         "gets and sends signals, starts processes, tells errors of sockets apart",
	"dcni/integration": "makes hosts",
}

func TestSystemCalls(t *testing.T) {
	doors := slices.Sorted(maps.Keys(systemCalls))
	used := map[string]bool{}
	for _, p := range packages(t) {
		if !slices.Contains(p.Imports, "syscall") {
			continue
		}
		i := slices.IndexFunc(doors, func(door string) bool { return under(p.ImportPath, door) })
		if i < 0 {
			t.Errorf("%s imports syscall: it is for %v", p.ImportPath, doors)
			continue
		}
		used[doors[i]] = true
	}
	for _, door := range doors {
		if !used[door] {
			t.Errorf("%s may import syscall, since it %s, and does not", door, systemCalls[door])
		}
	}
}

func TestPackageComments(t *testing.T) {
	for _, p := range packages(t) {
		comments := 0
		for _, name := range p.GoFiles {
			file, err := parser.ParseFile(token.NewFileSet(), filepath.Join(p.Dir, name), nil, parser.PackageClauseOnly|parser.ParseComments)
			if err != nil {
				t.Fatal(err)
			}
			if file.Doc != nil {
				comments++
			}
		}
		if len(p.GoFiles) > 0 && comments != 1 {
			t.Errorf("%s has %d package comments, want 1", p.ImportPath, comments)
		}
	}
}

// TestNoLeftovers finds notes of work not done, and words that are no terms of the field. What
// is known to be missing belongs into the documents, where users see it.
func TestNoLeftovers(t *testing.T) {
	note := regexp.MustCompile(`\b(TO` + `DO|FIX` + `ME|XX` + `X)\b`)
	const user = "-u no" + "body" // of Unix
	dialect := regexp.MustCompile(`(?i)\b(no` + `body|some` + `body|who` + `ever|mean` + `while|err` + `and|sur` + `vey|k` + `in|br` + `ake|va` + `ult|par` + `cel|est` + `ate|give` + `away|a` + `side)\b`)
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && (d.Name() == ".git" || d.Name() == "bin") {
			return filepath.SkipDir
		}
		if !d.Type().IsRegular() || path == "go.sum" {
			return nil
		}
		for i, line := range strings.Split(read(t, path), "\n") {
			if note.MatchString(line) {
				t.Errorf("%s:%d: %s", path, i+1, strings.TrimSpace(line))
			}
			if strings.HasSuffix(path, ".go") && dialect.MatchString(line) && !strings.Contains(line, user) {
				t.Errorf("%s:%d: a word that is not the field's: %s", path, i+1, strings.TrimSpace(line))
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestMakefile(t *testing.T) {
	makefile := read(t, "Makefile")
	if lines := strings.Count(makefile, "\n"); lines > 40 {
		t.Errorf("Makefile has %d lines, want at most 40: what is longer is a script", lines)
	}
	for _, target := range []string{"build", "demo", "test", "integration", "bench", "lint", "install", "uninstall"} {
		if !hasTarget(makefile, target) {
			t.Errorf("Makefile lacks %s", target)
		}
	}
	if !strings.Contains(read(t, "CHANGELOG.md"), "## Unreleased") {
		t.Error("CHANGELOG.md lacks the section Unreleased")
	}
}

// TestSizes keeps what a reader has to take in small, and what a build made out of the repository.
func TestSizes(t *testing.T) {
	const mostBytes, mostFiles, readmeLines = 256 << 10, 20, 79
	larger := map[string]int{ // packages, and how many files they may have
		"cmd/dnet":      42, // one for each command
		"cmd/dnetd":     28, // a file for each task of the agent
		"cmd/dclusterd": 28, // likewise
		"pkg/cni":       25, // the verbs, for three kinds of plugin
	}
	files := map[string]int{}
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && (d.Name() == ".git" || d.Name() == "bin") {
			return filepath.SkipDir
		}
		if info, err := d.Info(); err == nil && !d.IsDir() && info.Size() > mostBytes {
			t.Errorf("%s has %d bytes, more than %d: is it a program?", path, info.Size(), mostBytes)
		}
		if strings.HasSuffix(path, ".go") && !strings.HasSuffix(path, "_test.go") {
			files[filepath.Dir(path)]++
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for pkg, n := range files {
		if most := max(mostFiles, larger[pkg]); n > most {
			t.Errorf("%s has %d files, more than %d: make packages of one subject each", pkg, n, most)
		}
	}
	if n := strings.Count(read(t, "README.md"), "\n"); n > readmeLines {
		t.Errorf("README.md has %d lines, more than %d", n, readmeLines)
	}
}

// TestReadmeCommands reads the commands that the documents tell users to type.
func TestReadmeCommands(t *testing.T) {
	documents, _ := filepath.Glob("docs/*.md")
	if _, err := os.Stat("README.md"); err == nil {
		documents = append(documents, "README.md")
	}
	makefile := read(t, "Makefile")
	for _, document := range documents {
		for _, m := range regexp.MustCompile("(?m)(?:^|`)\\s*make ([a-z]+)").FindAllStringSubmatch(read(t, document), -1) {
			if !hasTarget(makefile, m[1]) {
				t.Errorf("%s says make %s, which the Makefile lacks", document, m[1])
			}
		}
	}
}

// TestWorkflow: what the forge runs is YAML, its actions have fixed versions, and its commands are targets.
func TestWorkflow(t *testing.T) {
	text := read(t, ".github/workflows/ci.yml")
	if _, err := yaml.ToJSON([]byte(text)); err != nil {
		t.Fatal(err)
	}
	uses := regexp.MustCompile(`uses: (\S+)`).FindAllStringSubmatch(text, -1)
	for _, m := range uses {
		if !regexp.MustCompile(`^[a-z-]+/[a-z-]+@v\d+\.\d+\.\d+$`).MatchString(m[1]) {
			t.Errorf("%s has no fixed version", m[1])
		}
	}
	run := regexp.MustCompile(`run: "?make ([a-z]+)`).FindAllStringSubmatch(text, -1)
	for _, m := range run {
		if !hasTarget(read(t, "Makefile"), m[1]) {
			t.Errorf("the workflow says make %s, which the Makefile lacks", m[1])
		}
	}
	if len(uses) == 0 || len(run) == 0 {
		t.Error("the workflow does nothing")
	}
}

// TestRecording: the recording is asciicast v2, and of the session that `make demo` shows now.
func TestRecording(t *testing.T) {
	recording := read(t, "docs/demo.cast")
	var shown strings.Builder
	for i, line := range strings.Split(strings.TrimSpace(recording), "\n") {
		var header struct{ Version, Width, Height int }
		var event []any
		if i == 0 {
			if err := json.Unmarshal([]byte(line), &header); err != nil || header.Version != 2 || header.Width == 0 || header.Height == 0 {
				t.Errorf("line 1: %v: %s", err, line)
			}
			continue
		}
		if err := json.Unmarshal([]byte(line), &event); err != nil || len(event) != 3 || event[1] != "o" {
			t.Fatalf("line %d: %v: %s", i+1, err, line)
		}
		shown.WriteString(event[2].(string))
	}
	for _, comment := range regexp.MustCompile(`(?m)^# .+`).FindAllString(read(t, "integration/testdata/demo/demo.txtar"), -1) {
		if !strings.Contains(shown.String(), comment) {
			t.Errorf("docs/demo.cast lacks %q: make demo | scripts/cast > docs/demo.cast", comment)
		}
	}
}

func hasTarget(makefile, target string) bool {
	return strings.Contains(makefile, "\n"+target+":")
}

func read(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// TestInterfaces: an interface of the engine is about one thing.
func TestInterfaces(t *testing.T) {
	const most = 6
	files, err := filepath.Glob("pkg/cni/*.go")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	for _, path := range files {
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(file, func(n ast.Node) bool {
			if spec, is := n.(*ast.TypeSpec); is {
				if i, is := spec.Type.(*ast.InterfaceType); is && i.Methods.NumFields() > most {
					t.Errorf("%s: %s has %d methods, more than %d", path, spec.Name, i.Methods.NumFields(), most)
				}
			}
			return true
		})
	}
}
