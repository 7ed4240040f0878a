package catalog

import "testing"

func TestWithPriority(t *testing.T) {
	list, err := WithPriority([]byte(`{"name": "web", "plugins": [{"type": "dbridge", "gwPriority": 1}, {"type": "tuning"}]}`), -7)
	const want = `{"name":"web","plugins":[{"gwPriority":-7,"type":"dbridge"},{"type":"tuning"}]}`
	if err != nil || string(list) != want {
		t.Errorf("%s, %v, want %s", list, err, want)
	}
}
