package reach

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// words are answers in the document.
var words = map[string]string{
	AsHost: "yes, as the host", AsItself: "yes, as itself", AsChosen: "yes, as that address", Either: "now and then", NotAsked: "–",
}

func wordFor(answer string) string { return cmp.Or(words[answer], answer) }

// A variant is one way to tell the variants of a cell apart, in words of the document.
type variant func(Cell) string

var (
	byFamily = variant(func(c Cell) string { return "IPv" + c.Family })
	byProto  = variant(func(c Cell) string { return strings.ToUpper(c.Proto) })
	bySwitch = variant(func(c Cell) string {
		return map[string]string{"nf1": "with", "nf0": "without"}[c.Netfilter] + " bridge netfilter"
	})
)

// splits are ways to tell them apart, the simplest first.
var splits = [][]variant{
	{}, {byFamily}, {byProto}, {bySwitch}, {byFamily, byProto}, {byFamily, bySwitch}, {byProto, bySwitch}, {byFamily, byProto, bySwitch},
}

// merge returns the answers to variants of a cell in few words: one if all are the same, or each
// with what it is for.
func merge(cells []Cell, answer func(Cell) string) string {
	cells = slices.DeleteFunc(slices.Clone(cells), func(c Cell) bool { return answer(c) == NotAsked })
	if len(cells) == 0 {
		return wordFor(NotAsked)
	}
	for _, split := range splits {
		if text, ok := mergeBy(split, cells, answer); ok {
			return text
		}
	}
	return ""
}

// mergeBy tries one split: ok is false if it does not tell the answers apart.
func mergeBy(split []variant, cells []Cell, answer func(Cell) string) (text string, ok bool) {
	of := map[string]string{}
	var keys []string
	count := map[string]int{}
	for _, c := range cells {
		var names []string
		for _, v := range split {
			names = append(names, v(c))
		}
		key, a := strings.Join(names, " "), answer(c)
		if before, found := of[key]; found && before != a {
			return "", false
		} else if !found {
			keys = append(keys, key)
			count[a]++
		}
		of[key] = a
	}
	if len(split) == 0 {
		return wordFor(of[""]), true
	}
	if len(keys) == 2 {
		return fmt.Sprintf("%s %s; %s %s", keys[0], wordFor(of[keys[0]]), keys[1], wordFor(of[keys[1]])), true
	}
	most := slices.MaxFunc(slices.Sorted(maps.Keys(count)), func(a, b string) int { return count[a] - count[b] })
	text = wordFor(most)
	for _, key := range keys {
		if of[key] != most {
			text += fmt.Sprintf("; %s %s", key, wordFor(of[key]))
		}
	}
	return text, true
}
