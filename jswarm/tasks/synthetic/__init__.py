"""Tasks made here: questions over words and short stories."""
