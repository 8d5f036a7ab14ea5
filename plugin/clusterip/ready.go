package clusterip

// Ready implements ready.Readiness: true once the first sync is done, and until
// what is known has been out of date for as long as stale_after says.
func (h *Handler) Ready() bool { return h.ready() }
