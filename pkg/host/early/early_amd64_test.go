package early

import (
	"runtime"
	"strings"
	"testing"
	"unsafe"
)

// began makes the stack of a process as the kernel does, and returns what keeps
// it.
func began(argc int, environment ...string) []unsafe.Pointer {
	words := []unsafe.Pointer{nil, nil, nil} // the count, an argument, nil
	*(*int)(unsafe.Pointer(&words[0])) = argc
	for _, variable := range environment {
		text := append([]byte(variable), make([]byte, 16)...)
		words = append(words, unsafe.Pointer(&text[0]))
	}
	return append(words, nil)
}

func TestCompose(t *testing.T) {
	defer func() { stack, mark, message.begin, message.end = nil, 0, 0, 0 }()
	for name, c := range map[string]struct {
		argc        int
		marked      bool
		environment string
		wanted      bool
	}{
		"ADD":               {1, true, "HOME=/ CNI_COMMAND=ADD CNI_IFNAME=eth0", true},
		"DEL":               {1, true, "CNI_COMMAND=DEL", true},
		"CHECK":             {1, true, "CNI_COMMAND=CHECK", true},
		"GC":                {1, true, "CNI_COMMAND=GC", false},
		"STATUS":            {1, true, "CNI_COMMAND=STATUS", false},
		"longer than ADD":   {1, true, "CNI_COMMAND=ADDS", false},
		"shorter than DEL":  {1, true, "CNI_COMMAND=DE", false},
		"longer than CHECK": {1, true, "CNI_COMMAND=CHECKS", false},
		"CHECK cut":         {1, true, "CNI_COMMAND=CHEC", false},
		"small letters":     {1, true, "CNI_COMMAND=add", false},
		"none":              {1, true, "CNI_ CNI_COMMANDS=ADD XCNI_COMMAND=ADD", false},
		"no environment":    {1, true, "", false},
		"an argument":       {2, true, "CNI_COMMAND=ADD", false},
		"no mark":           {1, false, "CNI_COMMAND=ADD", false},
	} {
		words := began(c.argc, strings.Fields(c.environment)...)
		stack, mark, message.begin, message.end = unsafe.Pointer(&words[0]), 0, 0, 0
		if c.marked {
			mark = *(*uint64)(unsafe.Pointer(unsafe.StringData(Mark("v1"))))
		}
		if got := compose(); got != c.wanted {
			t.Errorf("%s: %t", name, got)
		}
		runtime.KeepAlive(words)
		if !c.marked || c.argc > 1 {
			continue
		}
		want := Greeting + "\x00" + Mark("v1") + "\x00"
		for _, variable := range strings.Fields(c.environment) {
			if strings.HasPrefix(variable, "CNI_") {
				want += variable + "\x00"
			}
		}
		if got := string(message.data[:message.end]); got != want+"\x00" || message.begin != message.end {
			t.Errorf("%s: %q, want %q", name, got, want+"\x00")
		}
	}
}

func TestAddress(t *testing.T) {
	writeAddress()
	path := unsafe.Slice((*byte)(unsafe.Pointer(&address.Path)), len(address.Path))
	if got, _, _ := strings.Cut(string(path), "\x00"); got != Socket {
		t.Errorf("%q, want %q", got, Socket)
	}
}
