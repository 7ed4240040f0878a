// Package yaml reads YAML as JSON. It is the door of the library that does so.
package yaml

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"go.yaml.in/yaml/v3"
)

// maxValues is how many values a document may have once its aliases are resolved: a short file
// can be made to stand for a very long one.
const maxValues = 100_000

// ToJSON returns a document of YAML 1.2 as JSON. Numbers become strings as they are written,
// so that a label 1.10 stays what it is; null, true and false stay what they are. Keys must be
// scalars, and a second document is an error. The error names the line.
func ToJSON(data []byte) ([]byte, error) {
	var document, more yaml.Node
	stream := yaml.NewDecoder(bytes.NewReader(data))
	if err := stream.Decode(&document); err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	if err := stream.Decode(&more); err == nil {
		return nil, fmt.Errorf("line %d: a second document begins: must be one", more.Line)
	} else if !errors.Is(err, io.EOF) {
		return nil, err
	}
	if len(document.Content) == 0 {
		return []byte("null"), nil
	}
	v, err := (&converter{left: maxValues}).value(document.Content[0])
	if err != nil {
		return nil, err
	}
	return json.Marshal(v)
}

// A converter makes values of nodes.
type converter struct{ left int }

func (c *converter) value(n *yaml.Node) (any, error) {
	if c.left--; c.left < 0 {
		return nil, fmt.Errorf("line %d: has more than %d values", n.Line, maxValues)
	}
	switch n.Kind {
	case yaml.AliasNode:
		return c.value(n.Alias)
	case yaml.MappingNode:
		return c.mapping(n)
	case yaml.SequenceNode:
		list := []any{}
		for _, one := range n.Content {
			v, err := c.value(one)
			if err != nil {
				return nil, err
			}
			list = append(list, v)
		}
		return list, nil
	}
	switch n.Tag {
	case "!!null":
		return nil, nil //nolint:nilnil // null is a value
	case "!!bool":
		var b bool
		err := n.Decode(&b)
		return b, err
	}
	return n.Value, nil
}

// mapping reads keys and values. What << brings in counts less than what is written.
func (c *converter) mapping(n *yaml.Node) (any, error) {
	out, merged := map[string]any{}, map[string]any{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key := n.Content[i]
		v, err := c.value(n.Content[i+1])
		if err != nil {
			return nil, err
		}
		if key.Tag == "!!merge" {
			if err := merge(merged, v); err != nil {
				return nil, fmt.Errorf("line %d: %w", key.Line, err)
			}
			continue
		}
		if key.Kind != yaml.ScalarNode {
			return nil, fmt.Errorf("line %d: a key must be a scalar", key.Line)
		}
		if _, is := out[key.Value]; is {
			return nil, fmt.Errorf("line %d: key %q is there twice", key.Line, key.Value)
		}
		out[key.Value] = v
	}
	for k, v := range merged {
		if _, is := out[k]; !is {
			out[k] = v
		}
	}
	return out, nil
}

// merge adds a mapping, or a list of them of which the first counts most.
func merge(to map[string]any, v any) error {
	list, isList := v.([]any)
	if !isList {
		list = []any{v}
	}
	for _, one := range list {
		m, is := one.(map[string]any)
		if !is {
			return fmt.Errorf("<< must be a mapping, or a list of mappings")
		}
		for k, v := range m {
			if _, have := to[k]; !have {
				to[k] = v
			}
		}
	}
	return nil
}
