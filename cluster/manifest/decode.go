package manifest

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// wrongType matches what the JSON decoder says of a value of the wrong type. Its
// error type is internal, so the field can only be had from the text.
var wrongType = regexp.MustCompile(`^json: cannot unmarshal (\S+)(?: (.*))? into Go (?:struct field \w*\.(\S+)|value) of type (\S+)$`)

// decodeError says it in YAML's words, with the place in what was to be decoded.
func (d *documentParser) decodeError(err error, body []byte) error {
	if err == nil {
		return nil
	}
	found := wrongType.FindStringSubmatch(err.Error())
	if found == nil {
		return err
	}
	given, number, name, needed := found[1], found[2], found[3], plainType(found[4])
	switch {
	case given == "number" && needed == aNumber:
		if name == "" {
			name = "it"
		}
		if value, err := strconv.ParseFloat(number, 64); err == nil && value != math.Trunc(value) {
			return fmt.Errorf("%s %s is no whole number", name, number)
		}
		return fmt.Errorf("%s %s is out of range", name, number)
	case name == "":
		return fmt.Errorf("it is of type %s", given)
	}
	var errs []error
	// A mapping of strings may have several that YAML takes for something else.
	wrong := []string{given}
	if quoting("", given, needed) != "" {
		wrong = []string{"bool", "number"}
	}
	for _, f := range fieldsOf(name, wrong, body) {
		at, given := f.at, cmp.Or(f.given, given)
		err := fmt.Errorf("%s is of type %s: %s is needed%s", at, given, needed, quoting(at.String(), given, needed))
		if node, line := find(d.node(), at); node != nil {
			err = &lineError{d.doc.offset + line - 1, err}
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// wrongField is a field that has a value of the wrong type.
type wrongField struct {
	at    field
	given string
}

// fieldsOf returns the fields that have a value of a wrong type: the decoder leaves
// out the indexes of lists and the keys of mappings that have any.
func fieldsOf(name string, wrong []string, body []byte) []wrongField {
	names := strings.Split(name, ".")
	var object any
	var found []wrongField
	if json.Unmarshal(body, &object) == nil {
		findTypes(object, nil, names, wrong, &found)
	}
	if len(found) == 0 {
		var at field
		for _, name := range names {
			at = at.of(name)
		}
		return []wrongField{{at: at}}
	}
	return found
}

func findTypes(value any, at field, names, wrong []string, found *[]wrongField) {
	given := jsonType(value)
	if len(names) == 0 && slices.Contains(wrong, given) {
		if len(*found) < maxProblems {
			*found = append(*found, wrongField{at, given})
		}
		return
	}
	switch value := value.(type) {
	case []any:
		for i, element := range value {
			findTypes(element, at.of(i), names, wrong, found)
		}
	case map[string]any:
		if len(names) > 0 {
			if element, is := value[names[0]]; is {
				findTypes(element, at.of(names[0]), names[1:], wrong, found)
			}
			return
		}
		for _, key := range slices.Sorted(maps.Keys(value)) {
			findTypes(value[key], at.of(key), nil, wrong, found)
		}
	}
}

// jsonType names the type of a decoded value as the decoder's errors do.
func jsonType(value any) string {
	switch value.(type) {
	case bool:
		return "bool"
	case float64:
		return "number"
	case string:
		return "string"
	case []any:
		return "array"
	case map[string]any:
		return "object"
	}
	return "null"
}

var conditionStatus = regexp.MustCompile(`^status\.conditions\[\d+\]\.status$`)

// quoting says how YAML makes a string of what it takes for something else.
func quoting(field, given, needed string) string {
	switch {
	case needed != aString || given != "bool" && given != "number":
		return ""
	case given == "bool" && conditionStatus.MatchString(field):
		return `: put it in quotes, "True" or "False"`
	}
	return ": put it in quotes"
}

const (
	aNumber = "a number"
	aString = "a string"
)

// plainType says in YAML's words what a Go type is, where it has one.
func plainType(goType string) string {
	goType = strings.TrimPrefix(goType, "*")
	switch {
	case strings.HasPrefix(goType, "[]"):
		return "a list"
	case strings.HasPrefix(goType, "map["):
		return "a mapping (key: value)"
	case strings.HasPrefix(goType, "int"), strings.HasPrefix(goType, "uint"):
		return aNumber
	case goType == "bool":
		return "true or false"
	case goType == "string", goType == "v1.ConditionStatus":
		return aString
	}
	return goType
}
