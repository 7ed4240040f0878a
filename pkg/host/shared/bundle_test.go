package shared

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestBundle(t *testing.T) {
	id := strings.Repeat("0123456789abcdef", 4) // as nerdctl has them
	first, second := t.TempDir(), t.TempDir()
	for bundle, config := range map[string]string{
		"default/c1":               `{"ociVersion": "1.0.2", "hostname": "box"}`,
		"my-ns/a-b":                `{"hostname": ""}`,
		"default/0123456789abcdef": `{"hostname": "x", "annotations": {"nerdctl/name": "db", "nerdctl/hostname": "dbhost", "nerdctl/extraHosts": ""}}`,
		"default/broken":           `{`,
		"default/named":            `{"annotations": {"nerdctl/name": "db", "dcni-name": "sql", "dcni-hostname": "box", "dcni-aliases": "a, b,"}}`,
	} {
		path := filepath.Join(second, bundles, bundle)
		if err := os.MkdirAll(path, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(path, "config.json"), []byte(config), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for container, want := range map[string]string{
		"default-c1":               "{c1 c1 box []}",
		"my-ns-a-b":                "{a-b a-b  []}",
		"default-0123456789abcdef": "{0123456789abcdef db dbhost []}",
		"default-broken":           "{broken broken  []}",
		"default-named":            "{named sql box [a b]}",
		"default-gone":             "{   []}",
		"my-ns-" + id:              "{" + id + "   []}",
		"my-ns-x" + id[1:]:         "{   []}",
		id:                         "{   []}",
		"0123456789abcdef":         "{   []}",
		"default-":                 "{   []}",
		"default-..":               "{   []}",
	} {
		if got := fmt.Sprint(bundleIn([]string{first, second}, container)); got != want {
			t.Errorf("%s is %s, want %s", container, got, want)
		}
	}
}

func FuzzBundle(f *testing.F) {
	f.Add("0123", []byte(`{"hostname": "x", "annotations": {"nerdctl/name": "db", "dcni-aliases": "a, b,"}}`))
	f.Add("", []byte(`{`))
	f.Fuzz(func(t *testing.T, id string, config []byte) {
		if i := identityOf(id, config); i.Container != id {
			t.Errorf("container %q became %q", id, i.Container)
		}
	})
}
