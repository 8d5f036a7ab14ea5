package manifest

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strconv"
	"strings"

	yamlv3 "go.yaml.in/yaml/v3"
	"golang.org/x/text/encoding/unicode"
	"golang.org/x/text/transform"
	kjson "sigs.k8s.io/json"
	"sigs.k8s.io/yaml"
)

// maxExpanded bounds what a small document may become with its aliases written
// out. A large one may double.
const maxExpanded = 1 << 20

// document is one YAML document of a file, or one value of a stream of JSON.
type document struct {
	data   []byte
	offset int // line number of the first line of data
	line   int // line number of the first line that says something
	isJSON bool
	// repeats means that a mapping has a key twice; see lines.repeatedKeys.
	repeats bool
	lines   lines
}

// decodeText returns the text of a file as kubectl reads it: UTF-16 with a byte order
// mark becomes UTF-8, and what is no UTF-8 becomes the replacement character.
func decodeText(data []byte) ([]byte, error) {
	text, _, err := transform.Bytes(unicode.BOMOverride(unicode.UTF8.NewDecoder()), data)
	return text, err
}

// byteOrderMark matches a mark at the start of a document that was a file before files
// were put together; with the "---" before it. Nothing takes that of a file's own start.
var byteOrderMark = regexp.MustCompile(`(?m)^(---[ \t]*)?\x{FEFF}`)

// splitDocuments cuts a file as kubectl does: at "---" lines and, in a document that
// begins with JSON, after each value. It also cuts at "...", and takes content that
// follows "---" on the same line: YAML has it so, and kubectl does not read it.
// Documents that hold nothing but comments and directives are left out.
func splitDocuments(data []byte) []*document {
	data = bytes.ReplaceAll(data, []byte("\r\n"), []byte("\n"))
	if len(data) > 0 && !bytes.HasSuffix(data, []byte("\n")) {
		data = append(data, '\n') // the end of a block scalar
	}
	if bytes.Contains(data, []byte("\ufeff")) {
		data = byteOrderMark.ReplaceAll(data, []byte("$1"))
	}
	var documents []*document
	start, offset, number := 0, 1, 0
	finish := func(end, next, nextOffset int) {
		d := &document{data: data[start:end], offset: offset}
		if at, found := d.findContent(); found {
			documents = append(documents, d.splitJSON(at)...)
		}
		start, offset = next, nextOffset
	}
	for at := 0; at < len(data); {
		number++
		length := bytes.IndexByte(data[at:], '\n') + 1
		if length == 0 {
			length = len(data) - at
		}
		line, next := data[at:at+length], at+length
		switch rest := bytes.TrimSpace(bytes.TrimPrefix(line, []byte("---"))); {
		case isMarker(line, "..."):
			finish(at, next, number+1)
		// YAML has a space before a comment, and kubectl needs none.
		case bytes.HasPrefix(line, []byte("---")) && (len(rest) == 0 || rest[0] == '#'):
			finish(at, next, number+1)
		case isMarker(line, "---"):
			finish(at, at, number)
		}
		at = next
	}
	finish(len(data), len(data), number)
	return documents
}

func isMarker(line []byte, marker string) bool {
	rest, ok := bytes.CutPrefix(line, []byte(marker))
	return ok && (len(rest) == 0 || strings.IndexByte(" \t\r\n", rest[0]) >= 0)
}

// findContent finds where a document begins to say something, behind the "---" that it
// may begin with, comments and directives, as "%YAML 1.2".
func (d *document) findContent() (at int, found bool) {
	for line := d.offset; at < len(d.data); line++ {
		text := d.data[at:]
		if end := bytes.IndexByte(text, '\n'); end >= 0 {
			text = text[:end+1]
		}
		rest := text
		if at == 0 && isMarker(text, "---") {
			rest = text[3:]
		}
		if rest = bytes.TrimLeft(rest, " \t\r\n"); len(rest) > 0 && rest[0] != '#' && rest[0] != '%' {
			d.line = line
			return at + len(text) - len(rest), true
		}
		at += len(text)
	}
	d.line = d.offset
	return 0, hasOtherBreaks(d.data) // where a comment may end
}

// splitJSON cuts a document whose content, at the position given, begins with JSON into
// its values. What follows the last of them is YAML, as is what begins with "{" and is
// no JSON.
func (d *document) splitJSON(at int) []*document {
	if d.data[at] != '{' {
		return []*document{d}
	}
	var documents []*document
	decoder := json.NewDecoder(bytes.NewReader(d.data[at:]))
	end, line := at, d.line
	for {
		var value json.RawMessage
		err := decoder.Decode(&value)
		switch {
		case err == nil:
		case err == io.EOF:
			return documents
		case len(documents) == 0:
			return []*document{d}
		default:
			rest := &document{data: d.data[end:], offset: line}
			// Space in the next line may be the indentation of what is there.
			if blank := bytes.TrimLeft(rest.data, " \t\r"); len(blank) > 0 && blank[0] == '\n' {
				rest = &document{data: blank[1:], offset: line + 1}
			}
			if _, found := rest.findContent(); found {
				documents = append(documents, rest)
			}
			return documents
		}
		next := at + int(decoder.InputOffset())
		line += bytes.Count(d.data[end:next-len(value)], []byte("\n"))
		documents = append(documents, &document{data: value, offset: line, line: line, isJSON: true})
		line += bytes.Count(value, []byte("\n"))
		end = next
	}
}

// toJSON converts a document. Of a key that is there twice the last value counts, as
// kubectl takes it; repeats says so. The error carries the line where it is known.
func (d *document) toJSON() ([]byte, error) {
	if d.isJSON {
		return d.withoutRepeats()
	}
	if err := checkStructure(d.data); err != nil {
		return nil, d.placed(err)
	}
	// Most documents are sound, and are read once.
	out, err := yaml.YAMLToJSONStrict(d.data)
	if err == nil {
		return out, nil
	}
	d.repeats = true
	if out, err = yaml.YAMLToJSON(d.data); err != nil {
		return nil, d.placed(err)
	}
	return out, nil
}

// withoutRepeats leaves one value of each key in JSON: decoding into Go's types would
// mix several.
func (d *document) withoutRepeats() ([]byte, error) {
	var value any
	twice, err := kjson.UnmarshalStrict(d.data, &value, kjson.DisallowDuplicateFields)
	if err != nil {
		return nil, &lineError{d.line, fmt.Errorf("the JSON cannot be read: %w", err)}
	}
	if len(twice) == 0 {
		return d.data, nil
	}
	d.repeats = true
	return json.Marshal(value)
}

// isTemplate reports whether a text that is no YAML has what makes it one: Helm's and
// other templates are rendered first.
func (d *document) isTemplate() bool {
	_, rest, opens := bytes.Cut(d.data, []byte("{{"))
	return opens && bytes.Contains(rest, []byte("}}"))
}

// yamlLine finds the line in what the YAML parser says: it has no other way of
// telling, and counts from the start of the document.
var yamlLine = regexp.MustCompile(`\bline (\d+): `)

func (d *document) placed(err error) error {
	text := err.Error()
	placed := &lineError{line: d.line}
	if found := yamlLine.FindStringSubmatch(text); found != nil {
		if n, err := strconv.Atoi(found[1]); err == nil {
			// It may count past the end of a text that is cut off.
			placed.line = min(d.offset+n-1, d.offset+bytes.Count(d.data, []byte("\n")))
		}
		text = strings.Replace(text, found[0], "", 1)
	}
	text = strings.TrimPrefix(text, "error converting YAML to JSON: ")
	text = strings.TrimPrefix(text, "yaml: ")
	text = strings.TrimSpace(strings.TrimPrefix(text, "unmarshal errors:"))
	text, _, _ = strings.Cut(text, "\n") // one of these errors will do
	if d.tabAt(placed.line) {
		text += ": indent with spaces, which YAML has in the place of tabs"
	}
	placed.err = fmt.Errorf("the YAML cannot be read: %s", text)
	return placed
}

// tabAt reports whether a line of the file is indented with a tab, of which the parser says
// only that there is a character.
func (d *document) tabAt(line int) bool {
	number := d.offset
	for text := range bytes.Lines(d.data) {
		if number == line {
			return bytes.HasPrefix(bytes.TrimLeft(text, " "), []byte("\t"))
		}
		number++
	}
	return false
}

// lineError is an error at a line of a file.
type lineError struct {
	line int
	err  error
}

func (e *lineError) Error() string { return e.err.Error() }
func (e *lineError) Unwrap() error { return e.err }

// checkStructure refuses what the decoder lets pass. It bounds the number of
// values that aliases make, but not their size; and it ignores what follows the
// end of a document: a second object after a flow mapping or after one that was
// indented more, or what is behind a "---" between line breaks that splitDocuments
// does not know.
func checkStructure(data []byte) error {
	aliases := bytes.IndexByte(data, '&') >= 0 && bytes.IndexByte(data, '*') >= 0
	if !aliases && isOneBlock(data) && !hasOtherBreaks(data) {
		return nil
	}
	decoder := yamlv3.NewDecoder(bytes.NewReader(data))
	var root, next yamlv3.Node
	if err := decoder.Decode(&root); err != nil {
		return err
	}
	if err := decoder.Decode(&next); !errors.Is(err, io.EOF) {
		return errors.New("something follows the end of the object: put --- on a line of its own between objects, and end lines with a line feed")
	}
	size, err := expandedSize(&root, map[*yamlv3.Node]int{})
	if err == nil && size > max(maxExpanded, 2*len(data)) {
		err = fmt.Errorf("with its aliases written out the document would be larger than %d MiB: use fewer", maxExpanded>>20)
	}
	return err
}

// isOneBlock reports whether a document begins with a plain key at the start of a line, as
// nearly all do: what follows is of the same mapping then, or a fault that the decoder finds.
func isOneBlock(data []byte) bool {
	for line := range bytes.Lines(data) {
		text := bytes.TrimSpace(line)
		if marker, is := bytes.CutPrefix(text, []byte("---")); is {
			text = bytes.TrimSpace(marker)
			if len(text) > 0 && text[0] != '#' {
				return false
			}
		}
		if len(text) == 0 || text[0] == '#' {
			continue
		}
		return 'a' <= line[0]|0x20 && line[0]|0x20 <= 'z'
	}
	return true
}

// hasOtherBreaks finds the line breaks of YAML besides the line feed.
func hasOtherBreaks(data []byte) bool {
	for _, text := range []string{"\u0085", "\u2028", "\u2029"} {
		if bytes.Contains(data, []byte(text)) {
			return true
		}
	}
	return bytes.Count(data, []byte("\r")) > bytes.Count(data, []byte("\r\n"))
}

// expandedSize estimates the length of a node with all aliases written out.
// sizes remembers what is known; 0 marks a node that is being looked at.
func expandedSize(node *yamlv3.Node, sizes map[*yamlv3.Node]int) (int, error) {
	if node.Kind == yamlv3.AliasNode {
		node = node.Alias
	}
	if size, known := sizes[node]; known {
		if size == 0 {
			return 0, errors.New("an anchor contains an alias of itself")
		}
		return size, nil
	}
	sizes[node] = 0
	total := len(node.Value) + 1
	for _, child := range node.Content {
		size, err := expandedSize(child, sizes)
		if err != nil {
			return 0, err
		}
		// Past the bound the sum only has to stay there without overflow.
		total = min(total+size, 4*maxFileSize)
	}
	sizes[node] = total
	return total, nil
}
