package host

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
)

func TestBundle(t *testing.T) {
	dir := t.TempDir()
	for bundle, config := range map[string]string{
		"default/c1":               `{"ociVersion": "1.0.2", "hostname": "box"}`,
		"my-ns/a-b":                `{"hostname": ""}`,
		"default/0123456789abcdef": `{"hostname": "x", "annotations": {"nerdctl/name": "db", "nerdctl/hostname": "dbhost", "nerdctl/extraHosts": ""}}`,
		"default/broken":           `{`,
	} {
		path := filepath.Join(dir, bundle)
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
		"default-gone":             "{   []}",
		"0123456789abcdef":         "{   []}",
		"default-":                 "{   []}",
		"default-..":               "{   []}",
	} {
		if got := fmt.Sprint(bundleIn(dir, container)); got != want {
			t.Errorf("%s is %s, want %s", container, got, want)
		}
	}
}
