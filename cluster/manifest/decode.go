package manifest

import (
	"encoding/json"
	"fmt"
	"math"
	"regexp"
	"strconv"
	"strings"
)

// wrongType matches what the JSON decoder says of a value of the wrong type. Its
// error type is internal, so the field can only be had from the text.
var wrongType = regexp.MustCompile(`^json: cannot unmarshal (\S+)(?: (.*))? into Go (?:struct field \w*\.(\S+)|value) of type (\S+)$`)

// decodeError says it in YAML's words, with the place in what was to be decoded.
func decodeError(err error, body []byte) error {
	if err == nil {
		return nil
	}
	found := wrongType.FindStringSubmatch(err.Error())
	if found == nil {
		return err
	}
	given, number, field, needed := found[1], found[2], found[3], plainType(found[4])
	if field == "" {
		field = "it"
	}
	switch {
	case given == "number" && needed == aNumber:
		if value, err := strconv.ParseFloat(number, 64); err == nil && value != math.Trunc(value) {
			return fmt.Errorf("%s %s is no whole number", field, number)
		}
		return fmt.Errorf("%s %s is out of range", field, number)
	case found[3] == "":
		return fmt.Errorf("it is of type %s", given)
	}
	field = placeOf(field, given, body)
	return fmt.Errorf("%s is of type %s: %s is needed%s", field, given, needed, quoting(field, given, needed))
}

// placeOf adds the indexes of lists to the name of the field that has a value of
// the wrong type, which is the first of that type there.
func placeOf(field, given string, body []byte) string {
	var object any
	if json.Unmarshal(body, &object) == nil {
		if place, found := findType(object, strings.Split(field, "."), given); found {
			return strings.TrimPrefix(place, ".")
		}
	}
	return field
}

func findType(value any, fields []string, given string) (place string, found bool) {
	switch value := value.(type) {
	case []any:
		for i, element := range value {
			if rest, found := findType(element, fields, given); found {
				return fmt.Sprintf("[%d]%s", i, rest), true
			}
		}
	case map[string]any:
		if len(fields) > 0 {
			rest, found := findType(value[fields[0]], fields[1:], given)
			return "." + fields[0] + rest, found
		}
	}
	return "", len(fields) == 0 && jsonType(value) == given
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
