"""Reports: rows averaged over seeds, tables, figures, and the paper's own numbers."""
