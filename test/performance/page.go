package performance

import (
	"fmt"
	"strings"
)

// Fill replaces what stands in a page between "<!-- begin NAME -->" and "<!-- end NAME -->"
// by the part of that name. It fails if a part has no place.
func Fill(page string, parts map[string]string) (string, error) {
	for name, part := range parts {
		begin, end := "<!-- begin "+name+" -->\n", "<!-- end "+name+" -->"
		before, rest, ok := strings.Cut(page, begin)
		_, after, ended := strings.Cut(rest, end)
		if !ok || !ended {
			return "", fmt.Errorf("the page has no place for %s: between %q and %q", name, begin, end)
		}
		page = before + begin + "\n" + part + "\n" + end + after
	}
	return page, nil
}
