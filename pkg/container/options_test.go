package container

import (
	"fmt"
	"strings"
	"testing"
)

func TestEnvironmentFiles(t *testing.T) {
	for text, want := range map[string]string{
		"A=1\n# x\n\n  B=two words \r\nC\n": "[A=1 B=two words  C Z=9]",
		"\ufeffA=1":                         "[A=1 Z=9]",
		"=x":                                "poorly formatted environment: no variable name on line '=x'",
		"A B=1":                             "poorly formatted environment: variable 'A B' contains whitespaces",
		"A=b\nB=\x00x":                      "poorly formatted environment: variable 'B' has a NUL byte",
		"A=\xff":                            "poorly formatted environment: the file must be UTF-8",
	} {
		s, err := (&Options{EnvFiles: []string{text}, Env: []string{"Z=9"}}).Parse()
		got := ""
		if err != nil {
			got = err.Error()
		} else {
			got = fmt.Sprint(s.Env)
		}
		if got != want {
			t.Errorf("%q: %s, want %s", text, got, want)
		}
	}
}

func TestLabels(t *testing.T) {
	s, err := (&Options{LabelFiles: []string{"a=file\nb=file"}, Labels: []string{"a=flag", "c"}}).Parse()
	if err != nil || fmt.Sprint(s.Labels) != "map[a:flag b:file c:]" {
		t.Errorf("%v, %v", s.Labels, err)
	}
	if _, err := (&Options{Labels: []string{"=x"}}).Parse(); err == nil || err.Error() != "invalid label '=x': empty name" {
		t.Error(err)
	}
}

func TestParseUser(t *testing.T) {
	const passwd = "root:x:0:0:root:/root:/bin/sh\nweb:x:33:34:www:/var/www:/bin/sh\nbad:x:x:0::/:\nbadgroup:x:5:y::/:\n"
	const group = "root:x:0:\nweb:x:34:\nadm:x:4:web,root\nlog:x:6:other,web\nbad:x:z:web\n"
	for text, want := range map[string]string{
		"web":          "{33 34 [4 6] /var/www}",
		"33":           "{33 34 [4 6] /var/www}",
		"web:adm":      "{33 4 [] /var/www}",
		"1234":         "{1234 0 [] }",
		"1234:77":      "{1234 77 [] }",
		":adm":         "{0 4 [] }",
		"nosuch":       "unable to find user nosuch: no matching entries in passwd file",
		"bad":          "unable to find user bad: no matching entries in passwd file",
		"badgroup":     "user badgroup: the group in the passwd file is no number",
		"web:none":     "unable to find group none: no matching entries in group file",
		"-1":           "user -1: uids and gids must be in range 0-2147483647",
		"0:9999999999": "group 9999999999: uids and gids must be in range 0-2147483647",
	} {
		u, err := ParseUser(text, passwd, group)
		got := fmt.Sprint(u)
		if err != nil {
			got = err.Error()
		}
		if got != want {
			t.Errorf("-u %s: %s, want %s", text, got, want)
		}
	}
}

func TestPublishAll(t *testing.T) {
	o := Options{Expose: []string{"80", "53/udp", "90-91"}, Publish: []string{"8090:90"}, PublishAll: true}
	s, err := o.Parse()
	if err != nil {
		t.Fatal(err)
	}
	var words []string
	for _, p := range s.Ports {
		words = append(words, p.String())
	}
	if got := strings.Join(words, " "); got != "0.0.0.0:8090->90/tcp 0.0.0.0:0->80/tcp 0.0.0.0:0->53/udp 0.0.0.0:0->91/tcp" {
		t.Error(got)
	}
	if got := fmt.Sprint(s.AllExposed()); got != "[53/udp 80/tcp 90/tcp 91/tcp]" {
		t.Error(got)
	}
	o.PublishAll = false
	if s, _ = o.Parse(); len(s.Ports) != 1 {
		t.Errorf("published without -P: %v", s.Ports)
	}
	if _, err := (&Options{Restart: "always"}).Parse(); err == nil || !strings.HasPrefix(err.Error(), "--restart always: must be no") {
		t.Error(err)
	}
}
