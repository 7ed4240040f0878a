package filecache

import (
	"os"
	"path/filepath"
	"testing"
	"time"
)

// TestRemember wants a file to be read again while it may change unseen, and when it is another one, and not else.
func TestRemember(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	put := func(text string) {
		if err := os.WriteFile(path+".new", []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(path+".new", path); err != nil {
			t.Fatal(err)
		}
	}
	calls, c := 0, &Cache{}
	get := func(c *Cache) string {
		w := c.Walk("files")
		defer w.End()
		text, _ := Remember(w, path, func() (string, error) {
			calls++
			text, err := os.ReadFile(path)
			return string(text), err
		})
		return text
	}
	for _, text := range []string{"one", "two"} {
		put(text)
		began, before := time.Now(), -1
		for limit := began.Add(10 * time.Second); time.Now().Before(limit) && before != calls; {
			before = calls
			if got := get(c); got != text {
				t.Fatalf("%q, want %q", got, text)
			}
		}
		if age := time.Since(began); before != calls || age < SettleTime/2 {
			t.Errorf("%s: read %d times, and no more after %v", text, calls, age)
		}
	}
	before := calls
	if get(nil); calls != before+1 {
		t.Error("no cache remembers")
	}
	c.Walk("files").End()
	if get(c); calls != before+2 {
		t.Error("what a walk did not come to is remembered")
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if got := get(c); got != "" || len(c.walks) > 0 {
		t.Errorf("of what is gone: %q, %v", got, c.walks)
	}
}
