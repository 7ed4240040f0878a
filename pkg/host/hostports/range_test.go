package hostports

import (
	"fmt"
	"testing"
)

func TestPortsBetween(t *testing.T) {
	if got := fmt.Sprint(portsBetween(10, 20, "12,14-16\n")); got != "[10 11 13 17 18 19 20]" {
		t.Error(got)
	}
	if got := len(portsBetween(1024, 65535, "\n")); got != 64512 {
		t.Error(got)
	}
}
