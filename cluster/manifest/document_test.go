package manifest

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"unicode/utf16"

	"github.com/clusterip/clusterip/cluster"
	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"
	"golang.org/x/text/encoding/unicode"
	"golang.org/x/text/transform"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/yaml"
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
		{"no newline at the end", "a: 1\n---\nb: 2", []doc{{"a: 1\n", 1, 1}, {"b: 2\n", 3, 3}}},
		{"leading marker and comment", "---\n# a\n\na: 1\n", []doc{{"# a\n\na: 1\n", 2, 4}}},
		{"content on the marker", "--- {a: 1}\n--- # b\nb: 2\n", []doc{{"--- {a: 1}\n", 1, 1}, {"b: 2\n", 3, 3}}},
		{"end marker", "a: 1\n...\n# c\nb: 2\n", []doc{{"a: 1\n", 1, 1}, {"# c\nb: 2\n", 3, 4}}},
		{"no marker", "a: |\n  ---\n----\n...b\n", []doc{{"a: |\n  ---\n----\n...b\n", 1, 1}}},
		{"carriage returns", "a: 1\r\n---\r\nb: 2\r\n", []doc{{"a: 1\n", 1, 1}, {"b: 2\n", 3, 3}}},
		{"byte order mark", "\ufeff# c\na: 1\n", []doc{{"# c\na: 1\n", 1, 2}}},
		{"byte order marks of files put together", "\ufeff---\na: 1\n\ufeff---\nb: 2\n---\n\ufeffc: 3\n--- \ufeff# d\nd: \ufeff4\n", []doc{
			{"a: 1\n", 2, 2}, {"b: 2\n", 4, 4}, {"c: 3\n", 6, 6}, {"d: \ufeff4\n", 8, 8},
		}},
		{"kubectl's marker with a comment", "a: 1\n---# c\nb: 2\n", []doc{{"a: 1\n", 1, 1}, {"b: 2\n", 3, 3}}},
		{"directives", "%YAML 1.2\n# c\n---\na: 1\n", []doc{{"a: 1\n", 4, 4}}},
		{"a comment that ends early", "# c\ra: 1\n", []doc{{"# c\ra: 1\n", 1, 1}}},
		{"JSON stream", "# c\n{\"a\": 1}\n\n{\"b\":\n2}{}\n", []doc{{`{"a": 1}`, 2, 2}, {"{\"b\":\n2}", 4, 4}, {"{}", 5, 5}}},
		{"JSON on a marker", "--- {\"a\": 1} {\"b\": 2}\n---\n\n{}", []doc{{`{"a": 1}`, 1, 1}, {`{"b": 2}`, 1, 1}, {"{}", 4, 4}}},
		{"JSON and YAML", "{\"a\":\n1}\n\n  b: 2\n  c: 3\n", []doc{{"{\"a\":\n1}", 1, 1}, {"\n  b: 2\n  c: 3\n", 3, 4}}},
		{"JSON and YAML in a line", "{} b: 2\nc: 3\n", []doc{{"{}", 1, 1}, {" b: 2\nc: 3\n", 1, 1}}},
		{"JSON and a comment", "{} # c\n", []doc{{"{}", 1, 1}}},
		{"a mapping, no JSON", "{\"a\": 1, # c\n}\n", []doc{{"{\"a\": 1, # c\n}\n", 1, 1}}},
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
	const flow, after = "{apiVersion: v1, kind: Namespace, metadata: {name: a}}\n", "something follows the end of the object"
	p := &parser{families: []cluster.Family{cluster.IPv4}}
	for name, test := range map[string]struct{ text, want string }{
		"UTF-32":           {"\xff\xfe\x00\x00a\x00\x00\x00", "the YAML cannot be read: control characters"},
		"carriage returns": {strings.ReplaceAll(text, "\n", "\r"), "end lines with a line feed"},
		"next line":        {strings.ReplaceAll(text, "\n", "\u0085"), "end lines with a line feed"},
		"line separator":   {strings.ReplaceAll(text, "\n", "\u2028"), "end lines with a line feed"},
		"one of them":      {strings.Replace(text, "\n---\n", "\r---\r", 1), "end lines with a line feed"},
		"after a flow":     {flow + flow, after},
		"indented":         {" " + flow + " " + flow, after},
		"on a marker":      {"---  " + flow + flow, after},
		"after a comment":  {"--- # c\n " + flow + flow, after},
		"after a tag":      {"--- !!map " + flow + flow, after},
		"after an anchor":  {"--- &x " + flow + flow, after},
		"quoted keys":      {strings.ReplaceAll(flow, "{apiVersion", "{\"apiVersion\"") + flow, after},
		"indented less":    {"  apiVersion: v1\n  kind: Namespace\n  metadata: {name: a}\napiVersion: v1\nkind: Namespace\nmetadata: {name: b}\n", "cannot be read"},
	} {
		t.Run(name, func(t *testing.T) {
			c := p.parse("a.yaml", []byte(test.text))
			if len(c.objects) > 0 || len(c.unread) == 0 || !strings.Contains(fmt.Sprint(c.problems), test.want) {
				t.Errorf("%d objects, problems %v, want %q", len(c.objects), c.problems, test.want)
			}
		})
	}
	for name, text := range map[string]string{
		"UTF-16 little-endian": string(little),
		"UTF-16 big-endian":    string(big),
		"CR LF":                strings.ReplaceAll(text, "\n", "\r\n"),
		"Latin-1":              text + "# \xe9",
	} {
		if c := p.parse("a.yaml", []byte(text)); len(c.objects) != 2 || len(c.problems) > 0 {
			t.Errorf("%s: %d objects, problems %v", name, len(c.objects), c.problems)
		}
	}
}

func addManifests(f *testing.F) {
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
}

// Whatever a file holds, the parser returns, with objects that have names and
// problems that have places; and it returns the same again.
func FuzzParse(f *testing.F) {
	addManifests(f)
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

// kubectlReads returns the objects of a file as kubectl reads it, and false if it refuses
// some of it.
func kubectlReads(file []byte) (objects []json.RawMessage, whole bool) {
	decoder := yaml.NewYAMLOrJSONDecoder(transform.NewReader(bytes.NewReader(file), unicode.BOMOverride(unicode.UTF8.NewDecoder())), 4096)
	for {
		var raw runtime.RawExtension
		if err := decoder.Decode(&raw); err != nil {
			return objects, err == io.EOF
		}
		if text := bytes.TrimSpace(raw.Raw); len(text) > 0 && string(text) != "null" {
			objects = append(objects, text)
		}
	}
}

// What kubectl reads of a file is read, in its order, and what is more are documents that
// kubectl loses; or there is an error.
func FuzzBesideKubectl(f *testing.F) {
	addManifests(f)
	for _, text := range []string{
		"a: 1\n--- # c\n{\"b\": 2}\n{\"c\": 3}\n", "{\"a\": 1}\n{\"b\": 2}\nc: 3\n", "{\"a\": 1} {b: 2}\n---\n{}", "\ufeff{}\n---#\na: *x",
		"a: &x {b: 1}\nc: {<<: *x, b: 2, b: 3}\n...\nd: 1", "\xff\xfea\x00:\x00 \x001\x00", "%YAML 1.1\n---\n\t# c\na:\t1\r\nb: |\r\n c\r\n", "{\"a\": 1,}\n---\n{\"a\": 1, \"a\": 2}",
		"# c\r\r i", "a: >1\n >1", "a-\r\n-\n\r\r\n-\n", "a: 1\n--- #\x00\nb: 2",
	} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		theirs, whole := kubectlReads(data)
		text, err := decodeText(data)
		if err != nil {
			t.Fatal(err)
		}
		if bytes.Contains(text, []byte("---#")) {
			return // kubectl takes it for a marker, or for text, by what is before it
		}
		var ours []any
		refused := false
		for _, doc := range splitDocuments(text) {
			body, err := doc.toJSON()
			refused = refused || err != nil
			if err == nil && string(body) != "null" {
				ours = append(ours, decoded(t, body))
			}
		}
		if refused && (!whole || !takesAll(text)) {
			return
		}
		for i, body := range theirs {
			want := decoded(t, body)
			at := slices.IndexFunc(ours, func(value any) bool { return cmp.Equal(want, value) })
			if at < 0 {
				t.Fatalf("%q: kubectl's object %d, %s, is not in %v (refused: %t)", data, i, body, ours, refused)
			}
			ours = ours[at+1:]
		}
	})
}

// takesAll reports whether all that is refused of a text is what kubectl loses without a
// word, or may not write out.
func takesAll(text []byte) bool {
	for _, doc := range splitDocuments(text) {
		if !doc.isJSON && checkStructure(doc.data) != nil {
			return false
		}
	}
	return true
}

func decoded(t *testing.T, body []byte) (value any) {
	t.Helper()
	if err := json.Unmarshal(body, &value); err != nil {
		t.Fatal(err)
	}
	return value
}
