package chunked

// Limit makes a writer take n chunks instead of MaxChunks.
func (w *Writer) Limit(n int) { w.most = n }
