package container

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"
)

// environment reads the files of --env-file, then -e, which counts more.
func (o *Options) environment(s *Spec) error {
	for _, text := range o.EnvFiles {
		list, err := parseLines(text, "variable")
		if err != nil {
			return fmt.Errorf("poorly formatted environment: %w", err)
		}
		s.Env = append(s.Env, list...)
	}
	s.Env = append(s.Env, o.Env...)
	return CheckEnv(s.Env)
}

// labels reads the files of --label-file, then --label, which counts more.
func (o *Options) labels(s *Spec) error {
	var words []string
	for _, text := range o.LabelFiles {
		list, err := parseLines(text, "label")
		if err != nil {
			return fmt.Errorf("poorly formatted label file: %w", err)
		}
		words = append(words, list...)
	}
	for _, word := range slices.Concat(words, o.Labels) {
		key, value, _ := strings.Cut(word, "=")
		if key == "" {
			return fmt.Errorf("invalid label '%s': empty name", word)
		}
		if s.Labels == nil {
			s.Labels = map[string]string{}
		}
		s.Labels[key] = value
	}
	return nil
}

// parseLines reads a file of NAME=VALUE lines, with empty ones and comments between. A NAME
// alone stays one. The errors are Docker's; what is what a name is called.
func parseLines(text, what string) ([]string, error) {
	text = strings.TrimPrefix(text, "\ufeff")
	if !utf8.ValidString(text) {
		return nil, errors.New("the file must be UTF-8")
	}
	var list []string
	for line := range strings.SplitSeq(text, "\n") {
		line = strings.TrimLeft(strings.TrimSuffix(line, "\r"), " \t")
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		name, _, _ := strings.Cut(line, "=")
		switch {
		case name == "":
			return nil, fmt.Errorf("no %s name on line '%s'", what, line)
		case strings.ContainsRune(line, 0):
			return nil, fmt.Errorf("%s '%s' has a NUL byte", what, strings.ReplaceAll(name, "\x00", `\0`))
		case strings.ContainsAny(name, " \t"):
			return nil, fmt.Errorf("%s '%s' contains whitespaces", what, name)
		}
		list = append(list, line)
	}
	return list, nil
}
