package feed

// Place says where the objects come from: "the folder /etc/clusterip/manifests".
func (s *Subscription) Place() string { return s.feed.origin.String() }
