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
	kjson "sigs.k8s.io/json"
	"sigs.k8s.io/yaml"
)

// maxExpanded bounds what a small document may become with its aliases written
// out. A large one may double.
const maxExpanded = 1 << 20

// document is one YAML document of a file.
type document struct {
	data   []byte
	offset int // line number of the first line of data
	line   int // line number of the first line that says something
}

// byteOrderMark matches a mark at the start of a file or, where files have been put
// together, of a document; with the "---" before it.
var byteOrderMark = regexp.MustCompile(`(?m)^(---[ \t]*)?\x{FEFF}`)

// splitDocuments cuts a file at its "---" and "..." lines. The "---" stays with
// the document it begins, since content may follow on the same line. Documents
// that hold nothing but comments are left out.
func splitDocuments(data []byte) []document {
	if bytes.Contains(data, []byte("\ufeff")) {
		data = byteOrderMark.ReplaceAll(data, []byte("$1"))
	}
	var documents []document
	current := document{offset: 1}
	start, number := 0, 0
	finish := func(end, next int) {
		if current.data = data[start:end]; current.line > 0 {
			documents = append(documents, current)
		}
		start, current = next, document{}
	}
	for at := 0; at < len(data); {
		number++
		length := bytes.IndexByte(data[at:], '\n') + 1
		if length == 0 {
			length = len(data) - at
		}
		line, next := data[at:at+length], at+length
		switch {
		case isMarker(line, "..."):
			finish(at, next)
			current.offset = number + 1
		case isMarker(line, "---"):
			finish(at, at)
			current.offset = number
			line = line[3:]
		}
		if current.line == 0 && saysSomething(line) {
			current.line = number
		}
		at = next
	}
	finish(len(data), len(data))
	return documents
}

func isMarker(line []byte, marker string) bool {
	rest, ok := bytes.CutPrefix(line, []byte(marker))
	return ok && (len(rest) == 0 || strings.IndexByte(" \t\r\n", rest[0]) >= 0)
}

func saysSomething(line []byte) bool {
	line = bytes.TrimSpace(line)
	return len(line) > 0 && line[0] != '#' && !isMarker(line, "...")
}

// toJSON converts a document. The error carries the line where it is known.
func (d document) toJSON() ([]byte, error) {
	if json.Valid(d.data) {
		return d.data, d.checkKeys()
	}
	err := checkStructure(d.data)
	if err == nil {
		var out []byte
		if out, err = yaml.YAMLToJSONStrict(d.data); err == nil {
			return out, nil
		}
	}
	return nil, d.placed(err)
}

// checkKeys refuses in JSON what the YAML decoder refuses in YAML: a key that is
// there twice, of which the decoder would take the last.
func (d document) checkKeys() error {
	var any any
	twice, err := kjson.UnmarshalStrict(d.data, &any, kjson.DisallowDuplicateFields)
	if err == nil && len(twice) > 0 {
		err = fmt.Errorf("%w: keep one of the two", twice[0])
	}
	if err != nil {
		return &lineError{d.line, fmt.Errorf("the JSON cannot be read: %w", err)}
	}
	return nil
}

// yamlLine finds the line in what the YAML parser says: it has no other way of
// telling, and counts from the start of the document.
var yamlLine = regexp.MustCompile(`\bline (\d+): `)

func (d document) placed(err error) error {
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
	placed.err = fmt.Errorf("the YAML cannot be read: %s", text)
	return placed
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
// end of a document: a second JSON object after a flow mapping, or what is behind a
// "---" between line breaks that splitDocuments does not know.
func checkStructure(data []byte) error {
	aliases := bytes.IndexByte(data, '&') >= 0 && bytes.IndexByte(data, '*') >= 0
	flow := bytes.HasPrefix(bytes.TrimSpace(bytes.TrimPrefix(data, []byte("---"))), []byte("{"))
	if !aliases && !flow && !hasOtherBreaks(data) {
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

// hasOtherBreaks finds the line breaks of YAML besides the line feed.
func hasOtherBreaks(data []byte) bool {
	for _, text := range []string{"\u0085", "\u2028", "\u2029"} {
		if bytes.Contains(data, []byte(text)) {
			return true
		}
	}
	return bytes.Count(data, []byte("\r")) > bytes.Count(data, []byte("\r\n"))
}

// isUTF16 reports whether a file begins with UTF-16's byte order mark, or with that
// of little-endian UTF-32.
func isUTF16(data []byte) bool {
	return bytes.HasPrefix(data, []byte("\xff\xfe")) || bytes.HasPrefix(data, []byte("\xfe\xff"))
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
		total = min(total+size, 2*maxFileSize)
	}
	sizes[node] = total
	return total, nil
}
