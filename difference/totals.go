package difference

// Totals count what is different.
type Totals struct {
	Services, Names, Frontends Count
}

// Count is how many came, went, changed and stop. What stops is in one of the others too.
type Count struct{ Added, Removed, Changed, Stops int }

func (c *Count) add(m Mark, stops bool) {
	switch m {
	case Added:
		c.Added++
	case Removed:
		c.Removed++
	case Changed:
		c.Changed++
	}
	if stops {
		c.Stops++
	}
}

// Add counts one Service and what is different of it. A Service stops if a name or frontend
// of it does.
func (t *Totals) Add(s *Service) {
	before := t.Stops()
	for i := range s.Names {
		t.Names.add(s.Names[i].Mark, s.Names[i].Stops)
	}
	for i := range s.Frontends {
		t.Frontends.add(s.Frontends[i].Mark, s.Frontends[i].Stops)
	}
	t.Services.add(s.Mark, t.Stops() > before)
}

// Stops is how many names and frontends work before and not after.
func (t *Totals) Stops() int { return t.Names.Stops + t.Frontends.Stops }
