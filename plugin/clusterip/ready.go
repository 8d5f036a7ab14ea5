package clusterip

// Ready implements ready.Readiness: true once the first sync is done.
func (h *Handler) Ready() bool { return h.store.HasSynced() }
