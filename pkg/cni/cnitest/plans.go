package cnitest

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"dcni/pkg/cni"
	"dcni/pkg/network"
)

// Plans compares what a plugin's command plan prints with testdata/NAME.plan,
// for each testdata/NAME.json. UPDATE=1 writes them.
func Plans(t *testing.T, plugin *network.Plugin) {
	files, err := filepath.Glob("testdata/*.json")
	if err != nil || len(files) == 0 {
		t.Fatalf("testdata: %d files, %v", len(files), err)
	}
	for _, file := range files {
		golden := strings.TrimSuffix(file, ".json") + ".plan"
		t.Run(filepath.Base(golden), func(t *testing.T) {
			conf, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			var got bytes.Buffer
			if err := cni.PrintPlan(plugin, conf, &got); err != nil {
				t.Fatal(err)
			}
			if os.Getenv("UPDATE") != "" {
				if err := os.WriteFile(golden, got.Bytes(), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if got.String() != string(want) {
				t.Errorf("plan is\n%s\nand was\n%s", got.String(), want)
			}
		})
	}
}
