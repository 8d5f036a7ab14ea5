package text

import (
	"strings"
	"unicode/utf8"
)

// table is rows of cells, which are in columns.
type table struct{ rows [][]string }

func (t *table) add(cells ...string) {
	for i := range cells {
		cells[i] = printable(cells[i])
	}
	t.rows = append(t.rows, cells)
}

// withoutEmpty leaves columns out that have a heading alone.
func (t table) withoutEmpty() table {
	var out table
	keep := make(map[int]bool)
	for _, row := range t.rows[1:] {
		for i, cell := range row {
			keep[i] = keep[i] || cell != ""
		}
	}
	for _, row := range t.rows {
		var kept []string
		for i, cell := range row {
			if keep[i] {
				kept = append(kept, cell)
			}
		}
		out.rows = append(out.rows, kept)
	}
	return out
}

// table writes a table behind an indent. Its lines are not broken.
func (p *page) table(indent int, t table) {
	width := make(map[int]int)
	for _, row := range t.rows {
		for i, cell := range row {
			width[i] = max(width[i], utf8.RuneCountInString(cell))
		}
	}
	for _, row := range t.rows {
		var line strings.Builder
		for i, cell := range row {
			line.WriteString(cell + strings.Repeat(" ", width[i]-utf8.RuneCountInString(cell)+2))
		}
		p.out.WriteString(strings.Repeat(" ", indent) + strings.TrimRight(line.String(), " ") + "\n")
	}
}
