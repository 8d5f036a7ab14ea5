package manifest

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"unicode/utf16"

	"github.com/clusterip/clusterip/cluster"
	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"
)

func TestSplitDocuments(t *testing.T) {
	type doc struct {
		Text         string
		Offset, Line int
	}
	for _, test := range []struct {
		name, text string
		want       []doc
	}{
		{"empty", "", nil},
		{"comments only", "# a\n\n---\n# b\n...\n", nil},
		{"one", "a: 1\n", []doc{{"a: 1\n", 1, 1}}},
		{"no newline at the end", "a: 1\n---\nb: 2", []doc{{"a: 1\n", 1, 1}, {"---\nb: 2", 2, 3}}},
		{"leading marker and comment", "---\n# a\n\na: 1\n", []doc{{"---\n# a\n\na: 1\n", 1, 4}}},
		{"content on the marker", "--- {a: 1}\n--- # b\nb: 2\n", []doc{{"--- {a: 1}\n", 1, 1}, {"--- # b\nb: 2\n", 2, 3}}},
		{"end marker", "a: 1\n...\n# c\nb: 2\n", []doc{{"a: 1\n", 1, 1}, {"# c\nb: 2\n", 3, 4}}},
		{"no marker", "a: |\n  ---\n----\n...b\n", []doc{{"a: |\n  ---\n----\n...b\n", 1, 1}}},
		{"carriage returns", "a: 1\r\n---\r\nb: 2\r\n", []doc{{"a: 1\r\n", 1, 1}, {"---\r\nb: 2\r\n", 2, 3}}},
		{"byte order mark", "\ufeff# c\na: 1\n", []doc{{"# c\na: 1\n", 1, 2}}},
		{"byte order marks of files put together", "\ufeff---\na: 1\n\ufeff---\nb: 2\n---\n\ufeffc: 3\n--- \ufeff# d\nd: \ufeff4\n", []doc{
			{"---\na: 1\n", 1, 2}, {"---\nb: 2\n", 3, 4}, {"---\nc: 3\n", 5, 6}, {"--- # d\nd: \ufeff4\n", 7, 8},
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			var got []doc
			for _, d := range splitDocuments([]byte(test.text)) {
				got = append(got, doc{string(d.data), d.offset, d.line})
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// Of a text whose line breaks or encoding hide the second object, none is taken.
func TestHiddenDocuments(t *testing.T) {
	text := "apiVersion: v1\nkind: Namespace\nmetadata: {name: a}\n---\napiVersion: v1\nkind: Namespace\nmetadata: {name: b}\n"
	var little, big []byte
	for _, unit := range utf16.Encode([]rune("\ufeff" + text)) {
		little = binary.LittleEndian.AppendUint16(little, unit)
		big = binary.BigEndian.AppendUint16(big, unit)
	}
	p := &parser{families: []cluster.Family{cluster.IPv4}}
	for name, test := range map[string]struct{ text, want string }{
		"UTF-16 little-endian": {string(little), "save the file in UTF-8"},
		"UTF-16 big-endian":    {string(big), "save the file in UTF-8"},
		"carriage returns":     {strings.ReplaceAll(text, "\n", "\r"), "end lines with a line feed"},
		"next line":            {strings.ReplaceAll(text, "\n", "\u0085"), "end lines with a line feed"},
		"line separator":       {strings.ReplaceAll(text, "\n", "\u2028"), "end lines with a line feed"},
		"one of them":          {strings.Replace(text, "\n---\n", "\r---\r", 1), "end lines with a line feed"},
	} {
		t.Run(name, func(t *testing.T) {
			c := p.parse("a.yaml", []byte(test.text))
			if len(c.objects) > 0 || len(c.unread) == 0 || !strings.Contains(fmt.Sprint(c.problems), test.want) {
				t.Errorf("%d objects, problems %v, want %q", len(c.objects), c.problems, test.want)
			}
		})
	}
	if c := p.parse("a.yaml", []byte(strings.ReplaceAll(text, "\n", "\r\n"))); len(c.objects) != 2 || len(c.problems) > 0 {
		t.Errorf("lines that end in CR LF: %d objects, problems %v", len(c.objects), c.problems)
	}
}

// Whatever a file holds, the parser returns, with objects that have names and
// problems that have places; and it returns the same again.
func FuzzParse(f *testing.F) {
	paths, _ := filepath.Glob("testdata/*.txtar")
	for _, path := range paths {
		archive, err := txtar.ParseFile(path)
		if err != nil {
			f.Fatal(err)
		}
		for _, file := range archive.Files {
			if isManifest(file.Name) {
				f.Add(file.Data)
			}
		}
	}
	f.Add([]byte(aliasBomb()))
	if data, err := os.ReadFile("testdata/page.txtar"); err == nil {
		f.Add(data)
	}
	p := &parser{families: []cluster.Family{cluster.IPv4, cluster.IPv6}}
	f.Fuzz(func(t *testing.T, data []byte) {
		lines := bytes.Count(data, []byte("\n")) + 1
		c := p.parse("file", data)
		for _, o := range c.objects {
			if o.kind == "" || o.name == "" || o.line < 1 || o.line > lines {
				t.Errorf("%v in line %d of %d", o.objectKey, o.line, lines)
			}
			if s, ok := o.value.(*service); ok {
				for _, ip := range s.model.ClusterIPs {
					if !slices.Contains(s.families, cluster.FamilyOf(ip)) {
						t.Errorf("%s demands %s and has the families %v", o, ip, s.families)
					}
				}
			}
		}
		for _, problem := range c.problems {
			if problem.Line < 1 || problem.Line > lines || problem.Err == nil {
				t.Errorf("problem in line %d of %d: %v", problem.Line, lines, problem)
			}
		}
		again := p.parse("file", data)
		if !slices.EqualFunc(c.problems, again.problems, sameProblem) || len(c.objects) != len(again.objects) {
			t.Error("the second time it is different")
		}
	})
}
