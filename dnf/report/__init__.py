"""Results of an experiment as text, tables and a page, and experiments side by side."""
