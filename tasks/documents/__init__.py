"""Word documents taken apart: tables, figures and running text, as values; nothing here knows a dataset or a disk."""
